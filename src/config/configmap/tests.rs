//! Tests of a `ConfigMap`'s content, of its name, and of the Event about one that was refused.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1, jiff::Timestamp};

use super::{Reference, Rejected, content, notice};

fn reference() -> Reference {
    Reference { namespace: None, name: "warmline".into(), key: "config.yaml".into() }
}

fn holding(key: &str, text: &str) -> v1::ConfigMap {
    v1::ConfigMap {
        data: Some(BTreeMap::from([(key.into(), text.into())])),
        ..v1::ConfigMap::default()
    }
}

#[test]
fn a_name_is_read_with_or_without_a_namespace_and_shown_with_its_key() {
    for (written, shown) in [
        ("warmline", "configmap/warmline/config.yaml"),
        ("shop/warmline.v2", "configmap/shop/warmline.v2/config.yaml"),
    ] {
        let reference = Reference::parse(written, "config.yaml").expect("it is a name");
        assert_eq!(reference.to_string(), shown);
    }
    for wrong in ["", "/", "a/", "/b", "a/b/c", "Shop", "a b", "-a", "a/b_", &"x".repeat(254)] {
        let refused = Reference::parse(wrong, "config.yaml").expect_err(wrong);
        assert!(
            refused.ends_with("write NAME or NAMESPACE/NAME, of a-z, 0-9, `-` and `.`"),
            "{refused}"
        );
    }
}

#[test]
fn the_text_under_the_key_is_the_content_and_its_absence_is_told_with_what_is_there() {
    let of = |found: Option<&v1::ConfigMap>| {
        content::of(found, &reference()).map(|text| text.to_string())
    };
    assert_eq!(of(Some(&holding("config.yaml", "upstreams: []"))), Ok("upstreams: []".into()));
    assert_eq!(of(Some(&holding("config.yaml", ""))), Ok(String::new()), "emptied is a text too");
    let missing = "there is no ConfigMap warmline; create it, with a key config.yaml";
    assert_eq!(of(None), Err(missing.into()));
    let other = "the ConfigMap warmline has no key config.yaml (it has conf.yaml); add it";
    assert_eq!(of(Some(&holding("conf.yaml", "text"))), Err(other.into()));
    let none = "the ConfigMap warmline has no key config.yaml and no other; add it";
    assert_eq!(of(Some(&v1::ConfigMap::default())), Err(none.into()));
    let binary = v1::ConfigMap {
        binary_data: Some(BTreeMap::from([("config.yaml".into(), ByteString(vec![0xff]))])),
        ..v1::ConfigMap::default()
    };
    let told =
        "the ConfigMap warmline has config.yaml under binaryData; put it under data, as UTF-8";
    assert_eq!(of(Some(&binary)), Err(told.into()));
    let large = "config.yaml in the ConfigMap warmline is larger than 1 MiB; make it smaller";
    assert_eq!(of(Some(&holding("config.yaml", &"#".repeat(1024 * 1024 + 1)))), Err(large.into()));
}

#[test]
fn an_event_has_one_name_for_one_content_and_fits_what_the_api_takes() {
    let about = notice::regarding(&reference(), "shop", Some("uid-1".into()));
    let event = |hash: &str, reason: &str| {
        let rejected = Rejected { hash: hash.into(), reason: reason.into() };
        notice::event(&about, &rejected, "pod-a", Timestamp::UNIX_EPOCH)
    };
    let first = event("0123456789abcdef", "config.yaml:1:1: wrong");
    assert_eq!(first.metadata.name.as_deref(), Some("warmline.0123456789abcdef"));
    assert_eq!(first.metadata.namespace.as_deref(), Some("shop"));
    assert_eq!(first.regarding.as_ref(), Some(&about));
    assert_eq!(first.type_.as_deref(), Some("Warning"));
    assert_eq!(first.note.as_deref(), Some("config.yaml:1:1: wrong"));
    assert_ne!(first.metadata.name, event("fedcba9876543210", "").metadata.name);
    let note = event("00", &"ä".repeat(1000)).note.expect("a note");
    assert_eq!(note.len(), 1024, "whole characters, at most 1 KiB");

    let long = Reference { name: format!("{}.x", "n".repeat(251)), ..reference() };
    let about = notice::regarding(&long, "shop", None);
    let rejected = Rejected { hash: "0123456789abcdef".into(), reason: String::new() };
    let name = notice::event(&about, &rejected, "pod", Timestamp::UNIX_EPOCH).metadata.name;
    let name = name.expect("a name");
    assert!(name.len() <= 253 && name.ends_with("n.0123456789abcdef"), "{name}");
}
