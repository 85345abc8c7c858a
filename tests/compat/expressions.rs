//! Expressions of dashboards and alerts: the metrics, labels and values in them.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::{labels, metrics::Metrics};

/// The labels that Prometheus adds, and those that an expression sets itself.
const ADDED: [&str; 5] = ["namespace", "pod", "container", "job", "instance"];
/// The metrics that Prometheus makes itself.
const OF_PROMETHEUS: [&str; 2] = ["up", "ALERTS"];

/// A metric with the conditions between its braces.
#[derive(Debug, PartialEq, Eq)]
struct Selector<'a> {
    metric: &'a str,
    matchers: Vec<Matcher<'a>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Matcher<'a> {
    label: &'a str,
    value: &'a str,
}

/// Returns the expressions of all panels of a dashboard.
pub(crate) fn of_dashboard(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions: Vec<_> =
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    assert!(expressions.len() > 40);
    expressions
}

/// Returns the expressions of all alerts in a file of rules.
pub(crate) fn of_rules(rules: &Value) -> Vec<String> {
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let expressions: Vec<_> = rules.map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect();
    assert!(expressions.len() > 15);
    expressions
}

/// Returns the metrics, labels and values that the expression uses and the program does not have.
pub(crate) fn unmet(expression: &str, metrics: &Metrics) -> Vec<String> {
    let mut unmet = Vec::new();
    let mut known: BTreeSet<&str> = ADDED.into();
    for Selector { metric, matchers } in selectors(expression) {
        let Some(series) = metrics.of(metric).next() else {
            if is_exported(metric) {
                // The metric exists, but no event of its kind happened here, so that nothing is known of its labels.
                return unmet;
            }
            unmet.push(format!("the metric {metric}"));
            continue;
        };
        known.extend(series.keys().map(String::as_str));
        for Matcher { label, value } in matchers {
            let ours = series.contains_key(label);
            if !ours && !ADDED.contains(&label) {
                unmet.push(format!("the label {label} of {metric}"));
            }
            let values = value.split('|').filter(|value| ours && is_literal(value));
            unmet.extend(
                values
                    .filter(|value| !has_value(metrics, metric, label, value))
                    .map(|value| format!("{metric} with {label} {value}")),
            );
        }
    }
    let grouped = groupings(expression).into_iter().filter(|label| !known.contains(label));
    unmet.extend(grouped.map(|label| format!("a grouping by {label}")));
    unmet
}

/// True if the sources of `/metrics` contain the name.
fn is_exported(metric: &str) -> bool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/metrics");
    let mut sources =
        fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    sources.any(|source| source.contains(&format!("\"{metric}\"")))
}

fn is_literal(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn has_value(metrics: &Metrics, metric: &str, label: &str, value: &str) -> bool {
    let seen = metrics.of(metric).any(|labels| labels[label] == value);
    seen || labels::all().values().any(|values| values.contains(value))
}

/// Returns each word that is followed by braces or begins with the prefix of Warmline's metrics, with the conditions in
/// the braces.
fn selectors(expression: &str) -> Vec<Selector<'_>> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_word) {
        let word = &rest[start..];
        let end = word.find(|c| !is_word(c)).unwrap_or(word.len());
        let (metric, after) = word.split_at(end);
        rest = after;
        let matchers = match after.strip_prefix('{') {
            Some(inside) => {
                let (inside, after) = inside.split_once('}').unwrap();
                rest = after;
                matchers(inside)
            }
            None if metric.starts_with("warmline_") => Vec::new(),
            None => continue,
        };
        if !OF_PROMETHEUS.contains(&metric) {
            found.push(Selector { metric, matchers });
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Returns the conditions in the text between braces, whose values must not contain a quote.
fn matchers(text: &str) -> Vec<Matcher<'_>> {
    let pieces: Vec<_> = text.split('"').collect();
    let pairs = pieces.chunks_exact(2);
    pairs
        .map(|pair| Matcher { label: pair[0].trim_matches(|c| !is_word(c)), value: pair[1] })
        .collect()
}

/// Returns the labels of each `by (…)`.
fn groupings(expression: &str) -> Vec<&str> {
    let lists = expression.split("by (").skip(1).map(|rest| rest.split(')').next().unwrap());
    lists.flat_map(|list| list.split(',')).map(str::trim).collect()
}

#[test]
fn an_expression_is_met_by_its_metrics_labels_and_values_and_by_nothing_less() {
    let metrics =
        Metrics::parse("a_total{upstream=\"x\",result=\"new\"} 1\nb_bucket{le=\"1\"} 1\n");
    let unmet = |expression: &str| unmet(expression, &metrics);
    for met in [
        "sum by (namespace, result) (rate(a_total{namespace=~\".+\", upstream=~\"$upstream\", result=\"new\"}[5m])) > 1",
        "histogram_quantile(0.5, sum by (le) (rate(b_bucket{pod=~\"$pod\"}[1m]))) or up{container=\"warmline\"} == 0",
        "a_total{result=~\"new|reused\"}",
    ] {
        assert_eq!(unmet(met), Vec::<String>::new(), "{met}");
    }
    assert_eq!(unmet("sum(c_total{pod=\"x\"})"), ["the metric c_total"]);
    assert_eq!(unmet("warmline_c"), ["the metric warmline_c"]);
    assert_eq!(unmet("a_total{side=\"x\"}"), ["the label side of a_total"]);
    assert_eq!(unmet("a_total{result!=\"older\"}"), ["a_total with result older"]);
    assert_eq!(unmet("sum by (stage) (a_total{})"), ["a grouping by stage"]);
}
