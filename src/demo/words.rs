//! The demo's texts before and after its table, for readers who see Warmline for the first time.

use std::{fmt, net::SocketAddr, time::Duration};

use super::ORIGIN;

/// The text before the table: what is going to happen, and at which addresses.
#[derive(Debug, Clone, Copy)]
pub struct Introduction {
    /// The address at which Warmline takes traffic.
    pub traffic: SocketAddr,
    /// The address of the origin.
    pub origin: SocketAddr,
    /// The round trip of the simulated network before the origin; zero: there is no network.
    pub round_trip: Duration,
    /// The number of requests that are sent straight, and again through Warmline.
    pub requests: usize,
}

/// The text after the table: what to try while the demo goes on serving.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// The name that this program was started by, which a shell finds.
    pub program: String,
    /// The address at which Warmline takes traffic.
    pub traffic: SocketAddr,
    /// The address of metrics and health.
    pub metrics: SocketAddr,
    /// The address of administration.
    pub admin: SocketAddr,
    /// The address of the origin.
    pub origin: SocketAddr,
}

impl fmt::Display for Introduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (traffic, origin) = (self.traffic.to_string(), self.origin.to_string());
        writeln!(
            f,
            "Warmline: plain HTTP on localhost goes in, and comes out over a warm pool of\n\
             verified mutual-TLS connections.\n\n  \
             application ---- HTTP ----> Warmline ---- mutual TLS ----> {ORIGIN}\n\
             {:30}{traffic:<31}{origin}\n\n\
             All three run in this process; nothing is configured, nothing written to disk.\n\
             {ORIGIN} serves only clients that show a certificate of an authority made a\n\
             moment ago, in memory; Warmline holds such a certificate.",
            ""
        )?;
        if !self.round_trip.is_zero() {
            writeln!(
                f,
                "Before {ORIGIN} lies a simulated network of {:?} a round trip.",
                self.round_trip
            )?;
        }
        writeln!(
            f,
            "\n{} requests, one after another, each from a client that connects, asks once and\n\
             closes: first straight to {ORIGIN}, then through Warmline ...\n",
            self.requests
        )
    }
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, traffic, metrics, admin, origin } = self;
        let lines = [
            (format!("curl http://{traffic}/"), "what the application does"),
            (format!("curl http://{admin}/pools"), "each connection, and why"),
            (format!("curl http://{metrics}/metrics"), "for Prometheus"),
            (format!("curl -k https://{origin}/"), "refused: no certificate"),
        ];
        writeln!(f, "\nStill serving; each request is logged below. In another terminal, try:\n")?;
        for (line, what) in lines {
            writeln!(f, "  {line:<44}  {what}")?;
        }
        writeln!(
            f,
            "\nCtrl-C ends it politely. A configuration to start from is printed by\n  {program} check --example\n"
        )
    }
}

/// Returns a line about a usual port that another process has.
pub fn port_taken(usual: SocketAddr, instead: SocketAddr) -> String {
    format!("{usual} is taken (perhaps by another Warmline); {instead} takes its place.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn the_introduction_shows_who_talks_to_whom() {
        let introduction = Introduction {
            traffic: at(13301),
            origin: at(40123),
            round_trip: Duration::from_millis(20),
            requests: 40,
        };
        insta::assert_snapshot!(introduction, @r"
    Warmline: plain HTTP on localhost goes in, and comes out over a warm pool of
    verified mutual-TLS connections.

      application ---- HTTP ----> Warmline ---- mutual TLS ----> demo.example
                                  127.0.0.1:13301                127.0.0.1:40123

    All three run in this process; nothing is configured, nothing written to disk.
    demo.example serves only clients that show a certificate of an authority made a
    moment ago, in memory; Warmline holds such a certificate.
    Before demo.example lies a simulated network of 20ms a round trip.

    40 requests, one after another, each from a client that connects, asks once and
    closes: first straight to demo.example, then through Warmline ...
    ");
    }

    #[test]
    fn the_invitation_names_every_address() {
        let invitation = Invitation {
            program: "target/fast/warmline".into(),
            traffic: at(13301),
            metrics: at(13320),
            admin: at(13321),
            origin: at(40123),
        };
        insta::assert_snapshot!(invitation, @r"

    Still serving; each request is logged below. In another terminal, try:

      curl http://127.0.0.1:13301/                  what the application does
      curl http://127.0.0.1:13321/pools             each connection, and why
      curl http://127.0.0.1:13320/metrics           for Prometheus
      curl -k https://127.0.0.1:40123/              refused: no certificate

    Ctrl-C ends it politely. A configuration to start from is printed by
      target/fast/warmline check --example
    ");
    }
}
