//! Compiles the addresses to listen on: metrics, administration, traffic.

use std::net::SocketAddr;

use super::claim::{AddressClaim, ClaimedPorts};
use crate::config::{
    errors::{Finding, Findings, Section},
    kind::Flag,
    name::BindAddress,
    plan::{self, Bind, Listener},
    section::Keys as _,
    spec,
    written::{Placed, Position, Written},
};

/// The beginning of errors about settings that `--confined` forbids.
const CONFINED: &str = "not with `--confined`, under which this process runs";

type List = Placed<Vec<Written<BindAddress>>>;

/// The addresses that may be bound.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Any address.
    Anywhere,
    /// Loopback, because `allowNonLoopback` was not set; the error offers to set it.
    LoopbackUnlessAllowed,
    /// Loopback only, with no setting to change that.
    Loopback,
    /// The default addresses only, under `--confined`: the pod's probes and scrapers expect the process there.
    Default,
}

/// Compiles the addresses of metrics and health, and claims them; under `--confined` only the default ones are
/// accepted.
pub(super) fn metrics(
    edge: Option<&spec::Edge>,
    confined: bool,
    ports: &mut ClaimedPorts,
    findings: &mut Findings,
) -> Vec<Bind> {
    let bind = edge.and_then(|edge| edge.bind.as_ref());
    binds(
        bind,
        plan::METRICS_BIND,
        if confined { Reach::Default } else { Reach::Anywhere },
        None,
        ports,
        &mut findings.section("metrics"),
    )
}

/// Compiles the addresses of administration, and claims them; only loopback is accepted, and under `--confined` only
/// the default.
pub(super) fn admin(
    edge: Option<&spec::Edge>,
    confined: bool,
    ports: &mut ClaimedPorts,
    findings: &mut Findings,
) -> Vec<Bind> {
    let bind = edge.and_then(|edge| edge.bind.as_ref());
    let reach = if confined { Reach::Default } else { Reach::Loopback };
    binds(bind, plan::ADMIN_BIND, reach, None, ports, &mut findings.section("admin"))
}

/// Compiles all listeners, and claims their addresses; without `listeners` in the document returns the default
/// listener. An empty list is an error.
pub(super) fn listeners(
    written: Option<&Placed<Vec<Placed<spec::Listener>>>>,
    confined: bool,
    ports: &mut ClaimedPorts,
    findings: &mut Findings,
) -> Vec<Listener> {
    let Some(list) = written else {
        return vec![listener(
            &spec::Listener::default(),
            None,
            confined,
            ports,
            &mut findings.section("listeners[0]"),
        )];
    };
    if list.value.is_empty() {
        let message =
            "no listener is configured; write one, or leave `listeners` out for the default";
        findings.add("listeners", list.at, message);
    }
    list.value
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            let mut section = findings.section(format!("listeners[{index}]"));
            listener(&entry.value, Some(entry.at), confined, ports, &mut section)
        })
        .collect()
}

/// Compiles one listener: its addresses, which it claims, and its limits. `at` is the listener's place, `None` if it is
/// the default.
fn listener(
    spec: &spec::Listener,
    at: Option<Position>,
    confined: bool,
    ports: &mut ClaimedPorts,
    section: &mut Section<'_>,
) -> Listener {
    let reach = reach(spec.allowNonLoopback.as_ref(), confined, section);
    let binds = binds(spec.bind.as_ref(), plan::LISTENER_BIND, reach, at, ports, section);
    let mut listener = Listener::new(binds);
    spec.set_keys(Some(&mut listener), section);
    listener
}

/// Returns the addresses that a listener may bind, by its `allowNonLoopback`; under `--confined` the value `true` is
/// added to the findings.
fn reach(
    allow_non_loopback: Option<&Written<Flag>>,
    confined: bool,
    section: &mut Section<'_>,
) -> Reach {
    let allowed = section.value("allowNonLoopback", allow_non_loopback, false);
    match (allowed, confined) {
        (false, _) => Reach::LoopbackUnlessAllowed,
        (true, false) => Reach::Anywhere,
        (true, true) => {
            let message = format!("{CONFINED}: traffic comes from this pod alone; take it out");
            if let Some(at) = allow_non_loopback.map(|written| written.at) {
                section.add("allowNonLoopback", at, message);
            }
            Reach::Anywhere
        }
    }
}

/// Compiles the addresses of one `bind`, and claims each of them; `at` is the place of the error if a default clashes.
fn binds(
    written: Option<&List>,
    default: &[&str],
    reach: Reach,
    at: Option<Position>,
    ports: &mut ClaimedPorts,
    section: &mut Section<'_>,
) -> Vec<Bind> {
    let Some(list) = written else {
        return default_binds(default, at, ports, section);
    };
    if list.value.is_empty() {
        let message = format!(
            "no address is listed; write one, or leave `bind` out for {}",
            default.join(", ")
        );
        section.add("bind", list.at, message);
    }
    let mut binds = Vec::new();
    for (address, path, at) in section.list("bind", &list.value) {
        if let Some(message) = too_far(address, reach, default) {
            section.push(Finding { path: path.clone(), at: Some(at), message });
        }
        claim(AddressClaim { address, path, at: Some(at) }, ports, section);
        binds.push(Bind { address, written: true });
    }
    binds
}

/// Returns the default addresses and claims each; `at` is the place of the error if one clashes.
fn default_binds(
    default: &[&str],
    at: Option<Position>,
    ports: &mut ClaimedPorts,
    section: &mut Section<'_>,
) -> Vec<Bind> {
    let path = section.path("bind");
    let binds = plan::default_binds(default);
    for Bind { address, .. } in &binds {
        claim(AddressClaim { address: *address, path: path.clone(), at }, ports, section);
    }
    binds
}

fn claim(claim: AddressClaim, ports: &mut ClaimedPorts, section: &mut Section<'_>) {
    if let Err(clash) = ports.claim(claim) {
        section.push(clash);
    }
}

/// Returns the error if an address may not be bound here, else `None`.
fn too_far(address: SocketAddr, reach: Reach, default: &[&str]) -> Option<String> {
    if reach == Reach::Default {
        let is_default = default.iter().any(|text| text.parse() == Ok(address));
        let listed = default.join(", ");
        return (!is_default).then(|| format!("{CONFINED}; take it out, for {listed}"));
    }
    if reach == Reach::Anywhere || address.ip().to_canonical().is_loopback() {
        return None;
    }
    let port = address.port();
    let wrong =
        format!("{address} is not loopback; write \"127.0.0.1:{port}\" or \"[::1]:{port}\"");
    Some(match reach {
        Reach::Loopback => format!("{wrong}: administration is for this pod alone"),
        _ => format!(
            "{wrong}, or set `allowNonLoopback: true` on this listener, and everybody who reaches \
             the address calls the upstreams with your identity"
        ),
    })
}
