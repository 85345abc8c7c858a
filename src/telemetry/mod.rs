//! Plain counters, which code holds directly, so that the request path looks nothing up by label; and the set-up of the
//! log.
//!
//! A counter is an atomic number. `admin` renders the text of a scrape from the counters.

pub mod counted;
pub mod ends;
pub mod histogram;
pub mod label;
pub mod log;
pub mod moment;
pub mod recent;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use counted::{Counted, Counts};
pub use histogram::{Histogram, HistogramSnapshot, Quantile};
pub use label::{Label, Tally};
pub use moment::Moment;
pub use recent::Recent;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds 1.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Returns the number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
