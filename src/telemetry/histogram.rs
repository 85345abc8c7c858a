//! A histogram of durations with at most eight buckets for metrics; beside them, where people read quantiles, finer ones.

mod fine;

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::log::Human;
use fine::Fine;

/// Durations counted in buckets; the bounds are in microseconds, ascending.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One cell for each bound, and a last one for everything above; not cumulative.
    cells: Box<[AtomicU64]>,
    /// The sum of all durations, in microseconds.
    sum: AtomicU64,
    /// `None` where nobody reads quantiles.
    fine: Option<Box<Fine>>,
}

/// What a histogram held at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Upper bounds in microseconds, ascending; above the last comes +Inf.
    pub bounds: &'static [u64],
    /// How many fell into each bucket alone, one more than `bounds`.
    pub counts: Vec<u64>,
    /// The sum of all durations, in microseconds.
    pub sum: u64,
    /// The counts of the finer buckets; empty without them.
    fine: Box<[u32]>,
}

impl Histogram {
    /// A histogram with these bounds, in microseconds, ascending; +Inf makes the eighth at most.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        debug_assert!(bounds.len() < 8 && bounds.is_sorted());
        let cells = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, cells, sum: AtomicU64::new(0), fine: None }
    }

    /// A histogram with these bounds, and with quantiles within 5 %.
    #[must_use]
    pub fn fine(bounds: &'static [u64]) -> Self {
        Self { fine: Some(Box::default()), ..Self::new(bounds) }
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().position(|bound| micros <= *bound);
        self.cells[bucket.unwrap_or(self.bounds.len())].fetch_add(1, Relaxed);
        self.sum.fetch_add(micros, Relaxed);
        if let Some(fine) = &self.fine {
            fine.count(duration);
        }
    }

    /// What it holds now.
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

/// A value below which a share of the durations lie, as far as buckets tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantile {
    /// Below the lowest bound; how far is not known.
    Below(Duration),
    /// Estimated: from fine buckets within 5 %, from others as if durations were spread evenly over theirs.
    About(Duration),
    /// Above the highest bound.
    Above(Duration),
}

impl Quantile {
    /// The estimate, or the bound that the value is beyond.
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
            Self::Below(bound) => write!(f, "< {}", Human(*bound)),
            Self::About(time) => Human(*time).fmt(f),
            Self::Above(bound) => write!(f, "> {}", Human(*bound)),
        }
    }
}

impl HistogramSnapshot {
    /// How many durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What came on top of an earlier moment of the same histogram.
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

    /// The mean; `None` without any.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum.checked_div(self.count()).map(Duration::from_micros)
    }

    /// The value below which this share (0.0 to 1.0) of the durations lie; `None` without any.
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
