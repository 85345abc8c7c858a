//! Claims on what only one key may have: an upstream's name, a host, an address to listen on.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
};

use crate::config::{errors::Finding, written::Position};

/// A claim on an address to listen on.
#[derive(Debug)]
pub(super) struct AddressClaim {
    pub(super) address: SocketAddr,
    /// The path of the key that claims the address.
    pub(super) path: String,
    /// The key's place; `None` if the address is a default.
    pub(super) at: Option<Position>,
}

/// The claimed addresses, by port.
#[derive(Debug, Default)]
pub(super) struct ClaimedPorts(HashMap<u16, Vec<AddressClaim>>);

impl ClaimedPorts {
    /// Claims an address; the error says which key has it already. Port 0 means any free port, and never clashes.
    pub(super) fn claim(&mut self, claim: AddressClaim) -> Result<(), Finding> {
        let port = claim.address.port();
        if port == 0 {
            return Ok(());
        }
        let taken = self.0.entry(port).or_default();
        let Some(earlier) =
            taken.iter().find(|other| overlap(other.address.ip(), claim.address.ip()))
        else {
            taken.push(claim);
            return Ok(());
        };
        // A default has no place of its own, so that the written address of the two is blamed.
        let (blamed, other) =
            if claim.at.is_some() { (&claim, earlier) } else { (earlier, &claim) };
        let by_default = if other.at.is_some() { "" } else { "the default of " };
        let message = format!(
            "{} is taken by {by_default}{} ({}); choose another port",
            blamed.address, other.path, other.address
        );
        Err(Finding { path: blamed.path.clone(), at: blamed.at, message })
    }
}

/// True if a port cannot be bound on both addresses at once. `[::]` takes IPv4 too, as on Linux.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    // `[::ffff:127.0.0.1]` is 127.0.0.1 to the kernel.
    let (a, b) = (a.to_canonical(), b.to_canonical());
    let covers =
        |wide: IpAddr, other: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || other.is_ipv4());
    a == b || covers(a, b) || covers(b, a)
}

/// The claimed names and hosts, each with its upstream.
#[derive(Debug, Default)]
pub(super) struct ClaimedNames {
    names: HashMap<String, usize>,
    hosts: HashMap<String, HostOwner>,
}

/// The upstream that has a host, by its index in the document.
#[derive(Debug, Clone)]
pub(super) struct HostOwner {
    pub(super) upstream: usize,
    /// True if the host is written under `hosts`; false if it is the endpoint's host, which is the default.
    pub(super) written: bool,
}

impl ClaimedNames {
    /// Claims an upstream's name; the error says which upstream has it already.
    pub(super) fn claim_name(&mut self, name: &str, upstream: usize) -> Result<(), String> {
        match self.names.entry(name.into()) {
            Entry::Vacant(free) => {
                free.insert(upstream);
                Ok(())
            }
            Entry::Occupied(taken) => Err(format!(
                "`{name}` is the name of upstreams[{}] already; write another: metrics are told \
                 apart by it",
                taken.get()
            )),
        }
    }

    /// Claims a host for an upstream. Fails if another upstream has it, which the error names, or if this upstream lists
    /// it twice.
    pub(super) fn claim_host(&mut self, host: &str, owner: HostOwner) -> Result<(), String> {
        match self.hosts.entry(host.into()) {
            Entry::Vacant(free) => {
                free.insert(owner);
                Ok(())
            }
            Entry::Occupied(taken) if taken.get().upstream == owner.upstream => {
                Err(format!("`{host}` is listed twice; write it once"))
            }
            Entry::Occupied(taken) => {
                let name = self.names.iter().find(|(_, index)| **index == owner.upstream);
                let name = name.map_or("other", |(name, _)| name);
                Err(clash(host, taken.get(), &owner, name))
            }
        }
    }
}

/// Returns the error for a host that two upstreams claim; `name` is the later one's.
fn clash(host: &str, earlier: &HostOwner, later: &HostOwner, name: &str) -> String {
    let other = format!("upstreams[{}]", earlier.upstream);
    match (later.written, earlier.written) {
        (true, true) => format!(
            "`{host}` routes to {other} already; a host has one upstream: remove it from one of \
             them"
        ),
        (true, false) => format!(
            "`{host}` routes to {other} already, as its endpoint's host; write `hosts` there too, \
             to name them apart"
        ),
        (false, _) => format!(
            "`{host}`, the endpoint's host, would route here by default, and routes to {other} \
             already; write `hosts` to name them apart, such as `hosts: [{name}.internal]`"
        ),
    }
}
