//! The document: every key that users may write, with its description in the JSON Schema, the kind of its value, and
//! the setting that it sets. Every key may be left out here; `compile` reports the required ones with place and remedy.
//! The defaults are beside the settings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, ser::SerializeMap};

use super::{
    errors::Section,
    kind::{
        AccessKind, Bytes, Count, FieldName, Flag, FormatKind, HeaderCaseKind, KeyExchangeKind,
        LevelKind, Limit, MaxIdle, MinVersionKind, Percent, PositiveTime, ReuseKind, Time,
    },
    name::{
        BindAddress, EndpointAddress, FilePath, Host, ServerNameKind, UpstreamName, VerifyName,
    },
    plan::{self, ListenerLimits, Plan},
    section::{Keys, Sets, Shown, section},
    written::{Placed, Written},
};
use crate::{telemetry::log, tls, upstream};

/// The largest number of connections, waiters and the like that makes sense on one machine.
pub(super) const MANY: usize = 1_000_000;
/// The size of hyper's smallest read buffer, in bytes.
const KIB_8: usize = 8 * 1024;
const MIB: usize = 1024 * 1024;

section! {
    /// A configuration of Warmline, a sidecar for outbound calls.
    #[schemars(title = "Warmline", extend("required" = ["upstreams"]))]
    Document sets plan: Plan {
        /// The number of worker threads.
        threads: Written<Count<1, 64>> => plan.threads,
        /// The log, on standard error.
        log: Log => plan.log,
        /// The addresses of metrics and health.
        metrics: Edge,
        /// The addresses of administration; loopback only.
        admin: Edge,
        /// The longest time that requests in flight may take to end once the process is told to stop; 0: they are aborted
        /// at once.
        drain: Written<Time> => plan.drain,
        /// The conditions under which `/readyz` reports that the process is ready for traffic.
        readiness: Readiness,
        /// The addresses that applications send their requests to, with the limits there.
        listeners: Placed<Vec<Placed<Listener>>>,
        /// The destinations; at least one.
        upstreams: Placed<Vec<Placed<Upstream>>>,
    }
}

section! {
    /// The log, on standard error.
    Log sets log: log::Settings {
        /// JSON lines, or text for people. Default: json; on a terminal text.
        format: Written<FormatKind> => log.format,
        /// The least severe event that is logged.
        level: Written<LevelKind> => log.level,
        /// The requests that get a log line. Default: errors; on a terminal all.
        access: Written<AccessKind> => log.access,
        /// The most access lines per second, half of them reserved for failed requests. Requests beyond the limit get no
        /// line of their own; one line tells their number. 0: no limit.
        accessRate: Written<Count<0, MANY, u32>> => log.access_rate,
    }
}

section! {
    /// Addresses of an edge that is not for traffic.
    Edge {
        /// Addresses with ports.
        bind: Placed<Vec<Written<BindAddress>>>,
    }
}

section! {
    /// The conditions under which `/readyz` reports that the process is ready for traffic.
    Readiness {
        /// The names of the upstreams whose warm connections (`pool.minIdle`) must be established before `/readyz` reports
        /// ready. The warm connections of other upstreams delay that by 5 s at most.
        requireUpstreams: Placed<Vec<Written<UpstreamName>>>,
    }
}

section! {
    /// A listener: addresses that applications send their requests to, with the limits there.
    Listener sets listener: plan::Listener {
        /// Addresses with ports; loopback only, unless `allowNonLoopback` is set.
        bind: Placed<Vec<Written<BindAddress>>>,
        /// True allows addresses in `bind` that other machines can reach. Every client there can then call the upstreams
        /// with Warmline's client certificates.
        allowNonLoopback: Written<Flag>,
        /// True: the `Proxy-Status` field of each response says which connection the request went over, and why that
        /// connection was taken.
        explain: Written<Flag> => listener.explain,
        /// Bounds on what the application may send and hold.
        limits: Limits => listener.limits,
    }
}

section! {
    /// Bounds on what the application may send and hold.
    Limits sets limits: ListenerLimits {
        /// The largest size of a request's header section.
        headerBytes: Written<Bytes<KIB_8, MIB>> => limits.header_bytes,
        /// The most fields in a request's header section.
        headerFields: Written<Count<1, 10_000>> => limits.header_fields,
        /// The longest time from the first byte of a header section to its end.
        headerTimeout: Written<PositiveTime> => limits.header_timeout,
        /// The longest time that a client connection may be idle between requests.
        idleTimeout: Written<PositiveTime> => limits.idle_timeout,
        /// The most client connections at once; at the limit no more are accepted. The highest limit of all listeners also
        /// holds for all listeners and upstreams' own ports together.
        connections: Written<Count<1, MANY>> => limits.connections,
    }
}

section! {
    /// A named destination.
    #[schemars(extend("required" = ["name", "endpoints"]))]
    Upstream sets upstream: upstream::Settings {
        /// The label in metrics and logs.
        name: Written<UpstreamName>,
        /// The values of Host whose requests go to this upstream; "*" for all others. Default: the endpoint's host.
        hosts: Placed<Vec<Written<Host>>>,
        /// A loopback port of its own, where any Host is taken; 0 is a free port.
        port: Written<Count<0, 65_535, u16>>,
        /// The address to connect to, as `HOST:PORT`; exactly one in this version.
        #[schemars(length(equal = 1))]
        endpoints: Placed<Vec<Written<EndpointAddress>>>,
        /// TLS to the upstream: its verification, and the client certificate that is shown to it.
        tls: Tls,
        /// The pool of connections.
        pool: Pool => *upstream,
        /// Bounds on each stage of a request.
        timeouts: Timeouts => *upstream,
        /// The limits on retries. A request is sent again only if the upstream cannot have received it, or if it is
        /// idempotent.
        retries: Retries => upstream.retries,
        /// The case of field names: kept (as the sender wrote them), lower (`content-length`) or title (`Content-Length`).
        headerCase: Written<HeaderCaseKind> => upstream.header_case,
    }
}

section! {
    /// TLS to the upstream: its verification, and the client certificate that is shown to it.
    Tls sets tls: tls::Settings {
        /// The name sent as SNI; "none" sends none. Default: the endpoint's host, if it is a name.
        serverName: Written<ServerNameKind>,
        /// The name or address that the certificate must carry. Default: `serverName`, else the
        /// endpoint's host.
        verifyName: Written<VerifyName>,
        /// PEM file: CA certificates, or the server's own self-signed one. Default: the system's
        /// roots.
        trust: Written<FilePath>,
        /// The client certificate; leave out for one-way TLS.
        identity: Placed<Identity>,
        /// The lowest TLS version that is spoken.
        minVersion: Written<MinVersionKind> => tls.min_version,
        /// True if TLS sessions are resumed; false: each handshake is a full one.
        resumption: Written<Flag> => tls.policy.resumption,
        /// The groups for the key exchange. auto: the hybrid (post-quantum) group first, and a smaller first message if the
        /// large one fails; classic: no hybrid group; hybrid: the hybrid group first, and no smaller message.
        keyExchange: Written<KeyExchangeKind> => tls.policy.key_exchange,
    }
}

section! {
    /// The client certificate: `certificate` and `key`, or `bundle`.
    Identity {
        /// PEM file: the client certificate, then its chain.
        certificate: Written<FilePath>,
        /// PEM file: the private key in PKCS#8, PKCS#1 or SEC1, not encrypted.
        key: Written<FilePath>,
        /// PEM file with both the key and the certificate chain, in any order.
        bundle: Written<FilePath>,
    }
}

section! {
    /// The pool of connections, per upstream.
    Pool sets upstream: upstream::Settings {
        /// The rule by which requests share connections, as in HAProxy's `http-reuse`.
        reuse: Written<ReuseKind> => upstream.pool.sharing,
        /// The strict cap on connections: connecting, in use, idle and closing together.
        maxConnections: Written<Count<1, MANY>> => upstream.pool.max_connections,
        /// The most connections that may be idle; -1: no limit, 0: none.
        maxIdle: Written<MaxIdle> => upstream.pool.max_idle,
        /// The number of connections that are kept idle for requests to come: dialled at the start, and replaced when they
        /// end.
        minIdle: Written<Count<0, MANY>> => upstream.pool.min_idle,
        /// The period of the purge, which closes idle connections that recent requests did not need; 0: none but those of
        /// `minIdle` is kept idle.
        purgeDelay: Written<Time> => upstream.pool.purge_delay,
        /// The longest time that a connection may be idle; 0: no limit.
        idleTimeout: Written<Time> => upstream.pool.idle_timeout,
        /// The greatest age of a connection, shortened by a random part of up to a tenth; 0: no limit.
        maxAge: Written<Time> => upstream.pool.max_age,
        /// The most requests on a connection; 0: no limit.
        maxRequests: Written<Limit<1_000_000_000>> => upstream.pool.max_requests,
        /// The most requests that may wait for a connection at the cap.
        maxQueue: Written<Count<0, MANY>> => upstream.pool.max_queue,
        /// The longest time that a request may wait for a connection at the cap.
        queueTimeout: Written<PositiveTime> => upstream.pool.queue_timeout,
        /// A request field, such as `Priority`, whose urgency (RFC 9218: `u=0` first, `u=7` last) orders the requests that
        /// wait; off: first come, first served.
        priority: Written<FieldName> => upstream.priority,
        /// The longest time that requests in flight may stay on connections of a replaced certificate, key or trust.
        rotationDeadline: Written<Time> => upstream.rotation_deadline,
    }
}

section! {
    /// Bounds on each stage of a request.
    Timeouts sets upstream: upstream::Settings {
        /// The longest time to resolve the endpoint's name and connect by TCP, over all addresses that one attempt tries.
        connect: Written<PositiveTime> => upstream.connect.connect,
        /// The longest time of a TLS handshake.
        handshake: Written<PositiveTime> => upstream.connect.handshake,
        /// The longest time from the whole request written to the end of the final header section.
        response: Written<PositiveTime> => upstream.response_timeout,
        /// The longest time in which no byte of a request's or response's body moves.
        idle: Written<PositiveTime> => upstream.idle_timeout,
    }
}

section! {
    /// The limits on retries. A request is sent again only if the upstream cannot have received it, or if it is idempotent.
    Retries sets retries: upstream::Retries {
        /// The most retries of one request.
        max: Written<Count<0, 100, u32>> => retries.max,
        /// The limit on all retries together: a share of the requests, and never less than 3 per second.
        budget: Written<Percent> => retries.budget,
        /// True if a POST or PATCH with an `Idempotency-Key` field may be sent twice.
        idempotencyKey: Written<Flag> => retries.idempotency_key,
    }
}
