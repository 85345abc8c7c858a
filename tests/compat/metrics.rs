//! Metrics in the format that Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};

/// Labels and their values.
pub(crate) type Labels = BTreeMap<String, String>;

/// The series of a page, without their values, and the kind of each family.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) series: BTreeMap<String, BTreeSet<Labels>>,
    kinds: BTreeMap<String, String>,
}

/// The labels whose values change from one run to the next.
const VOLATILE: [&str; 2] = ["hash", "version"];

impl Metrics {
    pub(crate) fn parse(page: &str) -> Self {
        let mut metrics = Self::default();
        for line in page.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                metrics.kinds.insert(name.into(), kind.into());
            } else if !line.starts_with('#') {
                let (series, _) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let labels = labels_of(labels.strip_suffix('}').unwrap());
                metrics.series.entry(name.into()).or_default().insert(labels);
            }
        }
        metrics
    }

    /// Returns the families, series and kinds that the earlier page had and this page lacks.
    pub(crate) fn lacks(&self, before: &Self) -> Vec<String> {
        let kinds = before.kinds.iter().filter(|(name, kind)| self.kinds.get(*name) != Some(kind));
        let mut lost: Vec<_> = kinds.map(|(name, kind)| format!("{name}, a {kind}")).collect();
        for (name, series) in &before.series {
            let now: BTreeSet<_> = self.of(name).map(steady).collect();
            let gone = series.iter().map(steady).filter(|labels| !now.contains(labels));
            lost.extend(gone.map(|labels| format!("{name} {labels:?}")));
        }
        lost
    }

    /// Returns the series with this name.
    pub(crate) fn of(&self, name: &str) -> impl Iterator<Item = &Labels> {
        self.series.get(name).into_iter().flatten()
    }
}

/// Returns the labels, with the values that differ from run to run emptied.
fn steady(labels: &Labels) -> Labels {
    let value = |name: &str, value: &str| {
        if VOLATILE.contains(&name) && !is_tls_version(value) {
            String::new()
        } else {
            value.into()
        }
    };
    labels.iter().map(|(name, text)| (name.clone(), value(name, text))).collect()
}

/// True if the value is a version of TLS: the label `version` of handshakes is compared, that of the program is not.
fn is_tls_version(value: &str) -> bool {
    ["1.2", "1.3", "none"].contains(&value)
}

/// Parses the labels between braces; no value here contains a quote.
fn labels_of(text: &str) -> Labels {
    let mut pieces = text.split('"');
    let mut labels = Labels::new();
    while let (Some(name), Some(value)) = (pieces.next(), pieces.next()) {
        labels.insert(name.trim_matches([',', '=']).to_owned(), value.to_owned());
    }
    labels
}

#[test]
fn a_series_a_label_value_or_a_kind_that_is_gone_is_missed() {
    let page = |text: &str| Metrics::parse(text);
    let before =
        page("# TYPE a counter\na{x=\"1\",hash=\"77\"} 5\na{x=\"2\",hash=\"77\"} 0\nb 1\n");
    let same = page(
        "# TYPE a counter\na{x=\"2\",hash=\"8\"} 1\na{x=\"1\",hash=\"8\"} 1\na{x=\"3\",hash=\"8\"} 1\nb 1\n",
    );
    assert_eq!(same.lacks(&before), Vec::<String>::new());
    let less = page("# TYPE a gauge\na{x=\"1\",y=\"77\"} 5\na{x=\"2\",hash=\"8\"} 1\n");
    assert_eq!(less.lacks(&before).len(), 3, "{:?}", less.lacks(&before));
}
