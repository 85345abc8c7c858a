//! The demo's result: both ways of sending side by side, the time saved, and its meaning.

use std::{fmt, time::Duration};

use super::origin::Seen;
use crate::{
    pool::Reuse,
    tls::{Handshake, Version},
    upstream::Upstream,
};

/// The result of one way of sending the requests: straight, or through Warmline.
#[derive(Debug, Clone)]
pub struct Way {
    /// The origin's counts of these requests.
    pub seen: Seen,
    /// The time that each request took.
    pub times: Vec<Duration>,
}

/// Warmline's own counts: checkouts from the pool, and handshakes.
#[derive(Debug, Clone, Default)]
pub struct OwnCount {
    checkouts: Vec<(Reuse, u64)>,
    handshakes: Vec<((Handshake, Version), u64)>,
}

/// The whole result. Its text is the table and its meaning, at most 80 columns wide.
#[derive(Debug, Clone)]
pub struct Report {
    /// The round trip of the simulated network before the origin; zero: there is no network.
    pub round_trip: Duration,
    /// The result without Warmline.
    pub straight: Way,
    /// The result through Warmline.
    pub through: Way,
    /// Warmline's own counts of the latter.
    pub own: OwnCount,
}

impl OwnCount {
    /// Returns the upstream's counts since its start; zeros are left out.
    pub fn of(upstream: &Upstream) -> Self {
        let checkouts = &upstream.pool().counters().checkouts;
        let handshakes = &upstream.counters().handshakes;
        Self {
            checkouts: checkouts.iter().filter(|(_, count)| *count > 0).collect(),
            handshakes: handshakes.iter().filter(|(_, count)| *count > 0).collect(),
        }
    }
}

impl Way {
    /// Returns the number of requests that needed no connection of their own.
    fn reused(&self) -> u64 {
        self.seen.requests.saturating_sub(self.seen.connections)
    }

    fn total(&self) -> Duration {
        self.times.iter().sum()
    }

    fn slowest(&self) -> Duration {
        self.times.iter().max().copied().unwrap_or_default()
    }

    /// Returns the median; of an even number of times, the upper of the two in the middle.
    fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_table(f)?;
        self.write_saving(f)?;
        self.write_meaning(f)?;
        self.write_network(f)
    }
}

impl Report {
    /// Writes the table of counts and times, a column for each way.
    fn write_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b) = (&self.straight, &self.through);
        row(f, "", "straight", "through Warmline")?;
        count(f, "requests", a.seen.requests, b.seen.requests)?;
        count(f, "connections that the origin saw", a.seen.connections, b.seen.connections)?;
        count(f, "  full TLS handshakes", a.seen.full, b.seen.full)?;
        count(f, "  resumed TLS handshakes", a.seen.resumed, b.seen.resumed)?;
        count(f, "requests that reused a connection", a.reused(), b.reused())?;
        time(f, "time of a request, median", a.median(), b.median())?;
        time(f, "time of a request, slowest", a.slowest(), b.slowest())?;
        time(f, "time of all requests", a.total(), b.total())
    }

    /// Writes the time saved in all and per request, or how much longer it took, and Warmline's own counts.
    fn write_saving(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (self.straight.total(), self.through.total());
        let requests = u32::try_from(self.through.times.len()).unwrap_or(u32::MAX).max(1);
        match before.checked_sub(after) {
            Some(saved) => writeln!(
                f,
                "\n  Saved: {} in all, {} per request.",
                milliseconds(saved),
                milliseconds(saved / requests)
            ),
            None => writeln!(
                f,
                "\n  Nothing saved this time: {} more in all. Is the machine busy?",
                milliseconds(after.abs_diff(before))
            ),
        }?;
        writeln!(f, "{}", self.own)
    }

    /// Writes the sentences that explain the difference between the two ways.
    fn write_meaning(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { requests, connections, .. } = self.through.seen;
        writeln!(
            f,
            "Straight, each request connected, shook hands and proved who it was before its\n\
             first byte. Through Warmline {connections} of {requests} did; the others went over a connection that\n\
             was warm already. The application changed nothing but the address: it speaks\n\
             plain HTTP to localhost, and holds neither certificate nor key.\n"
        )
    }

    /// Writes the sentences about the simulated network, or about the lack of one.
    fn write_network(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.round_trip.is_zero() {
            return writeln!(
                f,
                "No network lies in between, so only computing time is saved here. Over a network\n\
                 each new connection costs two round trips more: try --round-trip 20ms."
            );
        }
        writeln!(
            f,
            "The network's {:?} are simulated; handshakes, certificates and counts are real.\n\
             On a new connection a request waits for three of them (TCP, TLS, itself), on a\n\
             warm one for one. --round-trip 0 shows what is saved without a network.",
            self.round_trip
        )
    }
}

impl fmt::Display for OwnCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checkouts = self.checkouts.iter().map(|(reuse, count)| match reuse {
            Reuse::Reused => format!("{count} reused"),
            reason => format!("{count} new (reason: {reason})"),
        });
        let handshakes = self.handshakes.iter();
        let handshakes = handshakes
            .map(|((outcome, version), count)| format!("{count} {outcome} (TLS {version})"));
        let [checkouts, handshakes] =
            [checkouts.collect::<Vec<_>>(), handshakes.collect()].map(|parts| parts.join(", "));
        writeln!(f, "  Warmline's own count: {checkouts}.\n  Its handshakes: {handshakes}.")
    }
}

fn count(f: &mut fmt::Formatter<'_>, label: &str, straight: u64, through: u64) -> fmt::Result {
    row(f, label, &straight.to_string(), &through.to_string())
}

/// Writes a line of the table with two durations in milliseconds.
fn time(
    f: &mut fmt::Formatter<'_>,
    label: &str,
    straight: Duration,
    through: Duration,
) -> fmt::Result {
    row(f, label, &milliseconds(straight), &milliseconds(through))
}

fn row(f: &mut fmt::Formatter<'_>, label: &str, straight: &str, through: &str) -> fmt::Result {
    writeln!(f, "  {label:<35}{straight:>16}{through:>20}")
}

/// Returns a time in milliseconds with three digits or more, such as `0.31 ms`, `21.7 ms` or `2571 ms`.
fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    let decimals = match milliseconds {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{milliseconds:.decimals$} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(round_trip: u64, straight: &[u64], through: &[u64]) -> Report {
        let way = |connections, times: &[u64]| Way {
            seen: Seen { connections, full: connections, resumed: 0, requests: times.len() as u64 },
            times: times.iter().map(|us| Duration::from_micros(*us)).collect(),
        };
        Report {
            round_trip: Duration::from_millis(round_trip),
            straight: way(straight.len() as u64, straight),
            through: way(1, through),
            own: OwnCount {
                checkouts: vec![(Reuse::Reused, 39), (Reuse::First, 1)],
                handshakes: vec![((Handshake::Full, Version::Tls13), 1)],
            },
        }
    }

    fn forty(first: u64, others: u64) -> Vec<u64> {
        let mut times = vec![others; 40];
        times[0] = first;
        times
    }

    #[test]
    fn the_table_shows_both_ways_and_says_what_they_mean() {
        let report = report(20, &forty(66_400, 64_250), &forty(66_300, 21_740));
        insta::assert_snapshot!(report, @r"
                                                 straight    through Warmline
      requests                                         40                  40
      connections that the origin saw                  40                   1
        full TLS handshakes                            40                   1
        resumed TLS handshakes                          0                   0
      requests that reused a connection                 0                  39
      time of a request, median                   64.2 ms             21.7 ms
      time of a request, slowest                  66.4 ms             66.3 ms
      time of all requests                        2572 ms              914 ms

      Saved: 1658 ms in all, 41.4 ms per request.
      Warmline's own count: 39 reused, 1 new (reason: first).
      Its handshakes: 1 full (TLS 1.3).

    Straight, each request connected, shook hands and proved who it was before its
    first byte. Through Warmline 1 of 40 did; the others went over a connection that
    was warm already. The application changed nothing but the address: it speaks
    plain HTTP to localhost, and holds neither certificate nor key.

    The network's 20ms are simulated; handshakes, certificates and counts are real.
    On a new connection a request waits for three of them (TCP, TLS, itself), on a
    warm one for one. --round-trip 0 shows what is saved without a network.
    ");
    }

    #[test]
    fn without_a_network_small_times_keep_their_digits_and_the_text_says_what_is_missing() {
        let report = report(0, &forty(4_100, 1_730), &forty(2_204, 312));
        insta::assert_snapshot!(report, @r"
                                                 straight    through Warmline
      requests                                         40                  40
      connections that the origin saw                  40                   1
        full TLS handshakes                            40                   1
        resumed TLS handshakes                          0                   0
      requests that reused a connection                 0                  39
      time of a request, median                   1.73 ms             0.31 ms
      time of a request, slowest                  4.10 ms             2.20 ms
      time of all requests                        71.6 ms             14.4 ms

      Saved: 57.2 ms in all, 1.43 ms per request.
      Warmline's own count: 39 reused, 1 new (reason: first).
      Its handshakes: 1 full (TLS 1.3).

    Straight, each request connected, shook hands and proved who it was before its
    first byte. Through Warmline 1 of 40 did; the others went over a connection that
    was warm already. The application changed nothing but the address: it speaks
    plain HTTP to localhost, and holds neither certificate nor key.

    No network lies in between, so only computing time is saved here. Over a network
    each new connection costs two round trips more: try --round-trip 20ms.
    ");
    }

    #[test]
    fn a_loss_is_not_called_a_saving() {
        let text = report(0, &forty(1_000, 1_000), &forty(1_000, 2_000)).to_string();
        assert!(text.contains("Nothing saved this time: 39.0 ms more in all."), "{text}");
        assert!(!text.contains("Saved:"), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let slow = forty(9_999_999, 9_999_999);
        for report in [report(500, &slow, &slow), report(0, &slow, &[1; 40])] {
            let text = report.to_string();
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
    }
}
