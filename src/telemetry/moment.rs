//! Points in time, in the form that people read.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use x509_parser::prelude::ASN1Time;

/// A point in time that is written in UTC, such as `2026-05-01 12:00:00 UTC`.
#[derive(Debug, Clone, Copy)]
pub struct Moment(pub SystemTime);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = unix_seconds(self.0).and_then(|s| ASN1Time::from_timestamp(s).ok());
        let Some(utc) = time.map(|time| time.to_datetime()) else { return f.write_str("?") };
        let (hour, minute, second) = utc.to_hms();
        let (year, month, day) = (utc.year(), u8::from(utc.month()), utc.day());
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

/// Converts a time of a certificate.
impl From<ASN1Time> for Moment {
    fn from(time: ASN1Time) -> Self {
        let seconds = time.timestamp();
        let distance = Duration::from_secs(seconds.unsigned_abs());
        Self(if seconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance })
    }
}

/// Returns the seconds since 1970, negative before it; `None` if they do not fit.
fn unix_seconds(at: SystemTime) -> Option<i64> {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok(),
        Err(before) => i64::try_from(before.duration().as_secs()).ok().map(|seconds| -seconds),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed test is what it is for
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_utc() {
        let at = UNIX_EPOCH + Duration::from_secs(1_927_843_201);
        assert_eq!(Moment(at).to_string(), "2031-02-03 00:00:01 UTC");
    }

    #[test]
    fn a_certificates_time_is_the_same_moment_before_1970_too() {
        for (seconds, text) in
            [(1_927_843_201, "2031-02-03 00:00:01 UTC"), (-1, "1969-12-31 23:59:59 UTC")]
        {
            let time = ASN1Time::from_timestamp(seconds).unwrap();
            assert_eq!(Moment::from(time).to_string(), text);
        }
    }
}
