//! The plan in force, shown in the words of the configuration.

use std::time::Instant;

use serde_json::Value;

use super::super::{
    snapshot::Snapshot,
    tests::{Memory, example, state_of},
};
use crate::config;

/// Asserts that every key of the tree `wanted` is in the tree `shown` too.
fn assert_keys(wanted: &Value, shown: &Value, path: &str) {
    match (wanted, shown) {
        (Value::Object(wanted), Value::Object(shown)) => {
            for (key, below) in wanted {
                let path = format!("{path}.{key}");
                assert_keys(
                    below,
                    shown.get(key).unwrap_or_else(|| panic!("{path} is missing")),
                    &path,
                );
            }
        }
        (Value::Array(wanted), Value::Array(shown)) => {
            wanted.iter().zip(shown).for_each(|(wanted, shown)| assert_keys(wanted, shown, path));
        }
        _ => {}
    }
}

#[test]
fn every_key_of_the_configuration_is_shown_and_no_secret_is() {
    let files = Memory::new();
    let snapshot = Snapshot::take(&state_of(files.compile(config::example()), &[]), Instant::now());
    let secret = files.key.lines().nth(1).unwrap();
    let (json, text) = (super::json(&snapshot), super::text(&snapshot));
    let shown: Value = serde_json::from_str(&json).unwrap();
    let example: Value = serde_yaml::from_str(config::example()).unwrap();
    assert_keys(&example, &shown["plan"], "");
    assert_eq!(
        shown["plan"]["upstreams"][0]["tls"]["identity"]["key"],
        "/etc/warmline/identity/tls.key"
    );
    assert_eq!(shown["plan"]["listeners"][0]["limits"]["idleTimeout"], "5m");
    assert_eq!(shown["hash"], "5a5e35f84ff0525a");
    for page in [json, text] {
        assert!(!page.contains(secret) && !page.contains("PRIVATE"), "{page}");
    }
}

#[test]
fn the_text_is_a_configuration_that_comes_to_the_same_plan() {
    let snapshot = Snapshot::take(&example(), Instant::now());
    let again = Memory::new().compile(&super::text(&snapshot));
    let again = Snapshot::take(&state_of(again, &[]), Instant::now());
    assert_eq!(super::yaml(&again), super::yaml(&snapshot));
}
