//! The purge rule, which decides how many idle connections to close at the end of each `purgeDelay`.
//!
//! The rule is HAProxy's (`pool-purge-delay`), but without its extra connection per thread, and it never closes the
//! newest idle connection.

/// The memory of the purge rule between two purges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Purge {
    /// The number of streams that a connection is expected to carry at a time. At least 1.
    expected: usize,
    /// The most streams that were open at once since the last purge.
    peak: usize,
    /// The number of connections that past periods needed. With each purge its distance to the peak is halved.
    need: usize,
}

impl Purge {
    /// Makes a rule for connections that are expected to carry so many streams at a time.
    pub(super) fn new(expected: u32) -> Self {
        Self { expected: expected as usize, peak: 0, need: 0 }
    }

    /// Notes that a checkout made so many streams open.
    pub(super) fn checked_out(&mut self, open: usize) {
        self.peak = self.peak.max(open);
    }

    /// Returns how many connections so many open streams need.
    pub(super) fn connections_for(&self, open: usize) -> usize {
        open.div_ceil(self.expected)
    }

    /// Returns how many connections were needed at once lately.
    pub(super) fn needed(&self) -> usize {
        self.connections_for(self.peak).max(self.need)
    }

    /// Returns how many of the connections with open streams were more than needed lately. There can be some only if
    /// more than one stream is expected on each.
    pub(super) fn surplus(&self, active: usize) -> usize {
        active.saturating_sub(self.needed())
    }

    /// Ends a period, at whose end so many streams are open, and begins the next: returns how many idle connections to
    /// close, oldest first. The number is less than `idle`, if that is not 0.
    pub(super) fn period_ended(&mut self, open: usize, active: usize, idle: usize) -> usize {
        let excess = (active + idle).saturating_sub(self.needed());
        let peak = self.connections_for(self.peak);
        self.need = peak.max(self.need.midpoint(peak));
        self.peak = open;
        excess.div_ceil(2).min(idle.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the rule over periods of (most in use, in use at the end, idle at the end), and returns how many each
    /// closes.
    fn closes(periods: &[(usize, usize, usize)]) -> Vec<usize> {
        let mut purge = Purge::new(1);
        periods
            .iter()
            .map(|&(most, in_use, idle)| {
                purge.checked_out(most);
                purge.period_ended(in_use, in_use, idle)
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
        let mut purge = Purge::new(1);
        purge.checked_out(4);
        assert_eq!(purge.period_ended(4, 4, 6), 3, "ten exist, four were needed: half of six");
        assert_eq!(purge.period_ended(4, 4, 1), 0, "one idle: it is the newest");
    }

    #[test]
    fn connections_with_streams_are_surplus_once_fewer_would_carry_the_streams_of_late() {
        let mut purge = Purge::new(10);
        purge.checked_out(100);
        let surplus: Vec<_> = (0..6)
            .map(|_| {
                let surplus = purge.surplus(10);
                purge.period_ended(10, 10, 0);
                surplus
            })
            .collect();
        assert_eq!(surplus, [0, 0, 5, 7, 8, 9]);
    }

    #[test]
    fn where_one_stream_is_expected_on_each_connection_none_that_is_in_use_is_surplus() {
        let mut purge = Purge::new(1);
        for open in [4, 9, 1, 0, 7] {
            purge.checked_out(open);
            assert_eq!(purge.surplus(open), 0);
            purge.period_ended(open, open, 3);
            assert_eq!(purge.surplus(open), 0);
        }
    }

    #[test]
    fn nothing_idle_closes_nothing() {
        assert_eq!(closes(&[(5, 5, 0), (5, 5, 0)]), [0, 0]);
    }
}
