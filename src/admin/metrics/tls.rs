//! The families `tls_*`, and the expiry of certificates.

use std::time::SystemTime;

use prometheus::proto::MetricFamily;

use super::{
    super::{
        expiry::Expiry,
        snapshot::{Snapshot, UpstreamSnapshot},
    },
    counted, edges, every,
    family::{Labels, counters, gauges, histograms, labels},
};

/// Returns the families about TLS: handshakes, refused certificates of upstreams, and the expiry of client certificates
/// and trust, for each upstream.
pub(super) fn families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let upstreams = &snapshot.upstreams;
    vec![
        counters(
            "warmline_tls_handshakes_total",
            "TLS handshakes: full, resumed, refused (a session was offered, the upstream made a full one) or failed.",
            counted(
                upstreams,
                |u| &u.counters.handshakes,
                |upstream, (result, version)| {
                    let (result, version) = (result.as_str(), version.as_str());
                    labels([("upstream", upstream), ("result", result), ("version", version)])
                },
            ),
        ),
        histograms(
            "warmline_tls_handshake_seconds",
            "The duration of finished TLS handshakes, in seconds.",
            upstreams
                .iter()
                .map(|u| (labels([("upstream", &u.name)]), &u.counters.handshake_seconds)),
        ),
        counters(
            "warmline_tls_verify_failures_total",
            "Certificates of the upstream that were refused, by the reason.",
            every(
                upstreams,
                |u| &u.counters.verify_failures,
                |upstream, reason| labels([("upstream", upstream), ("reason", reason.as_str())]),
            ),
        ),
        gauges(
            "warmline_client_certificate_expiry_timestamp_seconds",
            "The expiry of the client certificate for the upstream (its notAfter), in Unix time.",
            expiries(upstreams, |expiry| expiry.identity),
        ),
        gauges(
            "warmline_client_certificate_not_before_timestamp_seconds",
            "The time from which the client certificate for the upstream is valid (its notBefore), in Unix time.",
            expiries(upstreams, |expiry| expiry.identity_began),
        ),
        gauges(
            "warmline_trust_expiry_timestamp_seconds",
            "The earliest expiry of the certificates in the upstream's trust (notAfter), in Unix time; none for the system's roots.",
            expiries(upstreams, |expiry| expiry.trust),
        ),
    ]
}

/// Returns a sample for each upstream that has this point in time (`when`), in seconds since 1970. Upstreams without it
/// have no sample.
fn expiries(
    upstreams: &[UpstreamSnapshot],
    when: impl Fn(&Expiry) -> Option<SystemTime>,
) -> Vec<(Labels, f64)> {
    let expiry = |u: &UpstreamSnapshot| {
        when(&u.expiry).map(|when| (labels([("upstream", &u.name)]), edges::unix_seconds(when)))
    };
    upstreams.iter().filter_map(expiry).collect()
}
