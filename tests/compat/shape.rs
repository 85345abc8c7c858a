//! The shape of a JSON document: its keys, and the kinds of their values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The kinds of value, without null, at each path; all elements of a list share one path.
type Shape = BTreeMap<String, BTreeSet<&'static str>>;

/// Returns the paths that are gone, and those whose values are of another kind now.
pub(crate) fn lost(before: &Value, now: &Value) -> Vec<String> {
    let (before, now) = (shape(before), shape(now));
    let lost = |(path, kinds): (&String, &BTreeSet<&str>)| match now.get(path) {
        None => Some(format!("{path} is gone")),
        // Before, the value was always null, so that any kind may come.
        Some(_) if kinds.is_empty() => None,
        Some(found) if found.is_subset(kinds) => None,
        Some(found) => Some(format!("{path} was {kinds:?} and is {found:?}")),
    };
    before.iter().filter_map(lost).collect()
}

fn shape(value: &Value) -> Shape {
    fn walk(value: &Value, path: &str, shape: &mut Shape) {
        let kinds = shape.entry(path.to_owned()).or_default();
        kinds.extend(kind(value));
        match value {
            Value::Object(fields) => {
                for (key, below) in fields {
                    walk(below, &format!("{path}.{key}"), shape);
                }
            }
            Value::Array(elements) => {
                for element in elements {
                    walk(element, &format!("{path}[]"), shape);
                }
            }
            _ => {}
        }
    }
    let mut shape = Shape::new();
    walk(value, "", &mut shape);
    shape
}

fn kind(value: &Value) -> Option<&'static str> {
    match value {
        Value::Null => None,
        Value::Bool(_) => Some("true or false"),
        Value::Number(_) => Some("a number"),
        Value::String(_) => Some("a text"),
        Value::Array(_) => Some("a list"),
        Value::Object(_) => Some("an object"),
    }
}

#[test]
fn a_key_that_is_gone_or_of_another_kind_is_lost_and_one_that_came_is_not() {
    let before = serde_json::json!({"a": [{"b": 1, "c": null}], "d": null});
    let more =
        serde_json::json!({"a": [{"b": 2, "c": "x", "e": 1}, {"b": null, "c": 1}], "d": {"f": 1}});
    assert_eq!(lost(&before, &more), Vec::<String>::new());
    let other = serde_json::json!({"a": [{"b": "1"}], "d": 1});
    let told = [".a[].b was {\"a number\"} and is {\"a text\"}", ".a[].c is gone"];
    assert_eq!(lost(&before, &other), told);
}
