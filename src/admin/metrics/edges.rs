//! Metrics that belong to no upstream: the ends of connections, the configuration, the build, the process.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::proto::MetricFamily;

use super::{
    super::snapshot::Snapshot,
    family::{Labels, counters, gauges, labels},
};
use crate::{config::Outcome, telemetry::Counts};

/// Returns the families that belong to no upstream: ends of connections, shortages, the configuration and its reloads,
/// the version, and the process.
pub(super) fn families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let configuration = &snapshot.configuration;
    let mut families = vec![
        ends(snapshot),
        shortages(snapshot),
        gauges(
            "warmline_config_last_reload_successful",
            "1 while the newest configuration is the one in force, 0 while an invalid one was left aside.",
            [(Labels::new(), f64::from(u8::from(configuration.is_newest())))],
        ),
        gauges(
            "warmline_identity_last_reload_successful",
            "1 while every certificate, key and trust in force is as its files have it now, 0 while one of them could not be used.",
            [(Labels::new(), f64::from(u8::from(configuration.has_newest_credentials())))],
        ),
        outcomes(
            "warmline_config_reloads_total",
            "Changed configurations, by the result: applied or rejected.",
            &configuration.reloads,
        ),
        outcomes(
            "warmline_identity_reloads_total",
            "Changed certificates, keys and trust files, by the result: applied or rejected.",
            &configuration.credentials,
        ),
        gauges(
            "warmline_config_info",
            "The configuration in force: the hash of its text, and where it came from.",
            [(
                labels([("hash", configuration.hash()), ("source", configuration.source.as_str())]),
                1.0,
            )],
        ),
        gauges(
            "warmline_config_applied_timestamp_seconds",
            "The time since which the configuration is in force, in Unix time.",
            [(Labels::new(), unix_seconds(configuration.in_force.since))],
        ),
        gauges(
            "warmline_config_watch_connected",
            "1 while the ConfigMap is watched, 0 while the API server cannot be reached or refuses; absent where none is to be watched.",
            configuration
                .watch
                .iter()
                .map(|contact| (Labels::new(), f64::from(u8::from(contact.is_ok())))),
        ),
        gauges(
            "warmline_build_info",
            "The version of Warmline.",
            [(labels([("version", env!("CARGO_PKG_VERSION"))]), 1.0)],
        ),
    ];
    families.extend(process(snapshot));
    families
}

/// Makes the counters of a reload's outcomes. They exist from the start, because an alert on a rate needs the zero
/// before the first increment.
fn outcomes(name: &str, help: &str, counts: &Counts<Outcome>) -> MetricFamily {
    let each = counts.iter();
    counters(
        name,
        help,
        each.map(|(outcome, count)| (labels([("result", outcome.as_str())]), *count as f64)),
    )
}

/// Makes the counters of ended connections by side and manner. A combination exists from its first count on.
fn ends(snapshot: &Snapshot) -> MetricFamily {
    let ended = snapshot.ends.iter().filter(|(_, count)| *count > 0);
    counters(
        "warmline_connection_ends_total",
        "Ended connections: politely (FIN, over TLS after close_notify), truncated (without, or in the middle of something) or reset.",
        ended.map(|((side, how), count)| {
            (labels([("side", side.as_str()), ("how", how.as_str())]), *count as f64)
        }),
    )
}

/// Makes the counters of shortages. They exist from the start, for alerts on a rate.
fn shortages(snapshot: &Snapshot) -> MetricFamily {
    let each = snapshot.shortages.iter();
    counters(
        "warmline_shortages_total",
        "The number of times that a limit of the whole process acted, by the resource that was used up.",
        each.map(|(resource, count)| (labels([("resource", resource.as_str())]), *count as f64)),
    )
}

/// Makes the metrics of the process. Names and meanings are those of every Prometheus client library, and so lack the
/// prefix `warmline_`.
fn process(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let process = &snapshot.process;
    let one = |value: Option<f64>| value.map(|value| (Labels::new(), value));
    let count = |value: Option<u64>| one(value.map(|value| value as f64));
    vec![
        counters(
            "process_cpu_seconds_total",
            "User and system CPU time of the process, in seconds.",
            one(process.cpu_seconds),
        ),
        gauges(
            "process_resident_memory_bytes",
            "Resident memory, in bytes.",
            count(process.resident_memory),
        ),
        gauges(
            "process_virtual_memory_bytes",
            "Virtual memory, in bytes.",
            count(process.virtual_memory),
        ),
        gauges("process_open_fds", "Open file descriptors.", count(process.open_fds)),
        gauges("process_max_fds", "The limit on open file descriptors.", count(process.max_fds)),
        gauges(
            "process_start_time_seconds",
            "The start time of the process, in Unix time.",
            one(Some(unix_seconds(snapshot.started))),
        ),
    ]
}

/// Returns a point in time in seconds since 1970, Prometheus' form.
pub(super) fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
