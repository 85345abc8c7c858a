//! Every default of the configuration. `example.yaml` writes each of them out, and a test compares the two.

use std::time::Duration;

use crate::{
    config::plan::{Bind, ListenerLimits},
    connect, pool,
    telemetry::log::{Access, Format, Level},
    tls::{KeyExchange, MinVersion, Policy},
    upstream::Retries,
};

pub(super) const THREADS: usize = 1;
pub(super) const DRAIN: Duration = Duration::from_secs(25);

/// Metrics and health: every address of the pod, IPv4 too.
pub(super) const METRICS_BIND: &[&str] = &["[::]:13320"];
/// Administration: loopback only.
pub(super) const ADMIN_BIND: &[&str] = &["127.0.0.1:13321"];
/// Traffic: both loopback families, because many machines resolve `localhost` to `::1` first.
pub(super) const LISTENER_BIND: &[&str] = &["127.0.0.1:13301", "[::1]:13301"];

pub(super) const LOG_LEVEL: Level = Level::Info;
/// The format if standard error is not a terminal, for programs that read logs.
pub(super) const LOG_FORMAT: Format = Format::Json;
pub(super) const LOG_ACCESS: Access = Access::Errors;
pub(super) const ACCESS_RATE: usize = 1000;
/// The format if standard error is a terminal, for people.
pub(super) const TERMINAL_LOG_FORMAT: Format = Format::Text;
pub(super) const TERMINAL_LOG_ACCESS: Access = Access::All;

pub(super) const EXPLAIN: bool = false;

pub(super) const LISTENER_LIMITS: ListenerLimits = ListenerLimits {
    header_bytes: 32 * 1024,
    header_fields: 100,
    header_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_mins(5),
    connections: 4096,
};

pub(super) const MIN_VERSION: MinVersion = MinVersion::Tls12;
pub(super) const TLS_POLICY: Policy = Policy { resumption: true, key_exchange: KeyExchange::Auto };

pub(super) const POOL: pool::Settings = pool::Settings {
    sharing: pool::Sharing::Always,
    max_connections: 100,
    max_idle: None,
    min_idle: 0,
    purge_delay: Duration::from_secs(30),
    idle_timeout: Duration::from_secs(55),
    max_age: Duration::from_hours(1),
    max_requests: None,
    max_queue: 1024,
    queue_timeout: Duration::from_secs(5),
};

pub(super) const CONNECT: connect::Limits =
    connect::Limits { connect: Duration::from_secs(5), handshake: Duration::from_secs(5) };
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

pub(super) const HEADER_CASE: connect::HeaderCase = connect::HeaderCase::Lower;

pub(super) const ROTATION_DEADLINE: Duration = Duration::from_mins(5);

pub(super) const RETRIES: Retries = Retries { max: 2, budget: 20, idempotency_key: false };

/// Makes default addresses, not marked as written by the user.
pub(super) fn binds(addresses: &[&str]) -> Vec<Bind> {
    let parse = |text: &&str| text.parse().expect("the defaults are addresses; a test reads them");
    addresses.iter().map(|text| Bind { address: parse(text), written: false }).collect()
}
