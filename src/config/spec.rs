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
    /// The number of worker threads.
    pub(super) threads: Option<Written<Count<1, 64>>>,
    /// The log, on standard error.
    pub(super) log: Option<Log>,
    /// The addresses of metrics and health.
    pub(super) metrics: Option<Edge>,
    /// The addresses of administration; loopback only.
    pub(super) admin: Option<Edge>,
    /// The longest time that requests in flight may take to end once the process is told to stop; 0: they are aborted
    /// at once.
    pub(super) drain: Option<Written<Time>>,
    /// The conditions under which `/readyz` reports that the process is ready for traffic.
    pub(super) readiness: Option<Readiness>,
    /// The addresses that applications send their requests to, with the limits there.
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
    /// The requests that get a log line. Default: errors; on a terminal all.
    pub(super) access: Option<Written<AccessKind>>,
    /// The most access lines per second, half of them reserved for failed requests. Requests beyond the limit get no
    /// line of their own; one line tells their number. 0: no limit.
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

/// The conditions under which `/readyz` reports that the process is ready for traffic.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Readiness {
    /// The names of the upstreams whose warm connections (`pool.minIdle`) must be established before `/readyz` reports
    /// ready. The warm connections of other upstreams delay that by 5 s at most.
    pub(super) require_upstreams: Option<Placed<Vec<Written<UpstreamName>>>>,
}

/// A listener: addresses that applications send their requests to, with the limits there.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Listener {
    /// Addresses with ports; loopback only, unless `allowNonLoopback` is set.
    pub(super) bind: Option<Placed<Vec<Written<BindAddress>>>>,
    /// True allows addresses in `bind` that other machines can reach. Every client there can then call the upstreams
    /// with Warmline's client certificates.
    pub(super) allow_non_loopback: Option<Written<Flag>>,
    /// True: the `Proxy-Status` field of each response says which connection the request went over, and why that
    /// connection was taken.
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
    /// The largest size of a request's header section.
    pub(super) header_bytes: Option<Written<Bytes<KIB_8, MIB>>>,
    /// The most fields in a request's header section.
    pub(super) header_fields: Option<Written<Count<1, 10_000>>>,
    /// The longest time from the first byte of a header section to its end.
    pub(super) header_timeout: Option<Written<PositiveTime>>,
    /// The longest time that a client connection may be idle between requests.
    pub(super) idle_timeout: Option<Written<PositiveTime>>,
    /// The most client connections at once; at the limit no more are accepted. The highest limit of all listeners also
    /// holds for all listeners and upstreams' own ports together.
    pub(super) connections: Option<Written<Count<1, MANY>>>,
}

/// A named destination.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline, extend("required" = ["name", "endpoints"]))]
pub(super) struct Upstream {
    /// The label in metrics and logs.
    pub(super) name: Option<Written<UpstreamName>>,
    /// The values of Host whose requests go to this upstream; "*" for all others. Default: the endpoint's host.
    pub(super) hosts: Option<Placed<Vec<Written<Host>>>>,
    /// A loopback port of its own, where any Host is taken; 0 is a free port.
    pub(super) port: Option<Written<Count<0, 65_535>>>,
    /// The address to connect to, as `HOST:PORT`; exactly one in this version.
    #[schemars(length(equal = 1))]
    pub(super) endpoints: Option<Placed<Vec<Written<EndpointAddress>>>>,
    /// TLS to the upstream: its verification, and the client certificate that is shown to it.
    pub(super) tls: Option<Tls>,
    /// The pool of connections.
    pub(super) pool: Option<Pool>,
    /// Bounds on each stage of a request.
    pub(super) timeouts: Option<Timeouts>,
    /// The limits on retries. A request is sent again only if the upstream cannot have received it, or if it is
    /// idempotent.
    pub(super) retries: Option<Retries>,
    /// The case of field names: kept (as the sender wrote them), lower (`content-length`) or title (`Content-Length`).
    pub(super) header_case: Option<Written<HeaderCaseKind>>,
}

/// TLS to the upstream: its verification, and the client certificate that is shown to it.
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
    /// The client certificate; leave out for one-way TLS.
    pub(super) identity: Option<Placed<Identity>>,
    /// The lowest TLS version that is spoken.
    pub(super) min_version: Option<Written<MinVersionKind>>,
    /// True if TLS sessions are resumed; false: each handshake is a full one.
    pub(super) resumption: Option<Written<Flag>>,
    /// The groups for the key exchange. auto: the hybrid (post-quantum) group first, and a smaller first message if the
    /// large one fails; classic: no hybrid group; hybrid: the hybrid group first, and no smaller message.
    pub(super) key_exchange: Option<Written<KeyExchangeKind>>,
}

/// The client certificate: `certificate` and `key`, or `bundle`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Identity {
    /// PEM file: the client certificate, then its chain.
    pub(super) certificate: Option<Written<FilePath>>,
    /// PEM file: the private key in PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub(super) key: Option<Written<FilePath>>,
    /// PEM file with both the key and the certificate chain, in any order.
    pub(super) bundle: Option<Written<FilePath>>,
}

/// The pool of connections, per upstream.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Pool {
    /// The rule by which requests share connections, as in HAProxy's `http-reuse`.
    pub(super) reuse: Option<Written<ReuseKind>>,
    /// The strict cap on connections: connecting, in use, idle and closing together.
    pub(super) max_connections: Option<Written<Count<1, MANY>>>,
    /// The most connections that may be idle; -1: no limit, 0: none.
    pub(super) max_idle: Option<Written<MaxIdle>>,
    /// The number of connections that are kept idle for requests to come: dialled at the start, and replaced when they
    /// end.
    pub(super) min_idle: Option<Written<Count<0, MANY>>>,
    /// The period of the purge, which closes idle connections that recent requests did not need; 0: none but those of
    /// `minIdle` is kept idle.
    pub(super) purge_delay: Option<Written<Time>>,
    /// The longest time that a connection may be idle; 0: no limit.
    pub(super) idle_timeout: Option<Written<Time>>,
    /// The greatest age of a connection, shortened by a random part of up to a tenth; 0: no limit.
    pub(super) max_age: Option<Written<Time>>,
    /// The most requests on a connection; 0: no limit.
    pub(super) max_requests: Option<Written<Count<0, 1_000_000_000>>>,
    /// The most requests that may wait for a connection at the cap.
    pub(super) max_queue: Option<Written<Count<0, MANY>>>,
    /// The longest time that a request may wait for a connection at the cap.
    pub(super) queue_timeout: Option<Written<PositiveTime>>,
    /// A request field, such as `Priority`, whose urgency (RFC 9218: `u=0` first, `u=7` last) orders the requests that
    /// wait; off: first come, first served.
    pub(super) priority: Option<Written<FieldName>>,
    /// The longest time that requests in flight may stay on connections of a replaced certificate, key or trust.
    pub(super) rotation_deadline: Option<Written<Time>>,
}

/// Bounds on each stage of a request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Timeouts {
    /// The longest time to resolve the endpoint's name and connect by TCP, over all addresses that one attempt tries.
    pub(super) connect: Option<Written<PositiveTime>>,
    /// The longest time of a TLS handshake.
    pub(super) handshake: Option<Written<PositiveTime>>,
    /// The longest time from the whole request written to the end of the final header section.
    pub(super) response: Option<Written<PositiveTime>>,
    /// The longest time in which no byte of a request's or response's body moves.
    pub(super) idle: Option<Written<PositiveTime>>,
}

/// The limits on retries. A request is sent again only if the upstream cannot have received it, or if it is idempotent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Retries {
    /// The most retries of one request.
    pub(super) max: Option<Written<Count<0, 100>>>,
    /// The limit on all retries together: a share of the requests, and never less than 3 per second.
    pub(super) budget: Option<Written<Percent>>,
    /// True if a POST or PATCH with an `Idempotency-Key` field may be sent twice.
    pub(super) idempotency_key: Option<Written<Flag>>,
}
