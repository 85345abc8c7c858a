//! Histograms of durations with at most eight buckets for metrics, and with finer buckets beside them if people read
//! quantiles.

mod fine;

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::log::HumanDuration;
use fine::Fine;

/// Counts of durations in buckets, whose bounds are in microseconds, ascending.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// The count of each bucket alone (not cumulative): one bucket for each bound, and a last one for everything above.
    cells: Box<[AtomicU64]>,
    /// The sum of all durations, in microseconds.
    sum: AtomicU64,
    /// The finer buckets; `None` if nothing reads quantiles.
    fine: Option<Box<Fine>>,
}

/// The content of a histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// The upper bounds in microseconds, ascending; above the last one is the bucket +Inf.
    pub bounds: &'static [u64],
    /// The count of each bucket alone (not cumulative), with one more bucket than `bounds`.
    pub counts: Vec<u64>,
    /// The sum of all durations, in microseconds.
    pub sum: u64,
    /// The counts of the finer buckets; empty if there are none.
    fine: Box<[u32]>,
}

impl Histogram {
    /// Makes a histogram with these bounds, in microseconds, ascending; seven at most, because +Inf is the eighth
    /// bucket.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        debug_assert!(bounds.len() < 8 && bounds.is_sorted());
        let cells = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, cells, sum: AtomicU64::new(0), fine: None }
    }

    /// Makes a histogram with these bounds and with finer buckets, whose quantiles are within 5 %.
    #[must_use]
    pub fn fine(bounds: &'static [u64]) -> Self {
        Self { fine: Some(Box::default()), ..Self::new(bounds) }
    }

    /// Counts one duration: in its bucket, in the finer buckets if there are any, and in the sum. A duration above the
    /// last bound counts in +Inf.
    pub fn observe(&self, duration: Duration) {
        let nanos = nanos(duration);
        let micros = nanos / 1_000;
        let bucket = self.bounds.iter().position(|bound| micros <= *bound);
        self.cells[bucket.unwrap_or(self.bounds.len())].fetch_add(1, Relaxed);
        self.sum.fetch_add(micros, Relaxed);
        if let Some(fine) = &self.fine {
            fine.count(nanos);
        }
    }

    /// Returns the content now.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds,
            counts: self.cells.iter().map(|cell| cell.load(Relaxed)).collect(),
            sum: self.sum.load(Relaxed),
            fine: self.fine.as_ref().map(|fine| fine.counts()).unwrap_or_default(),
        }
    }
}

/// Returns the duration in nanoseconds, in 64 bits, which last for 584 years: each request is observed three times.
fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}

/// A quantile: a duration below which a given share of the durations lies, as precise as the buckets allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantile {
    /// A value somewhere below this duration, the lowest bound.
    Below(Duration),
    /// An estimate: from finer buckets within 5 %, from others as if the durations were spread evenly over their
    /// bucket.
    About(Duration),
    /// A value somewhere above this duration, the highest bound.
    Above(Duration),
}

impl Quantile {
    /// Returns the estimate, or the bound beyond which the value is.
    #[must_use]
    pub const fn about(self) -> Duration {
        match self {
            Self::Below(time) | Self::About(time) | Self::Above(time) => time,
        }
    }
}

impl fmt::Display for Quantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(bound) => write!(f, "< {}", HumanDuration(*bound)),
            Self::About(time) => HumanDuration(*time).fmt(f),
            Self::Above(bound) => write!(f, "> {}", HumanDuration(*bound)),
        }
    }
}

impl HistogramSnapshot {
    /// Returns the number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the durations that were added since an earlier snapshot of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts);
        Self {
            bounds: self.bounds,
            counts: counts.map(|(now, then)| now.saturating_sub(*then)).collect(),
            sum: self.sum.saturating_sub(earlier.sum),
            fine: fine::since(&self.fine, &earlier.fine),
        }
    }

    /// Returns the mean; `None` if there are no durations.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum.checked_div(self.count()).map(Duration::from_micros)
    }

    /// Returns the value below which this share (0.0 to 1.0) of the durations lies; `None` if there are no durations.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Quantile> {
        let all = self.count();
        if all == 0 {
            return None;
        }
        if let Some(quantile) = fine::quantile(&self.fine, share) {
            return Some(quantile);
        }
        let (mut wanted, mut lower) = (share * all as f64, 0);
        for (count, bound) in self.counts.iter().zip(self.bounds) {
            let count = *count as f64;
            if count > 0.0 && wanted <= count {
                let micros = lower as f64 + (bound - lower) as f64 * wanted / count;
                return Some(match lower {
                    0 => Quantile::Below(Duration::from_micros(*bound)),
                    _ => Quantile::About(Duration::from_secs_f64(micros / 1e6)),
                });
            }
            wanted -= count;
            lower = *bound;
        }
        Some(Quantile::Above(Duration::from_micros(lower)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&[1_000, 10_000]);
        for micros in [1, 1_000, 1_001, 10_000, 10_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.counts, [2, 2, 1]);
        assert_eq!(snapshot.sum, 22_003);
    }

    #[test]
    fn a_quantile_is_estimated_within_its_bucket_but_not_below_the_first_or_above_the_last_bound() {
        let histogram = Histogram::new(&[1_000, 5_000]);
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        assert_eq!(histogram.snapshot().mean(), None);
        for micros in [400, 600, 2_000, 4_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let about = |micros| Some(Quantile::About(Duration::from_micros(micros)));
        let early = histogram.snapshot();
        assert_eq!(early.quantile(0.5), Some(Quantile::Below(Duration::from_millis(1))));
        assert_eq!(early.quantile(0.75), about(3_000));
        assert_eq!(early.mean(), Some(Duration::from_micros(1_750)));
        histogram.observe(Duration::from_secs(9));
        let since = histogram.snapshot().since(&early);
        assert_eq!(since.counts, [0, 0, 1]);
        assert_eq!(since.quantile(0.5), Some(Quantile::Above(Duration::from_millis(5))));
    }
}
