//! A pod's annotations `warmline.dev/…`, strictly parsed: an unknown name and a value that is not in its plain form are
//! errors.
//!
//! No annotation names a Secret, an image, an argument, a variable, a mount, a security context or a namespace.

use super::{
    pod::Pod,
    quantity::{is_cpu, is_memory},
};

/// The settings that a pod's annotations give for its sidecar; `None` where there is no annotation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AnnotatedSettings<'a> {
    /// The name of the `ConfigMap` that holds the sidecar's configuration.
    pub(super) config: Option<&'a str>,
    pub(super) log_level: Option<&'a str>,
    pub(super) cpu: AnnotatedResource<'a>,
    pub(super) memory: AnnotatedResource<'a>,
}

/// The request and the limit that a pod's annotations give for one resource, as Kubernetes quantities.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct AnnotatedResource<'a> {
    pub(super) request: Option<&'a str>,
    pub(super) limit: Option<&'a str>,
}

/// The beginning of all annotation names that belong to Warmline.
const PREFIX: &str = "warmline.dev/";
/// The names (without `PREFIX`) of the annotations that pods may have, in the order in which errors are listed.
const KNOWN: [&str; 6] =
    ["config", "cpu-limit", "cpu-request", "log-level", "memory-limit", "memory-request"];
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// The largest number of unknown annotations that an error names. A pod may have thousands of them, and the error goes
/// into the answer, into a warning and into the log.
const MOST_NAMED: usize = 8;
/// The largest length of a `ConfigMap`'s name, in bytes.
const LONGEST_NAME: usize = 253;

impl<'a> AnnotatedSettings<'a> {
    /// Reads the pod's annotations. Fails with all that is wrong with them, one text for each error.
    pub(super) fn read(pod: Pod<'a>) -> Result<Self, Vec<String>> {
        let mut errors: Vec<_> = unknown(pod).into_iter().collect();
        let mut wishes = Self::default();
        for name in KNOWN {
            let Some(value) = pod.annotation(&format!("{PREFIX}{name}")) else { continue };
            match demand(name, value) {
                None => *wishes.field(name) = Some(value),
                Some(demand) => {
                    errors.push(format!("the annotation {PREFIX}{name} must be {demand}"));
                }
            }
        }
        if errors.is_empty() { Ok(wishes) } else { Err(errors) }
    }

    /// Returns the setting that the annotation of this name (one of [`KNOWN`]) sets.
    fn field(&mut self, name: &str) -> &mut Option<&'a str> {
        match name {
            "config" => &mut self.config,
            "cpu-limit" => &mut self.cpu.limit,
            "cpu-request" => &mut self.cpu.request,
            "log-level" => &mut self.log_level,
            "memory-limit" => &mut self.memory.limit,
            _ => &mut self.memory.request,
        }
    }
}

/// Returns the error that names the annotations of Warmline that are not known, at most [`MOST_NAMED`] of them; `None`
/// if all are known.
fn unknown(pod: Pod<'_>) -> Option<String> {
    let ours = pod.annotations().filter_map(|(key, _)| key.strip_prefix(PREFIX));
    let mut unknown: Vec<_> = ours.filter(|name| !KNOWN.contains(name)).collect();
    if unknown.is_empty() {
        return None;
    }
    unknown.sort_unstable();
    let list = |names: &[&str]| {
        names.iter().map(|name| format!("{PREFIX}{name}")).collect::<Vec<_>>().join(", ")
    };
    let named = &unknown[..unknown.len().min(MOST_NAMED)];
    let more = match unknown.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("unknown annotations: {}{more} (known: {})", list(named), list(&KNOWN)))
}

/// Returns the rule that the value breaks, as the end of the sentence "the annotation … must be …"; `None` if the value
/// is good.
fn demand(name: &str, value: &str) -> Option<&'static str> {
    let (good, demand) = match name {
        "config" => (is_name(value), "the name of a ConfigMap in the pod's namespace"),
        "cpu-limit" | "cpu-request" => (is_cpu(value), "a quantity such as 50m or 0.5"),
        "log-level" => (LEVELS.contains(&value), "error, warn, info, debug or trace"),
        _ => (is_memory(value), "a quantity such as 64Mi"),
    };
    (!good).then_some(demand)
}

/// True if the text is a DNS subdomain (RFC 1123), the form of the names of `ConfigMap`s.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(|first| inner(*first))
            && bytes.last().is_some_and(|last| inner(*last))
            && bytes.iter().all(|byte| inner(*byte) || *byte == b'-')
    };
    text.len() <= LONGEST_NAME && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(annotations: &Value) -> Value {
        json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "app"}]}})
    }

    fn errors(annotations: &Value) -> String {
        let object = pod(annotations);
        AnnotatedSettings::read(Pod::read(&object).unwrap()).err().unwrap_or_default().join("; ")
    }

    #[test]
    fn every_annotation_is_read_and_others_of_other_people_are_none_of_ours() {
        let object = pod(&json!({
            "warmline.dev/config": "payments.v2", "warmline.dev/log-level": "debug",
            "warmline.dev/cpu-request": "20m", "warmline.dev/cpu-limit": "0.5",
            "warmline.dev/memory-request": "48Mi", "warmline.dev/memory-limit": "1Gi",
            "prometheus.io/scrape": "false", "sidecar.istio.io/inject": "true",
            "x.warmline.dev/image": "evil",
        }));
        let wishes = AnnotatedSettings::read(Pod::read(&object).unwrap()).unwrap();
        let expected = AnnotatedSettings {
            config: Some("payments.v2"),
            log_level: Some("debug"),
            cpu: AnnotatedResource { request: Some("20m"), limit: Some("0.5") },
            memory: AnnotatedResource { request: Some("48Mi"), limit: Some("1Gi") },
        };
        assert_eq!(wishes, expected);
        assert_eq!(errors(&Value::Null), "");
    }

    #[test]
    fn an_annotation_that_nobody_knows_is_told_with_those_that_are_known() {
        assert_eq!(
            errors(&json!({"warmline.dev/image": "x", "warmline.dev/inject": "true"})),
            "unknown annotations: warmline.dev/image, warmline.dev/inject (known: warmline.dev/config, \
             warmline.dev/cpu-limit, warmline.dev/cpu-request, warmline.dev/log-level, \
             warmline.dev/memory-limit, warmline.dev/memory-request)"
        );
    }

    #[test]
    fn of_many_annotations_that_nobody_knows_the_first_eight_are_named_and_the_rest_counted() {
        let told = |count: usize| {
            let pairs = (0..count).map(|number| (format!("warmline.dev/x{number:04}"), json!("")));
            let text = errors(&Value::Object(pairs.collect()));
            text.split(" (known: ").next().unwrap().to_owned()
        };
        let eight = "unknown annotations: warmline.dev/x0000, warmline.dev/x0001, warmline.dev/x0002, \
                     warmline.dev/x0003, warmline.dev/x0004, warmline.dev/x0005, warmline.dev/x0006, \
                     warmline.dev/x0007";
        assert_eq!(told(8), eight);
        assert_eq!(told(9), format!("{eight} and 1 more"));
        assert_eq!(told(3000), format!("{eight} and 2992 more"));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_no_value_is_quoted() {
        let all = errors(&json!({
            "warmline.dev/config": "other/warmline", "warmline.dev/log-level": "loud",
            "warmline.dev/cpu-request": "much", "warmline.dev/cpu-limit": "-1",
            "warmline.dev/memory-request": "64m", "warmline.dev/memory-limit": "",
        }));
        assert_eq!(
            all,
            "the annotation warmline.dev/config must be the name of a ConfigMap in the pod's namespace; \
             the annotation warmline.dev/cpu-limit must be a quantity such as 50m or 0.5; \
             the annotation warmline.dev/cpu-request must be a quantity such as 50m or 0.5; \
             the annotation warmline.dev/log-level must be error, warn, info, debug or trace; \
             the annotation warmline.dev/memory-limit must be a quantity such as 64Mi; \
             the annotation warmline.dev/memory-request must be a quantity such as 64Mi"
        );
    }

    #[test]
    fn a_configuration_is_named_by_a_configmaps_name_and_nothing_else() {
        for name in ["a", "warmline", "a-1.b-2", "0", &"a".repeat(253)] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "-a",
            "a-",
            "a..b",
            ".a",
            "a.",
            "A",
            "a_b",
            "a/b",
            "../a",
            "a b",
            "a\n",
            &"a".repeat(254),
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
