//! Compiles upstreams, one after the other.

use super::{
    claim::{AddressClaim, ClaimedNames, ClaimedPorts, HostOwner},
    tls::Credentials,
};
use crate::{
    config::{
        self, Context,
        errors::{Finding, Findings, Section},
        section::Keys as _,
        spec,
        written::{Kind, Placed, Position, Written},
    },
    connect::{EndpointHost, HostPort},
    pool,
    upstream::Settings,
};

/// The compiler of all upstreams; it knows the names, hosts and ports that the earlier ones have claimed.
pub(super) struct Compiler<'a> {
    credentials: Credentials<'a>,
    names: ClaimedNames,
    ports: &'a mut ClaimedPorts,
    findings: &'a mut Findings,
}

impl<'a> Compiler<'a> {
    /// Makes the compiler of all upstreams; `ports` holds the addresses that the listeners have claimed.
    pub(super) fn new(
        context: &'a Context<'a>,
        ports: &'a mut ClaimedPorts,
        findings: &'a mut Findings,
    ) -> Self {
        Self {
            credentials: Credentials::new(context),
            names: ClaimedNames::default(),
            ports,
            findings,
        }
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
        let mut settings = match (name, endpoint, tls) {
            (Some(name), Some((endpoint, _)), Some(tls)) => {
                Some(Settings { port, ..Settings::new(name, hosts, endpoint, tls) })
            }
            _ => None,
        };
        spec.set_keys(settings.as_mut(), &mut section);
        if let Some(pool) = &spec.pool {
            refuse_unreachable_floor(pool, &mut section.section("pool"));
        }
        settings
    }
}

/// Reads and claims the upstream's name. `None`, with a finding, if it is missing or wrong; a name that another
/// upstream has is a finding too, and is returned.
fn name(
    spec: &spec::Upstream,
    index: usize,
    at: Position,
    names: &mut ClaimedNames,
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

/// Reads the endpoint and its place. `None`, with a finding, if there is none or it is wrong; a second endpoint is a
/// finding too.
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

/// Returns the hosts that route to this upstream, and claims them; the endpoint's own host if none is written. An empty
/// list, and a host that is claimed already, are findings.
fn hosts(
    spec: &spec::Upstream,
    index: usize,
    endpoint: Option<&(HostPort, Position)>,
    names: &mut ClaimedNames,
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
        if let Err(message) = names.claim_host(&host, HostOwner { upstream: index, written }) {
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

/// Returns the upstream's own port, and claims it on both loopback addresses; a clash is added to the findings. `None`
/// if none is written, or if it is wrong, which is a finding too.
fn port(spec: &spec::Upstream, ports: &mut ClaimedPorts, section: &mut Section<'_>) -> Option<u16> {
    let written = spec.port.as_ref()?;
    let port = section.written("port", Some(written))?;
    let claims = ["127.0.0.1", "::1"].map(|ip| {
        let address = (ip.parse::<std::net::IpAddr>().expect("a loopback address"), port).into();
        ports.claim(AddressClaim { address, path: section.path("port"), at: Some(written.at) })
    });
    if let Some(clash) = claims.into_iter().find_map(Result::err) {
        section.push(clash);
    }
    Some(port)
}

/// Refuses a warm floor (`minIdle`) that the pool can never reach under its other settings.
fn refuse_unreachable_floor(written: &spec::Pool, section: &mut Section<'_>) {
    let Some(floor) = &written.minIdle else { return };
    let default = pool::Settings::default();
    let min = or_default(Some(floor), default.min_idle);
    let max_idle = or_default(written.maxIdle.as_ref(), default.max_idle);
    let max_connections = or_default(written.maxConnections.as_ref(), default.max_connections);
    let purge_delay = or_default(written.purgeDelay.as_ref(), default.purge_delay);
    let limit = match max_idle {
        Some(max) if max < min => format!("maxIdle, {max}"),
        _ if max_connections < min => format!("maxConnections, {max_connections}"),
        _ if min > 0 && purge_delay.is_zero() => "purgeDelay 0, which keeps none idle".into(),
        _ => return,
    };
    let message =
        format!("{min} are never idle within {limit}; write a lower number, or raise that");
    section.add("minIdle", floor.at, message);
}

/// Returns the written value, or the default if none is written or it is wrong, which is reported elsewhere.
fn or_default<K: Kind>(written: Option<&Written<K>>, default: K::Value) -> K::Value {
    written.and_then(|written| written.read().ok()).unwrap_or(default)
}
