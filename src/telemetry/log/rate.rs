//! The bound on access lines in each second, half of which only failures may use. Lines beyond the bound are counted.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The kind of an access line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// A request without a failure, or the end of a connection.
    Ordinary,
    /// A request that failed.
    Failure,
}

/// The bound on access lines, and the count of those left out.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// The most lines in a second; 0: no bound.
    most: AtomicU64,
    window: Mutex<Window>,
}

/// The counts of the current second, and of the lines left out.
#[derive(Debug, Default)]
struct Window {
    second: u64,
    /// The number of ordinary lines that were admitted in this second.
    ordinary: u64,
    /// The number of all lines that were admitted in this second.
    all: u64,
    untold: LeftOut,
}

/// The counts of lines that were left out and not reported yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// The number of all lines that were left out.
    pub(super) all: u64,
    /// The number of these lines that were about failures.
    pub(super) failures: u64,
}

impl Rate {
    /// Sets the most lines in a second from now on; 0: no bound.
    pub(super) fn set(&self, most: u64) {
        self.most.store(most, Relaxed);
    }

    /// True if a line may be written in this second, counted from any fixed moment; a line that may not is counted as
    /// left out.
    pub(super) fn admits(&self, line: Line, second: u64) -> bool {
        match self.most.load(Relaxed) {
            0 => true,
            most => self.lock().admits(line, most, second),
        }
    }

    /// Returns the counts of the lines that were left out since the last call.
    pub(super) fn take_left_out(&self) -> LeftOut {
        std::mem::take(&mut self.lock().untold)
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// True if a line may be written in this second, of which `most` may be; counts it as admitted or as left out.
    fn admits(&mut self, line: Line, most: u64, second: u64) -> bool {
        if self.second != second {
            (self.second, self.ordinary, self.all) = (second, 0, 0);
        }
        let ordinary = line == Line::Ordinary;
        let admitted = self.all < most && !(ordinary && self.ordinary >= most - most / 2);
        if admitted {
            self.all += 1;
            self.ordinary += u64::from(ordinary);
        } else {
            self.untold.all += 1;
            self.untold.failures += u64::from(!ordinary);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(rate: &Rate, line: Line, count: usize, second: u64) -> usize {
        (0..count).filter(|_| rate.admits(line, second)).count()
    }

    fn rate(most: u64) -> Rate {
        let rate = Rate::default();
        rate.set(most);
        rate
    }

    #[test]
    fn fault_26_ordinary_lines_leave_half_of_each_second_to_failures() {
        let rate = rate(10);
        for second in [3, 4, 2] {
            assert_eq!(admitted(&rate, Line::Ordinary, 100, second), 5);
            assert_eq!(admitted(&rate, Line::Failure, 100, second), 5);
            assert_eq!(admitted(&rate, Line::Ordinary, 1, second), 0);
            assert_eq!(rate.take_left_out(), LeftOut { all: 191, failures: 95 });
        }
        assert_eq!(rate.take_left_out(), LeftOut::default());
    }

    #[test]
    fn fault_26_failures_alone_have_all_of_it() {
        let (rate, single) = (rate(10), rate(1));
        assert_eq!(admitted(&rate, Line::Failure, 100, 1), 10);
        assert_eq!(admitted(&rate, Line::Ordinary, 1, 1), 0);
        assert_eq!(admitted(&single, Line::Ordinary, 9, 1), 1);
    }

    #[test]
    fn fault_26_zero_is_no_bound_and_another_bound_holds_at_once() {
        let rate = rate(0);
        assert_eq!(admitted(&rate, Line::Ordinary, 5_000, 1), 5_000);
        rate.set(4);
        assert_eq!(admitted(&rate, Line::Ordinary, 10, 1), 2);
    }
}
