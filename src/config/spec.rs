//! The document: every key that users may write, with the kind of its value. Every key may be left out here; `compile`
//! reports the required ones with place and remedy. The doc comments of this file's types and fields are the
//! descriptions in the JSON Schema.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    kind::{
        AccessKind, Bytes, Count, FieldName, Flag, FormatKind, HeaderCaseKind, KeyExchangeKind,
        LevelKind, MaxIdle, MinVersionKind, Percent, PositiveTime, ReuseKind, Time,
    },
    name::{
        BindAddress, EndpointAddress, FilePath, Host, ServerNameKind, UpstreamName, VerifyName,
    },
    written::{Placed, Written},
};

/// The largest number of connections, waiters and the like that makes sense on one machine.
pub(super) const MANY: usize = 1_000_000;
/// The size of hyper's smallest read buffer, in bytes.
const KIB_8: usize = 8 * 1024;
const MIB: usize = 1024 * 1024;

/// A configuration of Warmline, a sidecar for outbound calls.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(title = "Warmline", extend("required" = ["upstreams"]))]
pub(super) struct Document {
    /// Worker threads.
    pub(super) threads: Option<Written<Count<1, 64>>>,
    /// The log, on standard error.
    pub(super) log: Option<Log>,
    /// Where metrics and health are served.
    pub(super) metrics: Option<Edge>,
    /// Where administration is served; loopback only.
    pub(super) admin: Option<Edge>,
    /// How long requests in flight may take to end once the process is told to stop; 0 aborts
    /// them.
    pub(super) drain: Option<Written<Time>>,
    /// When `/readyz` says that traffic may come.
    pub(super) readiness: Option<Readiness>,
    /// Where applications come in.
    pub(super) listeners: Option<Placed<Vec<Placed<Listener>>>>,
    /// The destinations; at least one.
    pub(super) upstreams: Option<Placed<Vec<Placed<Upstream>>>>,
}

/// The log, on standard error.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Log {
    /// JSON lines, or text for people. Default: json; on a terminal text.
    pub(super) format: Option<Written<FormatKind>>,
    /// The least severe event that is logged.
    pub(super) level: Option<Written<LevelKind>>,
    /// Which requests get a line. Default: errors; on a terminal all.
    pub(super) access: Option<Written<AccessKind>>,
    /// The most access lines in a second, of which failures have half to themselves; the others are counted, and told
    /// in one line. 0: no bound.
    pub(super) access_rate: Option<Written<Count<0, MANY>>>,
}

/// Addresses of an edge that is not for traffic.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Edge {
    /// Addresses with ports.
    pub(super) bind: Option<Placed<Vec<Written<BindAddress>>>>,
}

/// When `/readyz` says that traffic may come.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Readiness {
    /// Upstreams without whose warm connections (`pool.minIdle`) the start is not over. Others are
    /// waited for no longer than 5 s.
    pub(super) require_upstreams: Option<Placed<Vec<Written<UpstreamName>>>>,
}

/// Where applications come in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Listener {
    /// Addresses with ports; loopback only, unless `allowNonLoopback` is set.
    pub(super) bind: Option<Placed<Vec<Written<BindAddress>>>>,
    /// Whoever reaches the address can call the upstreams with our identity.
    pub(super) allow_non_loopback: Option<Written<Flag>>,
    /// Each answer's head says in `Proxy-Status` what connection it came by, and why that one.
    pub(super) explain: Option<Written<Flag>>,
    /// Bounds on what the application may send and hold.
    pub(super) limits: Option<Limits>,
}

/// Bounds on what the application may send and hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Limits {
    /// Size of a request's header section.
    pub(super) header_bytes: Option<Written<Bytes<KIB_8, MIB>>>,
    /// Number of fields in a request's header section.
    pub(super) header_fields: Option<Written<Count<1, 10_000>>>,
    /// From the first byte of a header section to its end.
    pub(super) header_timeout: Option<Written<PositiveTime>>,
    /// How long a client connection may be idle between requests.
    pub(super) idle_timeout: Option<Written<PositiveTime>>,
    /// Client connections at once; the highest number of all listeners holds for all listeners and own ports together, too.
    /// Above it no more are accepted.
    pub(super) connections: Option<Written<Count<1, MANY>>>,
}

/// One named destination.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline, extend("required" = ["name", "endpoints"]))]
pub(super) struct Upstream {
    /// The label in metrics and logs.
    pub(super) name: Option<Written<UpstreamName>>,
    /// Hosts that route here, "*" for all others. Default: the endpoint's host.
    pub(super) hosts: Option<Placed<Vec<Written<Host>>>>,
    /// A loopback port of its own, where any Host is taken; 0 is a free port.
    pub(super) port: Option<Written<Count<0, 65_535>>>,
    /// Where to dial: exactly one `HOST:PORT` in this version.
    #[schemars(length(equal = 1))]
    pub(super) endpoints: Option<Placed<Vec<Written<EndpointAddress>>>>,
    /// How the upstream is verified, and what we show it.
    pub(super) tls: Option<Tls>,
    /// The pool of connections.
    pub(super) pool: Option<Pool>,
    /// Bounds on each stage of a request.
    pub(super) timeouts: Option<Timeouts>,
    /// Retries, only where nothing can be done twice.
    pub(super) retries: Option<Retries>,
    /// The case of field names: as their senders wrote them, lower, or `Content-Length` upwards.
    pub(super) header_case: Option<Written<HeaderCaseKind>>,
}

/// How the upstream is verified, and what we show it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Tls {
    /// The name sent as SNI; "none" sends none. Default: the endpoint's host, if it is a name.
    pub(super) server_name: Option<Written<ServerNameKind>>,
    /// The name or address that the certificate must carry. Default: `serverName`, else the
    /// endpoint's host.
    pub(super) verify_name: Option<Written<VerifyName>>,
    /// PEM file: CA certificates, or the server's own self-signed one. Default: the system's
    /// roots.
    pub(super) trust: Option<Written<FilePath>>,
    /// Client certificate; leave out for one-way TLS.
    pub(super) identity: Option<Placed<Identity>>,
    /// The lowest TLS version that is spoken.
    pub(super) min_version: Option<Written<MinVersionKind>>,
    /// Sessions are resumed; false: each handshake is a full one.
    pub(super) resumption: Option<Written<Flag>>,
    /// The groups that keys are agreed with: the hybrid (post-quantum) one first, and a smaller message
    /// where that gets no answer; without it; or the hybrid one first, whatever comes of it.
    pub(super) key_exchange: Option<Written<KeyExchangeKind>>,
}

/// Client certificate: `certificate` and `key`, or `bundle`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Identity {
    /// PEM file: our certificate, then its chain.
    pub(super) certificate: Option<Written<FilePath>>,
    /// PEM file: the private key in PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub(super) key: Option<Written<FilePath>>,
    /// One PEM file with key and chain, in any order.
    pub(super) bundle: Option<Written<FilePath>>,
}

/// The pool of connections, per upstream.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Pool {
    /// When a request may take an idle connection.
    pub(super) reuse: Option<Written<ReuseKind>>,
    /// The strict cap: connecting, in use, idle and closing together.
    pub(super) max_connections: Option<Written<Count<1, MANY>>>,
    /// How many may be idle: -1 unlimited, 0 none.
    pub(super) max_idle: Option<Written<MaxIdle>>,
    /// How many are kept idle for requests to come, verified before ready and replaced when they end.
    pub(super) min_idle: Option<Written<Count<0, MANY>>>,
    /// The period of the purge rule; 0 keeps none idle.
    pub(super) purge_delay: Option<Written<Time>>,
    /// How long one may be idle; 0: no limit.
    pub(super) idle_timeout: Option<Written<Time>>,
    /// How old one may become, with jitter; 0: no limit.
    pub(super) max_age: Option<Written<Time>>,
    /// Requests per connection; 0: no limit.
    pub(super) max_requests: Option<Written<Count<0, 1_000_000_000>>>,
    /// Requests that may wait at the cap.
    pub(super) max_queue: Option<Written<Count<0, MANY>>>,
    /// How long one may wait at the cap.
    pub(super) queue_timeout: Option<Written<PositiveTime>>,
    /// A request field, such as `Priority`, whose urgency (RFC 9218: `u=0` first, `u=7` last) orders
    /// those that wait; off: first come, first served.
    pub(super) priority: Option<Written<FieldName>>,
    /// How long requests in flight may stay on connections of a replaced certificate, key or trust.
    pub(super) rotation_deadline: Option<Written<Time>>,
}

/// Bounds on each stage of a request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Timeouts {
    /// Name and TCP, all addresses of one attempt.
    pub(super) connect: Option<Written<PositiveTime>>,
    /// The TLS handshake.
    pub(super) handshake: Option<Written<PositiveTime>>,
    /// From the whole request written to the end of the final header section.
    pub(super) response: Option<Written<PositiveTime>>,
    /// No byte either way during a body.
    pub(super) idle: Option<Written<PositiveTime>>,
}

/// Retries, only where nothing can be done twice.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Retries {
    /// Retries after the first try.
    pub(super) max: Option<Written<Count<0, 100>>>,
    /// All retries together: a share of the requests, and never less than 3 a second.
    pub(super) budget: Option<Written<Percent>>,
    /// A POST or PATCH with an `Idempotency-Key` field may be sent twice.
    pub(super) idempotency_key: Option<Written<Flag>>,
}
