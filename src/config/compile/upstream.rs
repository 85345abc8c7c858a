//! Compiles upstreams, one after the other.

use std::{num::NonZeroU64, time::Duration};

use http::HeaderName;

use super::{
    claim::{Claim, Names, Owner, Ports},
    tls::Credentials,
};
use crate::{
    config::{
        self, Context, defaults,
        errors::{Finding, Findings, Section},
        spec,
        written::{Placed, Position},
    },
    connect::{EndpointHost, HostPort, Limits},
    pool,
    upstream::{Retries, Settings},
};

/// The compiler of all upstreams; it knows the names, hosts and ports that the earlier ones have claimed.
pub(super) struct Compiler<'a> {
    credentials: Credentials<'a>,
    names: Names,
    ports: &'a mut Ports,
    findings: &'a mut Findings,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        ports: &'a mut Ports,
        findings: &'a mut Findings,
    ) -> Self {
        Self { credentials: Credentials::new(context), names: Names::default(), ports, findings }
    }

    /// Returns the certificates and keys of all upstreams.
    pub(super) fn into_credentials(self) -> config::Credentials {
        self.credentials.into_found()
    }

    /// Compiles the upstream. `None` comes with at least one finding; settings may come with findings too, and are then
    /// not used.
    pub(super) fn compile(
        &mut self,
        index: usize,
        placed: &Placed<spec::Upstream>,
    ) -> Option<Settings> {
        let Placed { value: spec, at } = placed;
        let mut section = self.findings.section(format!("upstreams[{index}]"));
        let name = name(spec, index, *at, &mut self.names, &mut section);
        let endpoint = endpoint(spec, *at, &mut section);
        let hosts = hosts(spec, index, endpoint.as_ref(), &mut self.names, &mut section);
        let port = port(spec, self.ports, &mut section);
        let host = endpoint.as_ref().map(|(endpoint, _)| &endpoint.host);
        let tls =
            self.credentials.settings(spec.tls.as_ref(), *at, host, &mut section.section("tls"));
        let times = timeouts(spec.timeouts.as_ref(), &mut section.section("timeouts"));
        let pool = pool(spec.pool.as_ref(), &mut section.section("pool"));
        let priority = priority(spec.pool.as_ref(), &mut section.section("pool"));
        let rotation_deadline = rotation_deadline(spec.pool.as_ref(), &mut section.section("pool"));
        let retries = retries(spec.retries.as_ref(), &mut section.section("retries"));
        let header_case =
            section.value("headerCase", spec.header_case.as_ref(), defaults::HEADER_CASE);
        Some(Settings {
            name: name?,
            hosts,
            port,
            endpoint: endpoint?.0,
            tls: tls?,
            pool,
            connect: times.connect,
            response_timeout: times.response,
            idle_timeout: times.idle,
            retries,
            rotation_deadline,
            priority,
            header_case,
        })
    }
}

fn name(
    spec: &spec::Upstream,
    index: usize,
    at: Position,
    names: &mut Names,
    section: &mut Section<'_>,
) -> Option<String> {
    let Some(written) = &spec.name else {
        section.add("", at, "`name` is missing; write one, such as `name: payments`");
        return None;
    };
    let name = section.written("name", Some(written))?;
    if let Err(message) = names.claim_name(&name, index) {
        section.add("name", written.at, message);
    }
    Some(name)
}

fn endpoint(
    spec: &spec::Upstream,
    at: Position,
    section: &mut Section<'_>,
) -> Option<(HostPort, Position)> {
    let Some(list) = spec.endpoints.as_ref().filter(|list| !list.value.is_empty()) else {
        let at = spec.endpoints.as_ref().map_or(at, |list| list.at);
        section.add(
            "",
            at,
            "no endpoint is written; write one, such as `endpoints: \
             [\"api.payments.example:443\"]`",
        );
        return None;
    };
    if let Some(second) = list.value.get(1) {
        let message = "a second endpoint is not in this version; write one name that resolves to \
                       every address, or an upstream for each";
        section.add("endpoints[1]", second.at, message);
    }
    let first = list.value.first()?;
    Some((section.written("endpoints[0]", Some(first))?, first.at))
}

/// Returns the hosts that route to this upstream; the endpoint's own host if none is written.
fn hosts(
    spec: &spec::Upstream,
    index: usize,
    endpoint: Option<&(HostPort, Position)>,
    names: &mut Names,
    section: &mut Section<'_>,
) -> Vec<String> {
    let written = spec.hosts.is_some();
    let claims = match (&spec.hosts, endpoint) {
        (Some(list), _) => {
            if list.value.is_empty() {
                let message = "no host is listed; write one, \"*\" for all others, or leave \
                               `hosts` out for the endpoint's host";
                section.add("hosts", list.at, message);
            }
            section.list("hosts", &list.value)
        }
        (None, Some((endpoint, at))) => {
            vec![(own_host(&endpoint.host), section.path("hosts"), *at)]
        }
        (None, None) => Vec::new(),
    };
    let mut hosts = Vec::new();
    for (host, path, at) in claims {
        if let Err(message) = names.claim_host(&host, Owner { upstream: index, written }) {
            section.push(Finding { path, at: Some(at), message });
        }
        hosts.push(host);
    }
    hosts
}

/// Returns the endpoint's host as a Host field carries it.
fn own_host(host: &EndpointHost) -> String {
    host.to_string().trim_end_matches('.').into()
}

/// Returns the upstream's own port, and claims it on both loopback addresses.
fn port(spec: &spec::Upstream, ports: &mut Ports, section: &mut Section<'_>) -> Option<u16> {
    let written = spec.port.as_ref()?;
    let port = u16::try_from(section.written("port", Some(written))?).ok()?;
    let claims = ["127.0.0.1", "::1"].map(|ip| {
        let address = (ip.parse::<std::net::IpAddr>().expect("a loopback address"), port).into();
        ports.claim(Claim { address, path: section.path("port"), at: Some(written.at) })
    });
    if let Some(clash) = claims.into_iter().find_map(Result::err) {
        section.push(clash);
    }
    Some(port)
}

/// The values of `timeouts`: two for connecting, two for the exchange.
struct Times {
    connect: Limits,
    response: Duration,
    idle: Duration,
}

fn timeouts(written: Option<&spec::Timeouts>, section: &mut Section<'_>) -> Times {
    let left_out = spec::Timeouts::default();
    let timeouts = written.unwrap_or(&left_out);
    let default = defaults::CONNECT;
    let connect = Limits {
        connect: section.value("connect", timeouts.connect.as_ref(), default.connect),
        handshake: section.value("handshake", timeouts.handshake.as_ref(), default.handshake),
    };
    let response = timeouts.response.as_ref();
    Times {
        connect,
        response: section.value("response", response, defaults::RESPONSE_TIMEOUT),
        idle: section.value("idle", timeouts.idle.as_ref(), defaults::IDLE_TIMEOUT),
    }
}

fn retries(written: Option<&spec::Retries>, section: &mut Section<'_>) -> Retries {
    let default = defaults::RETRIES;
    let Some(retries) = written else { return default };
    let max = section.written("max", retries.max.as_ref());
    let key = retries.idempotency_key.as_ref();
    Retries {
        max: max.map_or(default.max, |max| u32::try_from(max).unwrap_or(u32::MAX)),
        budget: section.value("budget", retries.budget.as_ref(), default.budget),
        idempotency_key: section.value("idempotencyKey", key, default.idempotency_key),
    }
}

fn priority(written: Option<&spec::Pool>, section: &mut Section<'_>) -> Option<HeaderName> {
    section.value("priority", written.and_then(|pool| pool.priority.as_ref()), None)
}

fn rotation_deadline(written: Option<&spec::Pool>, section: &mut Section<'_>) -> Duration {
    let deadline = written.and_then(|pool| pool.rotation_deadline.as_ref());
    section.value("rotationDeadline", deadline, defaults::ROTATION_DEADLINE)
}

fn pool(written: Option<&spec::Pool>, section: &mut Section<'_>) -> pool::Settings {
    let default = defaults::POOL;
    let Some(pool) = written else { return default };
    let max_requests = section.written("maxRequests", pool.max_requests.as_ref());
    let settings = pool::Settings {
        sharing: section.value("reuse", pool.reuse.as_ref(), default.sharing),
        max_connections: section.value(
            "maxConnections",
            pool.max_connections.as_ref(),
            default.max_connections,
        ),
        max_idle: section.value("maxIdle", pool.max_idle.as_ref(), default.max_idle),
        min_idle: section.value("minIdle", pool.min_idle.as_ref(), default.min_idle),
        purge_delay: section.value("purgeDelay", pool.purge_delay.as_ref(), default.purge_delay),
        idle_timeout: section.value(
            "idleTimeout",
            pool.idle_timeout.as_ref(),
            default.idle_timeout,
        ),
        max_age: section.value("maxAge", pool.max_age.as_ref(), default.max_age),
        max_requests: max_requests
            .map_or(default.max_requests, |requests| NonZeroU64::new(requests as u64)),
        max_queue: section.value("maxQueue", pool.max_queue.as_ref(), default.max_queue),
        queue_timeout: section.value(
            "queueTimeout",
            pool.queue_timeout.as_ref(),
            default.queue_timeout,
        ),
    };
    refuse_unreachable_floor(&settings, pool, section);
    settings
}

/// Refuses a warm floor (`minIdle`) that the pool can never reach under its other settings.
fn refuse_unreachable_floor(
    settings: &pool::Settings,
    written: &spec::Pool,
    section: &mut Section<'_>,
) {
    let Some(floor) = &written.min_idle else { return };
    let min = settings.min_idle;
    let limit = match settings.max_idle {
        Some(max) if max < min => format!("maxIdle, {max}"),
        _ if settings.max_connections < min => {
            format!("maxConnections, {}", settings.max_connections)
        }
        _ if min > 0 && settings.purge_delay.is_zero() => {
            "purgeDelay 0, which keeps none idle".into()
        }
        _ => return,
    };
    let message =
        format!("{min} are never idle within {limit}; write a lower number, or raise that");
    section.add("minIdle", floor.at, message);
}
