//! Points in time and durations in forms for people.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

pub(super) use crate::telemetry::Moment;

/// A duration in its two largest units: `41s`, `12m 5s`, `3h 12m`, `12d 3h`; or `3.2 years` from 1000 days on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span(pub Duration);

impl Span {
    /// Returns the duration from one moment to a later one; 0 if `to` is the earlier one.
    pub(super) fn between(from: SystemTime, to: SystemTime) -> Self {
        Self(to.duration_since(from).unwrap_or_default())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds}s"),
            (0, 0, _) => write!(f, "{minutes}m {}s", seconds % 60),
            (0, _, _) => write!(f, "{hours}h {}m", minutes % 60),
            (0..1000, _, _) => write!(f, "{days}d {}h", hours % 24),
            _ => write!(f, "{:.1} years", days as f64 / 365.25),
        }
    }
}

/// The time from the first moment to the second, for people: `3s ago`, `just now`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ago(pub SystemTime, pub SystemTime);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Span::between(self.0, self.1) {
            Span(ago) if ago.as_secs() == 0 => f.write_str("just now"),
            ago => write!(f, "{ago} ago"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_moment_in_the_future_is_just_now() {
        let at = UNIX_EPOCH + Duration::from_secs(9);
        assert_eq!(Ago(at, at + Duration::from_secs(61)).to_string(), "1m 1s ago");
        for later in [at, at - Duration::from_secs(5)] {
            assert_eq!(Ago(at, later).to_string(), "just now");
        }
    }

    #[test]
    fn a_span_has_its_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (41, "41s"),
            (725, "12m 5s"),
            (11_520, "3h 12m"),
            (1_047_600, "12d 3h"),
            (100_000_000, "3.2 years"),
        ] {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), text);
        }
    }
}
