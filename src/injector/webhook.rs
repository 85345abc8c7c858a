//! The webhook configuration: the check that it holds a bundle of CA certificates, and the patch that puts the bundle
//! there.

use json_patch::{AddOperation, Patch, PatchOperation, TestOperation, jsonptr::PointerBuf};
use k8s_openapi::{
    ByteString, api::admissionregistration::v1::MutatingWebhookConfiguration as Configuration,
};
use serde_json::{Value, json};

/// True if the configuration has webhooks and the `caBundle` of each is exactly this bundle.
pub(super) fn holds(configuration: &Configuration, bundle: &str) -> bool {
    let webhooks = configuration.webhooks.as_deref().unwrap_or_default();
    let trusted = |bytes: &ByteString| bytes.0 == bundle.as_bytes();
    !webhooks.is_empty()
        && webhooks
            .iter()
            .all(|webhook| webhook.client_config.ca_bundle.as_ref().is_some_and(trusted))
}

/// Makes the patch that sets the `caBundle` of each webhook, and changes nothing else. The patch tests the webhooks'
/// names first, so that it fails if others changed the list meanwhile.
pub(super) fn patch(configuration: &Configuration, bundle: &str) -> Patch {
    let webhooks = configuration.webhooks.as_deref().unwrap_or_default();
    let operations = webhooks.iter().enumerate().flat_map(|(index, webhook)| {
        let bundle = json!(ByteString(bundle.into()));
        [
            PatchOperation::Test(TestOperation {
                path: PointerBuf::from_tokens(["webhooks", &index.to_string(), "name"]),
                value: Value::String(webhook.name.clone()),
            }),
            PatchOperation::Add(AddOperation {
                path: PointerBuf::from_tokens([
                    "webhooks",
                    &index.to_string(),
                    "clientConfig",
                    "caBundle",
                ]),
                value: bundle,
            }),
        ]
    });
    Patch(operations.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(webhooks: &Value) -> Configuration {
        serde_json::from_value(json!({ "webhooks": webhooks })).unwrap()
    }

    fn webhook(name: &str, bundle: &Value) -> Value {
        json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"service": {"name": "s", "namespace": "n"}, "caBundle": bundle},
        })
    }

    #[test]
    fn every_webhook_must_hold_exactly_the_bundle_and_the_patch_makes_it_so() {
        let ours = json!(ByteString(b"ours".to_vec()));
        let foreign = json!(ByteString(b"ours and more".to_vec()));
        let whole = configuration(&json!([webhook("a", &ours), webhook("b", &ours)]));
        assert!(holds(&whole, "ours"));
        for lacking in [
            json!([webhook("a", &Value::Null), webhook("b", &Value::Null)]),
            json!([webhook("a", &ours), webhook("b", &Value::Null)]),
            json!([webhook("a", &foreign), webhook("b", &ours)]),
            json!([webhook("a", &json!("")), webhook("b", &ours)]),
        ] {
            let lacking = configuration(&lacking);
            assert!(!holds(&lacking, "ours"), "{lacking:?}");
            let mut json = serde_json::to_value(&lacking).unwrap();
            json_patch::patch(&mut json, &patch(&lacking, "ours")).unwrap();
            assert_eq!(serde_json::from_value::<Configuration>(json).unwrap(), whole);
        }
    }

    #[test]
    fn a_configuration_without_webhooks_trusts_nobody() {
        assert!(!holds(&configuration(&json!([])), ""));
        assert!(!holds(&configuration(&Value::Null), ""));
    }

    #[test]
    fn the_patch_fails_where_the_list_is_another_by_now() {
        let seen = configuration(&json!([webhook("a", &Value::Null), webhook("b", &Value::Null)]));
        let mut other =
            json!({"webhooks": [webhook("b", &Value::Null), webhook("a", &Value::Null)]});
        json_patch::patch(&mut other, &patch(&seen, "ours")).unwrap_err();
    }
}
