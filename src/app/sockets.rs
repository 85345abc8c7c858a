//! Listening sockets, and the descriptors that they and their connections need.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::StartError;
use crate::{
    config::{Bind, Plan},
    descriptors,
    resources::{DescriptorDemand, Division, OPERATORS},
    socket::{self, ipv4_instead, lacks_family},
};

/// The assumed number of descriptors that belong to no connection, if they cannot be counted.
const OWN_DESCRIPTORS: usize = 64;
/// The number of descriptors that may be open for a moment: for files that are read, and for questions to name servers.
const SPARE_DESCRIPTORS: usize = 24;

/// A listening socket with its address.
pub(super) struct Bound {
    pub(super) listener: TcpListener,
    /// The address, with the port that the kernel chose if it was 0.
    pub(super) address: SocketAddr,
}

/// Binds each address; fails at the first that cannot be bound, and `what` is the configuration's key in the error. If
/// the machine lacks the address family of a default, the default is left out; a default for all IPv6 addresses becomes
/// one for all IPv4 addresses.
pub(super) fn bind(what: &str, binds: &[Bind]) -> Result<Vec<Bound>, StartError> {
    let mut bound = Vec::new();
    for bind in binds {
        match listen(bind.address) {
            Ok(listening) => bound.push(listening),
            Err(error) if !bind.written && lacks_family(&error) => {
                tracing::info!(address = %bind.address, "{what}: this machine lacks the address's family, the default is left out");
                if let Some(address) = ipv4_instead(bind.address) {
                    bound.push(listen(address).map_err(|error| refused(what, address, error))?);
                }
            }
            Err(error) => return Err(refused(what, bind.address, error)),
        }
    }
    Ok(bound)
}

/// Binds an upstream's own port on both loopback families, with one number on both if the port is 0. IPv6 is left out
/// if the machine lacks it.
pub(super) fn bind_own_port(name: &str, port: u16) -> Result<Vec<Bound>, StartError> {
    let what = format!("port of upstream {name}");
    let first = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let first = listen(first).map_err(|error| refused(&what, first, error))?;
    let second = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), first.address.port());
    let second = bind(&what, &[Bind { address: second, written: false }])?;
    Ok(std::iter::once(first).chain(second).collect())
}

fn listen(address: SocketAddr) -> io::Result<Bound> {
    let listener = socket::listen(address)?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}

/// Makes the error for an address that cannot be bound, with a remedy where the kernel's error suggests one. `what` is
/// the key or port that asked for the address.
fn refused(what: &str, address: SocketAddr, error: io::Error) -> StartError {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another process has it, perhaps another Warmline; choose another port)"
        }
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has it)",
        io::ErrorKind::PermissionDenied => {
            " (ports below 1024 need a privilege; choose a higher one)"
        }
        _ => "",
    };
    StartError::Bind { what: what.to_owned(), address, error, hint }
}

/// Raises the process's soft limit of open files to the hard one, and warns in the log if that fails, or if the limit
/// is still lower than the plan needs.
pub(super) fn raise_descriptor_limit(plan: &Plan) {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) =
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    warn_of_few_descriptors(plan);
}

/// Warns if the new plan needs more descriptors than the old one, and more than the limit.
pub(super) fn recheck_descriptor_limit(old: &Plan, new: &Plan) {
    if descriptors_wanted(new) > descriptors_wanted(old) {
        warn_of_few_descriptors(new);
    }
}

fn descriptors_wanted(plan: &Plan) -> u64 {
    let operators = operators_ports(plan) * OPERATORS;
    (most_clients(plan) + upstream_connections(plan) + operators + OWN_DESCRIPTORS) as u64
}

/// Returns the most client connections over all listeners and own ports together: as many as the listener with the most
/// may have. So the memory that they need does not grow with the number of upstreams.
pub(super) fn most_clients(plan: &Plan) -> usize {
    plan.listeners.iter().map(|listener| listener.limits.connections).max().unwrap_or_default()
}

fn upstream_connections(plan: &Plan) -> usize {
    plan.upstreams.iter().map(|upstream| upstream.pool.max_connections).sum()
}

fn operators_ports(plan: &Plan) -> usize {
    plan.metrics.len() + plan.admin.len()
}

/// Divides the descriptors that the limit leaves beside Warmline's `own`. Upstreams may have the connections that the
/// plan allows, and those (`earlier`) that an earlier plan allowed.
pub(super) fn divide_descriptors(plan: &Plan, own: usize, earlier: usize) -> Division {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let (upstreams, ports) = (upstream_connections(plan) + earlier, operators_ports(plan));
    Division::of(DescriptorDemand { limit, own, upstreams, ports })
}

/// Counts the descriptors that are open while no client is served, and adds a reserve for those that are open for
/// moments.
pub(super) fn own_descriptors() -> usize {
    descriptors::open().unwrap_or(OWN_DESCRIPTORS) + SPARE_DESCRIPTORS
}

/// Warns in the log if the limit of open files is lower than what the plan may need.
fn warn_of_few_descriptors(plan: &Plan) {
    let wanted = descriptors_wanted(plan);
    if let Some(most) = getrlimit(Resource::Nofile).current.filter(|most| *most < wanted) {
        tracing::warn!(
            limit = most,
            wanted,
            clients = most_clients(plan),
            upstreams = upstream_connections(plan),
            operators = operators_ports(plan) * OPERATORS,
            "the limit of open files is lower than what limits.connections, pool.maxConnections and Warmline itself may need together: raise it (ulimit -Hn, LimitNOFILE) or lower those"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_ipv6_the_default_for_all_addresses_is_for_all_of_ipv4_and_loopback_is_left_out() {
        let instead = |address: &str| ipv4_instead(address.parse().expect("an address"));
        assert_eq!(instead("[::]:13320"), Some("0.0.0.0:13320".parse().expect("an address")));
        assert_eq!(instead("[::1]:13301"), None);
    }
}
