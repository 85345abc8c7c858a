//! Metric families made of plain numbers, in the types of the crate `prometheus`.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::telemetry::histogram::HistogramSnapshot;

/// The labels of a metric.
pub(super) type Labels = Vec<LabelPair>;

/// Makes labels of pairs of name and value.
pub(super) fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.into());
        pair.set_value(value.into());
        pair
    };
    pairs.into_iter().map(pair).collect()
}

/// Makes a family of gauges, one for each sample of labels and value.
pub(super) fn gauges(
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels, f64)>,
) -> MetricFamily {
    let metric = |(labels, value)| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = Metric::from_label(labels);
        metric.set_gauge(gauge);
        metric
    };
    family(MetricType::GAUGE, name, help, samples.into_iter().map(metric))
}

/// Makes a family of counters, one for each sample of labels and value.
pub(super) fn counters(
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels, f64)>,
) -> MetricFamily {
    let metric = |(labels, value)| {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = Metric::from_label(labels);
        metric.set_counter(counter);
        metric
    };
    family(MetricType::COUNTER, name, help, samples.into_iter().map(metric))
}

/// Makes a family of histograms of durations, in seconds, one for each pair of labels and histogram.
pub(super) fn histograms<'a>(
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels, &'a HistogramSnapshot)>,
) -> MetricFamily {
    let metric = |(labels, snapshot)| {
        let mut metric = Metric::from_label(labels);
        metric.set_histogram(histogram(snapshot));
        metric
    };
    family(MetricType::HISTOGRAM, name, help, samples.into_iter().map(metric))
}

/// Converts a histogram. In Prometheus' format each bucket's count includes the buckets below; the encoder adds the
/// bucket `+Inf`.
fn histogram(snapshot: &HistogramSnapshot) -> Histogram {
    let mut below = 0;
    let bucket = |(bound, count): (&u64, &u64)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(seconds(*bound));
        bucket.set_cumulative_count(below);
        bucket
    };
    let buckets = snapshot.bounds.iter().zip(&snapshot.counts).map(bucket).collect();
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(snapshot.counts.iter().sum());
    histogram.set_sample_sum(seconds(snapshot.sum));
    histogram
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Makes a family of this type, name and help text. Neither the name nor the type of the metrics is checked.
fn family(
    kind: MetricType,
    name: &str,
    help: &str,
    metrics: impl Iterator<Item = Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics.collect());
    family
}
