//! Dashboard, alerts and their documentation agree with each other and with the exported metrics; each alert fires and
//! stays silent where it should, according to Prometheus' own `promtool`.

#![allow(clippy::unwrap_used)] // a test fails by a panic

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const RULES: &str = "charts/warmline-egress/rules/warmline.yaml";
const DASHBOARD: &str = "charts/warmline-egress/dashboards/warmline.json";

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(here(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn dashboard() -> Value {
    serde_json::from_str(&text(DASHBOARD)).unwrap()
}

/// Returns all panels of the dashboard except rows, which only hold others.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().unwrap();
    panels.iter().filter(|panel| panel["type"] != "row").collect()
}

/// Returns the expressions of panels, variables and annotations.
fn expressions(dashboard: &Value) -> Vec<&str> {
    let targets =
        panels(dashboard).into_iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let annotations = dashboard["annotations"]["list"].as_array().unwrap();
    targets
        .filter_map(|target| target["expr"].as_str())
        .chain(variables.iter().filter_map(|variable| variable["query"]["query"].as_str()))
        .chain(annotations.iter().filter_map(|annotation| annotation["target"]["expr"].as_str()))
        .collect()
}

/// Returns the words in the text that begin with `prefix`.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let part_of_a_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !part_of_a_word(c)).filter(|word| word.starts_with(prefix)).collect()
}

/// Returns the metrics in the text: Warmline's, and those of the process.
fn metrics(text: &str) -> BTreeSet<&str> {
    let mut metrics = words(text, "warmline_");
    metrics.append(&mut words(text, "process_"));
    metrics
}

/// Returns the names between quotes in the sources of `/metrics`.
fn exported() -> BTreeSet<String> {
    let files = fs::read_dir(here("src/admin/metrics")).unwrap();
    let sources = files.map(|file| file.unwrap().path()).filter(|path| !path.ends_with("tests.rs"));
    let mut exported = BTreeSet::new();
    for source in sources {
        let source = fs::read_to_string(source).unwrap();
        let quoted = source.split('"').filter(|piece| metrics(piece) == BTreeSet::from([*piece]));
        exported.extend(quoted.map(str::to_owned));
    }
    exported
}

/// Returns each alert's name and its text in the rules.
fn alerts(rules: &str) -> Vec<(&str, &str)> {
    let each = rules.split("- alert: ").skip(1);
    each.map(|alert| alert.split_once('\n').unwrap()).collect()
}

#[track_caller]
fn promtool(words: &[&str]) {
    let done = Command::new("promtool").args(words).current_dir(here("")).output();
    let done = done.unwrap_or_else(|error| {
        panic!("promtool cannot be run ({error}): scripts/install-peers installs it")
    });
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn prometheus_accepts_the_rules() {
    promtool(&["check", "rules", "--lint-fatal", RULES]);
}

#[test]
fn each_alert_fires_and_stays_silent_where_it_should() {
    promtool(&["test", "rules", "tests/monitoring/alerts.yaml"]);
}

#[test]
fn each_alert_has_a_situation_in_which_it_fires() {
    let (rules, situations) = (text(RULES), text("tests/monitoring/alerts.yaml"));
    for (name, _) in alerts(&rules) {
        assert!(situations.contains(&format!("alertname=\"{name}\"")), "{name}");
    }
}

#[test]
fn dashboard_and_rules_use_only_metrics_that_a_sidecar_exports() {
    let exported = exported();
    assert!(exported.len() > 30, "{exported:?}");
    let of_histograms = |name: &str| {
        let parts = ["_bucket", "_sum", "_count"];
        let whole = parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        exported.contains(whole)
    };
    let (rules, dashboard) = (text(RULES), dashboard());
    for expression in expressions(&dashboard).into_iter().chain([rules.as_str()]) {
        for name in metrics(expression) {
            assert!(exported.contains(name) || of_histograms(name), "{name} in {expression}");
        }
    }
}

#[test]
fn the_rules_have_a_place_for_the_namespace_in_every_selector() {
    for (name, alert) in alerts(&text(RULES)) {
        let expression = alert.split("        for:").next().unwrap();
        let scoped = expression.matches("{namespace=~\".+\"").count();
        assert_eq!(expression.matches('{').count(), scoped, "{name}");
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_metric = |word: &&str| *word == "up" || !metrics(word).is_empty();
        assert_eq!(expression.split(|c| !word(c)).filter(is_metric).count(), scoped, "{name}");
    }
}

#[test]
fn the_values_list_every_threshold_of_the_rules_as_the_rules_have_it() {
    let (rules, values) = (text(RULES), text("charts/warmline-egress/values.yaml"));
    let in_rules: BTreeSet<_> = rules
        .lines()
        .filter(|line| line.starts_with("          "))
        .filter_map(|line| line.split_once(" # "))
        .map(|(before, name)| format!("{name}: {}", before.rsplit(' ').next().unwrap()))
        .collect();
    let (_, list) = values.split_once("  thresholds:").unwrap();
    let in_values: BTreeSet<_> = list
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with("    "))
        .map(|line| line.split('#').next().unwrap().trim().to_owned())
        .collect();
    assert!(in_rules.len() > 10, "{in_rules:?}");
    assert_eq!(in_rules, in_values);
}

#[test]
fn the_page_says_what_to_do_about_each_alert_and_knows_no_other() {
    let (rules, page) = (text(RULES), text("docs/monitor.md"));
    let named: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts = alerts(&rules);
    assert_eq!(named, alerts.iter().map(|(name, _)| *name).collect());
    for (name, alert) in alerts {
        let link = format!("runbook_url: docs/monitor.md#{}\n", name.to_lowercase());
        assert!(alert.contains(&link), "{name}");
        assert!(alert.contains("severity: ") && alert.contains("summary: "), "{name}");
    }
}

#[test]
fn each_panel_explains_itself_and_asks_the_chosen_data_source() {
    let dashboard = dashboard();
    let source = serde_json::json!({"type": "prometheus", "uid": "${datasource}"});
    let mut ids = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(panel["description"].as_str().unwrap().len() > 20, "{title}");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        assert_eq!(panel["datasource"], source, "{title}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"], source, "{title}");
            let expression = target["expr"].as_str().unwrap();
            assert!(expression.contains("$namespace") && expression.contains("$pod"), "{title}");
        }
    }
}

#[test]
fn no_two_panels_lie_on_one_another() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let place = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{}", panel["title"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{}", panel["title"]);
            }
        }
    }
}
