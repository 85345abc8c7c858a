//! The plan in force, shown in the words of the configuration.

use std::time::Instant;

use serde_json::Value;

use super::super::{
    snapshot::Snapshot,
    tests::{Memory, example, state_of},
};
use crate::config::{self, ShownPlan};

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

#[test]
fn a_setting_is_shown_as_it_was_written() {
    let text = "
threads: 3
log: {format: text, level: warn, access: 'off', accessRate: 7}
drain: 90s
listeners:
- bind: ['0.0.0.0:80']
  allowNonLoopback: true
  explain: true
  limits: {headerBytes: 9000, headerFields: 7, headerTimeout: 1500ms, idleTimeout: 2h, connections: 7}
upstreams:
- name: a
  hosts: [b.example]
  port: 7
  endpoints: ['a.example:443']
  tls:
    serverName: none
    verifyName: v.example
    trust: /trust.crt
    identity: {certificate: /client.crt, key: /client.key}
    minVersion: '1.3'
    resumption: false
    keyExchange: hybrid
  pool: {reuse: safe, maxConnections: 7, maxIdle: 7, minIdle: 7, purgeDelay: 7s, idleTimeout: '0', maxAge: 7m,
    maxRequests: 7, maxQueue: 7, queueTimeout: 7s, priority: x-y, rotationDeadline: 7s}
  timeouts: {connect: 7s, handshake: 7s, response: 7s, idle: 7s}
  retries: {max: 7, budget: 7%, idempotencyKey: true}
  headerCase: title
metrics: {bind: ['127.0.0.1:1']}
admin: {bind: ['127.0.0.1:2']}
readiness: {requireUpstreams: [a]}
";
    let plan = Memory::new().compile(text);
    let shown: Value = serde_json::to_value(ShownPlan(&plan)).unwrap();
    assert_eq!(shown, serde_yaml::from_str::<Value>(text).unwrap());
}
