//! A histogram of durations with at most eight buckets.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Durations counted in buckets; the bounds are in microseconds, ascending.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One cell for each bound, and a last one for everything above; not cumulative.
    cells: Box<[AtomicU64]>,
    /// The sum of all durations, in microseconds.
    sum: AtomicU64,
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
}

impl Histogram {
    /// A histogram with these bounds, in microseconds, ascending; +Inf makes the eighth at most.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        debug_assert!(bounds.len() < 8 && bounds.is_sorted());
        let cells = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, cells, sum: AtomicU64::new(0) }
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().position(|bound| micros <= *bound);
        self.cells[bucket.unwrap_or(self.bounds.len())].fetch_add(1, Relaxed);
        self.sum.fetch_add(micros, Relaxed);
    }

    /// What it holds now.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds,
            counts: self.cells.iter().map(|cell| cell.load(Relaxed)).collect(),
            sum: self.sum.load(Relaxed),
        }
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
}
