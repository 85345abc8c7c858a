//! Fine buckets, eight for each doubling, so that a quantile is within 5 % of the durations that it is estimated from.

use std::{
    array,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use super::Quantile;

/// The exponent of the lowest bound, which is 2^15 ns, 33 µs.
const LOWEST: usize = 15;
/// The exponent of the highest bound, which is 2^38 ns, 275 s.
const HIGHEST: usize = 38;
/// The number of buckets: eight for each doubling, one for everything below the lowest bound, and one for everything
/// from the highest on.
const BUCKETS: usize = 2 + 8 * (HIGHEST - LOWEST);

/// The bounds within a doubling that begins at 2^15: each is 2^(1/8) times the one before, rounded up.
const STEPS: [u64; 7] = [35_734, 38_968, 42_495, 46_341, 50_536, 55_109, 60_097];

/// The count of durations in each bucket. Counts may overflow, because only differences between two moments are read.
#[derive(Debug)]
pub(super) struct Fine([AtomicU32; BUCKETS]);

impl Default for Fine {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Fine {
    /// Counts a duration in nanoseconds.
    pub(super) fn count(&self, nanos: u64) {
        self.0[bucket(nanos)].fetch_add(1, Relaxed);
    }

    pub(super) fn counts(&self) -> Box<[u32]> {
        self.0.iter().map(|count| count.load(Relaxed)).collect()
    }
}

/// Returns the counts that were added since earlier counts.
pub(super) fn since(now: &[u32], earlier: &[u32]) -> Box<[u32]> {
    now.iter().zip(earlier).map(|(now, earlier)| now.wrapping_sub(*earlier)).collect()
}

/// Returns the value below which this share of the counted durations lies; `None` if there are none.
pub(super) fn quantile(counts: &[u32], share: f64) -> Option<Quantile> {
    let all: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    let mut wanted = share * all as f64;
    let bucket = counts.iter().position(|count| {
        wanted -= f64::from(*count);
        *count > 0 && wanted <= 0.0
    })?;
    Some(match bucket {
        0 => Quantile::Below(bound(0.0)),
        bucket if bucket < BUCKETS - 1 => Quantile::About(bound(bucket as f64 - 0.5)),
        _ => Quantile::Above(bound((BUCKETS - 2) as f64)),
    })
}

/// Returns the bucket of a duration in nanoseconds.
fn bucket(nanos: u64) -> usize {
    let doubling = nanos.checked_ilog2().unwrap_or(0) as usize;
    match doubling {
        0..LOWEST => 0,
        LOWEST..HIGHEST => {
            let scaled = nanos >> (doubling - LOWEST);
            let steps = STEPS.iter().filter(|bound| **bound <= scaled).count();
            1 + 8 * (doubling - LOWEST) + steps
        }
        _ => BUCKETS - 1,
    }
}

/// Returns the bound that is this many buckets above the lowest one; a fraction is between two bounds.
fn bound(buckets: f64) -> Duration {
    Duration::from_secs_f64((LOWEST as f64 + buckets / 8.0).exp2() / 1e9)
}

#[cfg(test)]
mod tests {
    use super::{super::nanos, *};

    fn quantile_of(durations: impl IntoIterator<Item = Duration>, share: f64) -> Quantile {
        let fine = Fine::default();
        durations.into_iter().for_each(|duration| fine.count(nanos(duration)));
        quantile(&fine.counts(), share).expect("there are some")
    }

    fn assert_near(told: Quantile, right: Duration) {
        let Quantile::About(about) = told else { panic!("{told:?} for {right:?}") };
        let error = (about.as_secs_f64() / right.as_secs_f64() - 1.0).abs();
        assert!(error <= 0.05, "{about:?} for {right:?}");
    }

    #[test]
    fn fault_25_a_quantile_is_within_5_percent_from_33_microseconds_to_275_seconds() {
        let mut nanos: u64 = 1 << LOWEST;
        while nanos < 1 << HIGHEST {
            let duration = Duration::from_nanos(nanos);
            assert_near(quantile_of([duration], 0.5), duration);
            nanos += nanos / 300;
        }
    }

    #[test]
    fn fault_25_a_quantile_is_that_of_the_durations_and_not_of_a_wide_bucket() {
        let durations = || (21..=63).map(Duration::from_millis);
        assert_near(quantile_of(durations(), 0.5), Duration::from_millis(42));
        assert_near(quantile_of(durations(), 0.99), Duration::from_millis(63));
        let one_in_ten = (0..100).map(|n| Duration::from_millis(if n % 10 == 0 { 900 } else { 2 }));
        assert_near(quantile_of(one_in_ten.clone(), 0.9), Duration::from_millis(2));
        assert_near(quantile_of(one_in_ten, 0.91), Duration::from_millis(900));
    }

    #[test]
    fn beyond_the_bounds_the_bound_is_told() {
        let [below, lowest, highest] =
            [(1 << LOWEST) - 1, 1 << LOWEST, 1 << HIGHEST].map(Duration::from_nanos);
        for duration in [Duration::ZERO, below] {
            assert_eq!(quantile_of([duration], 0.5), Quantile::Below(lowest));
        }
        for duration in [highest, Duration::MAX] {
            assert_eq!(quantile_of([duration], 0.5), Quantile::Above(highest));
        }
    }

    #[test]
    fn earlier_durations_are_left_out_though_a_count_overflowed() {
        let fine = Fine::default();
        fine.0[bucket(nanos(Duration::from_millis(7)))].store(u32::MAX, Relaxed);
        (0..9).for_each(|_| fine.count(nanos(Duration::from_secs(1))));
        let earlier = fine.counts();
        (0..3).for_each(|_| fine.count(nanos(Duration::from_millis(7))));
        let since = since(&fine.counts(), &earlier);
        assert_eq!(since.iter().sum::<u32>(), 3);
        assert_near(quantile(&since, 0.99).expect("three"), Duration::from_millis(7));
        assert_eq!(quantile(&super::since(&earlier, &earlier), 0.5), None);
    }
}
