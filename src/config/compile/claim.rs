//! What only one may have: an upstream's name, a host, an address to listen on.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
};

use crate::config::{errors::Finding, written::Position};

/// An address that somebody wants to listen on.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) address: SocketAddr,
    /// The key that asks for it.
    pub(super) path: String,
    /// Its place; `None` where the default asks for it.
    pub(super) at: Option<Position>,
}

/// Every address that is taken, by port.
#[derive(Debug, Default)]
pub(super) struct Ports(HashMap<u16, Vec<Claim>>);

impl Ports {
    /// Takes an address, or says who has it. Port 0 is any free one and clashes with nothing.
    pub(super) fn claim(&mut self, claim: Claim) -> Result<(), Finding> {
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
        // A default has no place of its own: the one that was written is to be changed.
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

/// Whether one port cannot be had on both addresses. `[::]` takes IPv4 too, as Linux does it.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    // `[::ffff:127.0.0.1]` is 127.0.0.1 to the kernel.
    let (a, b) = (a.to_canonical(), b.to_canonical());
    let covers =
        |wide: IpAddr, other: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || other.is_ipv4());
    a == b || covers(a, b) || covers(b, a)
}

/// Every upstream's name and host, with who has it.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: HashMap<String, usize>,
    hosts: HashMap<String, Owner>,
}

/// Which upstream has a host, and whether it said so.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) upstream: usize,
    /// False: it is the endpoint's host, because `hosts` was left out.
    pub(super) written: bool,
}

impl Names {
    /// Takes a name, or says which upstream has it.
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

    /// Takes a host, or says which upstream has it.
    pub(super) fn claim_host(&mut self, host: &str, owner: Owner) -> Result<(), String> {
        match self.hosts.entry(host.into()) {
            Entry::Vacant(free) => {
                free.insert(owner);
                Ok(())
            }
            Entry::Occupied(taken) if taken.get().upstream == owner.upstream => {
                Err(format!("`{host}` is listed twice; write it once"))
            }
            Entry::Occupied(taken) => Err(clash(host, taken.get(), &owner)),
        }
    }
}

fn clash(host: &str, earlier: &Owner, later: &Owner) -> String {
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
             already; write `hosts` to name them apart, such as `hosts: [two.internal]`"
        ),
    }
}
