//! The charts agree with the program and with their own READMEs, and work as parts of an umbrella chart.
//! `tests/cluster/test_charts.py` renders them with Helm.

#![allow(clippy::unwrap_used)] // a test fails by a panic

use std::{env, fs, path::PathBuf};

use serde_json::{Value, json};

const CHARTS: [&str; 2] = ["warmline", "warmline-egress"];
const VALUES: &str = "charts/warmline-egress/values.schema.json";

/// The variable that, if set, has the schema of the values written instead of compared.
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
    for chart in CHARTS {
        let text = text(chart, "Chart.yaml");
        for line in [format!("version: {version}"), format!("appVersion: \"{version}\"")] {
            assert!(text.lines().any(|found| found == line), "{chart}/Chart.yaml lacks: {line}");
        }
    }
}

#[test]
fn fault_23_each_chart_has_a_readme_with_all_of_its_values() {
    for chart in CHARTS {
        let values = text(chart, "values.yaml");
        let block = format!("<!-- values:begin -->\n```yaml\n{values}```\n<!-- values:end -->");
        assert!(
            text(chart, "README.md").contains(&block),
            "charts/{chart}/README.md has not the values of values.yaml between its marks"
        );
    }
}

/// Helm passes an umbrella chart's `warmline: {enabled: true}` on to this chart, whose schema has to allow the key.
#[test]
fn fault_23_the_charts_take_the_conditions_of_an_umbrella_chart() {
    for chart in CHARTS {
        let schema: Value = serde_json::from_str(&text(chart, "values.schema.json")).unwrap();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["enabled"]["type"], "boolean", "{chart}");
        assert_eq!(schema["properties"]["tags"]["additionalProperties"]["type"], "boolean");
        assert_eq!(schema["properties"]["global"]["type"], "object");
        // A default would take precedence over every tag.
        assert!(text(chart, "values.yaml").lines().all(|line| !line.starts_with("enabled:")));
    }
}

/// All charts below one umbrella chart share the names of their templates.
#[test]
fn fault_23_every_named_template_begins_with_its_charts_name() {
    for chart in CHARTS {
        for file in fs::read_dir(here(&format!("charts/{chart}/templates"))).unwrap() {
            let path = file.unwrap().path();
            let Some(text) = path.is_file().then(|| fs::read_to_string(&path).unwrap()) else {
                continue;
            };
            let names = text.split("define \"").skip(1).map(|rest| rest.split('"').next().unwrap());
            for name in names {
                assert!(name.starts_with(&format!("{chart}.")), "{name} in {}", path.display());
            }
        }
    }
}

/// Returns the schema of `values.upstreams`: the configuration's list. The chart itself says in words that `port` is
/// required.
fn upstreams() -> Value {
    let mut list = warmline::config::schema()["properties"]["upstreams"].take();
    list["description"] =
        json!("The upstreams that applications call: the configuration's list, each with a port.");
    let upstream = &mut list["items"]["properties"];
    // 0, which stands for any free port, could not be made known to the applications.
    upstream["port"]["minimum"] = json!(1);
    upstream["port"]["description"] = json!("A loopback port of its own, where any Host is taken.");
    let tls = &mut upstream["tls"]["properties"];
    confine(&mut tls["trust"]);
    for file in ["bundle", "certificate", "key"] {
        confine(&mut tls["identity"]["properties"][file]);
    }
    list
}

/// Returns the schema of `values.config`: the rest of the configuration, without the keys that a confined sidecar
/// refuses.
fn rest() -> Value {
    let mut schema = warmline::config::schema();
    let root = schema.as_object_mut().unwrap();
    root.retain(|key, _| !["$schema", "required", "title"].contains(&key.as_str()));
    root["description"] = json!("All other keys of the configuration.");
    remove(&mut root["properties"], &["admin", "metrics", "upstreams"]);
    remove(&mut root["properties"]["listeners"]["items"]["properties"], &["allowNonLoopback"]);
    schema
}

/// Restricts a path to the sidecar's own mounts.
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

/// Reads a file of this chart.
fn text(chart: &str, name: &str) -> String {
    fs::read_to_string(here(&format!("charts/{chart}/{name}"))).unwrap()
}

fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
