//! The charts agree with the program: what they hand on verbatim has its schema, and they carry its version.

#![allow(clippy::unwrap_used)] // a failed test is what it is for

use std::{env, fs, path::PathBuf};

use serde_json::{Value, json};

const VALUES: &str = "charts/warmline-egress/values.schema.json";

/// Set, the schema of the values is written instead of compared.
const WRITE: &str = "WARMLINE_WRITE";

#[test]
fn the_values_of_the_egress_chart_have_the_configurations_schema() {
    let path = here(VALUES);
    let written = fs::read_to_string(&path).unwrap();
    let mut values: Value = serde_json::from_str(&written).unwrap();
    values["properties"]["upstreams"] = upstreams();
    values["properties"]["config"] = rest();
    let generated = format!("{values:#}\n");
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &generated).unwrap();
    } else {
        assert!(
            written == generated,
            "{VALUES} is not what src/config/spec.rs says: {WRITE}=1 cargo test --test charts writes it"
        );
    }
}

#[test]
fn the_charts_carry_the_programs_version() {
    let version = env!("CARGO_PKG_VERSION");
    for chart in ["warmline", "warmline-egress"] {
        let text = fs::read_to_string(here(&format!("charts/{chart}/Chart.yaml"))).unwrap();
        for line in [format!("version: {version}"), format!("appVersion: \"{version}\"")] {
            assert!(text.lines().any(|found| found == line), "{chart}/Chart.yaml lacks: {line}");
        }
    }
}

/// `values.upstreams`: the configuration's list. That `port` must be given is said by the chart itself, in words.
fn upstreams() -> Value {
    let mut list = warmline::config::schema()["properties"]["upstreams"].take();
    list["description"] =
        json!("Where applications call: the configuration's list, each with a port.");
    let upstream = &mut list["items"]["properties"];
    // A free port, which 0 stands for, could not be told to the applications.
    upstream["port"]["minimum"] = json!(1);
    upstream["port"]["description"] = json!("A loopback port of its own, where any Host is taken.");
    let tls = &mut upstream["tls"]["properties"];
    confine(&mut tls["trust"]);
    for file in ["bundle", "certificate", "key"] {
        confine(&mut tls["identity"]["properties"][file]);
    }
    list
}

/// `values.config`: the rest of the configuration, without what a confined sidecar refuses.
fn rest() -> Value {
    let mut schema = warmline::config::schema();
    let root = schema.as_object_mut().unwrap();
    root.retain(|key, _| !["$schema", "required", "title"].contains(&key.as_str()));
    root["description"] = json!("All other keys of the configuration.");
    remove(&mut root["properties"], &["admin", "metrics", "upstreams"]);
    remove(&mut root["properties"]["listeners"]["items"]["properties"], &["allowNonLoopback"]);
    schema
}

/// A sidecar reads files from its own mounts only.
fn confine(path: &mut Value) {
    let path = path.as_object_mut().unwrap();
    path.remove("minLength").unwrap();
    path.insert("pattern".into(), json!("^/etc/warmline/"));
    path.insert("not".into(), json!({"pattern": r"(^|/)\.\.(/|$)"}));
}

fn remove(properties: &mut Value, keys: &[&str]) {
    let properties = properties.as_object_mut().unwrap();
    for key in keys {
        properties.remove(*key).unwrap_or_else(|| panic!("the schema has no {key}"));
    }
}

fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
