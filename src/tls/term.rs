//! The nearness of a client certificate's end.

use std::time::{Duration, SystemTime};

use super::Identity;

const DAY: Duration = Duration::from_hours(24);

/// The nearness of the end of a client certificate, in the order of time. A certificate that lasts a short time is
/// renewed in its last hours, so that a near end also is one of a small part of the certificate's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Term {
    /// There is time.
    Far,
    /// At most 14 days are left, and a fifth of its life.
    Near,
    /// At most 3 days are left, and a twentieth of its life.
    VeryNear,
    /// The certificate has expired.
    Over,
}

impl Term {
    /// Returns the nearness of the end of Warmline's own certificate.
    #[must_use]
    pub fn of(identity: &Identity, now: SystemTime) -> Self {
        Self::between(identity.not_before(), identity.not_after(), now)
    }

    /// Returns the nearness of the end of a certificate that is valid between these moments.
    fn between(begin: SystemTime, end: SystemTime, now: SystemTime) -> Self {
        let life = end.duration_since(begin).unwrap_or_default();
        match end.duration_since(now) {
            Err(_) => Self::Over,
            Ok(left) if left <= (3 * DAY).min(life / 20) => Self::VeryNear,
            Ok(left) if left <= (14 * DAY).min(life / 5) => Self::Near,
            Ok(_) => Self::Far,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_near_by_days_and_for_a_short_life_by_its_part() {
        let begin = SystemTime::UNIX_EPOCH;
        for (life, near, very_near) in [
            (365 * DAY, 14 * DAY, 3 * DAY),
            (90 * DAY, 14 * DAY, 3 * DAY),
            (DAY, DAY / 5, DAY / 20),
        ] {
            let end = begin + life;
            let second = Duration::from_secs(1);
            for (left, term) in [
                (near + second, Term::Far),
                (near, Term::Near),
                (very_near + second, Term::Near),
                (very_near, Term::VeryNear),
                (Duration::ZERO, Term::VeryNear),
            ] {
                assert_eq!(Term::between(begin, end, end - left), term, "{life:?} {left:?}");
            }
            assert_eq!(Term::between(begin, end, end + second), Term::Over);
        }
    }
}
