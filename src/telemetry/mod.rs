//! Plain counters, resolved once and never looked up by label on the request path, and the log's set-up.
//!
//! A counter is an atomic number. What a scrape sees is rendered elsewhere (`admin`), from these.

pub mod ends;
pub mod histogram;
pub mod label;
pub mod log;
pub mod moment;
pub mod recent;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use histogram::{Histogram, HistogramSnapshot, Quantile};
pub use label::{Label, Tally};
pub use moment::Moment;
pub use recent::Recent;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
