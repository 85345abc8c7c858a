//! An endpoint of an upstream: its configured host and port, the addresses behind it, and their failures.

use std::{net::IpAddr, time::Duration};

use tokio::time::timeout;

use crate::connect::{
    Addresses, ConnectError, EndpointHost, HostPort, Limits, Resolver,
    dial::{self, Reached},
};

/// An endpoint of an upstream, with everything that is known of it. Two differ if their configured host or port differs.
///
/// Shared: one value lives for as long as the upstream keeps the endpoint, and every generation that dials it shares
/// the value, so that neither a rotation nor `POST …/drain` forgets DNS answers or failures. Another endpoint begins anew.
pub(super) struct Endpoint {
    /// The host and port, as configured.
    pub(super) configured: HostPort,
    /// The IP addresses by the newest DNS answers, and which of them failed lately.
    pub(super) addresses: Addresses,
}

impl Endpoint {
    /// Makes an endpoint of which no IP address is known yet.
    pub(super) fn new(configured: HostPort) -> Self {
        Self { configured, addresses: Addresses::default() }
    }

    /// Connects to the endpoint over TCP, and notes in the memory of its addresses which answered and which failed.
    /// `spare` gives a place under the cap for one more socket; `None` if none is free. Fails if the name gives no
    /// address, if each address failed, or if the time of `limits.connect` is over.
    pub(super) async fn reach<S: Send + 'static>(
        &self,
        resolver: &Resolver,
        limits: &Limits,
        spare: &(dyn Fn() -> Option<S> + Sync),
    ) -> Result<Reached, ConnectError> {
        dial::reach(&self.configured, resolver, limits, &self.addresses, spare).await
    }

    /// Looks the endpoint's name up again. A failed look-up changes nothing, and the next dial reports the failure.
    pub(super) async fn look_up(&self, resolver: &Resolver, limit: Duration) {
        let EndpointHost::Name(name) = &self.configured.host else { return };
        let Ok(answer) = resolver.look_up(name, limit).await else { return };
        self.addresses.learn(&answer.parts);
        if let Some(late) = answer.late
            && let Ok(Some(part)) = timeout(limit, late).await
        {
            self.addresses.learn(&[part]);
        }
    }

    /// True if the endpoint's name has lost this address.
    pub(super) fn has_lost(&self, address: IpAddr) -> bool {
        matches!(self.configured.host, EndpointHost::Name(_)) && self.addresses.lost(address)
    }
}
