//! The purge rule, which decides how many idle connections to close at the end of each `purgeDelay`.
//!
//! The rule is HAProxy's (`pool-purge-delay`), but without its extra connection per thread, and it never closes the
//! newest idle connection.

/// The memory of the purge rule between two purges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Purge {
    /// The most connections that were in use at once since the last purge.
    peak: usize,
    /// The number of connections that past periods needed. With each purge its distance to the peak is halved.
    need: usize,
}

impl Purge {
    /// Notes that a checkout made so many connections active. Connecting and closing ones do not count.
    pub(super) fn checked_out(&mut self, in_use: usize) {
        self.peak = self.peak.max(in_use);
        self.need = self.need.max(in_use);
    }

    /// Returns how many connections were in use at once lately.
    pub(super) fn needed(&self) -> usize {
        self.peak.max(self.need)
    }

    /// Ends a period: returns how many idle connections to close, oldest first. The number is less than `idle`, if that
    /// is not 0.
    pub(super) fn period_ended(&mut self, in_use: usize, idle: usize) -> usize {
        let excess = (in_use + idle).saturating_sub(self.needed());
        self.need = self.peak.max(self.need.midpoint(self.peak));
        self.peak = in_use;
        excess.div_ceil(2).min(idle.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the rule over periods of (most in use, in use at the end, idle at the end), and returns how many each
    /// closes.
    fn closes(periods: &[(usize, usize, usize)]) -> Vec<usize> {
        let mut purge = Purge::default();
        periods
            .iter()
            .map(|&(most, in_use, idle)| {
                purge.checked_out(most);
                purge.period_ended(in_use, idle)
            })
            .collect()
    }

    #[test]
    fn what_the_peak_needed_stays_for_its_own_period() {
        assert_eq!(closes(&[(10, 0, 10)]), [0]);
    }

    #[test]
    fn need_falls_by_halves_once_the_peak_is_over() {
        // The need after each period is 10, 5, 2, 1, 0; half of the excess over the need closes, rounded up.
        assert_eq!(
            closes(&[(10, 0, 10), (0, 0, 10), (0, 0, 10), (0, 0, 7), (0, 0, 4)]),
            [0, 0, 3, 3, 2]
        );
    }

    #[test]
    fn the_newest_idle_connection_is_never_purged() {
        assert_eq!(closes(&[(1, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 1)]), [0, 0, 0, 0]);
    }

    #[test]
    fn those_in_use_count_towards_the_excess_but_only_idle_ones_close() {
        let mut purge = Purge::default();
        purge.checked_out(4);
        assert_eq!(purge.period_ended(4, 6), 3, "ten exist, four were needed: half of six");
        assert_eq!(purge.period_ended(4, 1), 0, "one idle: it is the newest");
    }

    #[test]
    fn nothing_idle_closes_nothing() {
        assert_eq!(closes(&[(5, 5, 0), (5, 5, 0)]), [0, 0]);
    }
}
