//! A generation of an upstream: everything that makes its connections exchangeable ("Rotation of certificates" in
//! docs/design.md).

use std::sync::Arc;

use super::{Settings, open::OpenConnections, target::Target};
use crate::{
    connect::{Connection, HeaderCase},
    pool::EndReason,
    tls::Trust,
};

/// Everything that makes connections exchangeable, and the connections that exist.
pub(super) struct Generation {
    /// The generation's number: 0 for the first, and higher for each later one.
    pub(super) number: u64,
    pub(super) target: Arc<Target>,
    pub(super) header_case: HeaderCase,
    pub(super) open: OpenConnections,
}

/// Returns the reason for a new generation under the new settings; `None` if they need none. The reason is `Rotated` if
/// only certificates, keys or trust differ.
pub(super) fn difference(old: &Settings, new: &Settings) -> Option<EndReason> {
    // An upstream has one endpoint: once another one is configured, no connection to the old one is of use.
    if old.endpoint == new.endpoint && old.tls == new.tls {
        return (old.header_case != new.header_case).then_some(EndReason::Reconfigured);
    }
    let (a, b) = (&old.tls, &new.tls);
    let credentials_alone = old.endpoint == new.endpoint
        && a.server_name == b.server_name
        && a.verify_name == b.verify_name
        && a.min_version == b.min_version
        && a.policy == b.policy
        && a.identity.is_some() == b.identity.is_some();
    Some(if credentials_alone { EndReason::Rotated } else { EndReason::Reconfigured })
}

impl Generation {
    /// Makes an upstream's first generation.
    pub(super) fn first(target: Arc<Target>, header_case: HeaderCase) -> Arc<Self> {
        Self::with(0, target, header_case)
    }

    /// Makes the next generation, with another target or another case of field names.
    pub(super) fn after(&self, target: Arc<Target>, header_case: HeaderCase) -> Arc<Self> {
        Self::with(self.number + 1, target, header_case)
    }

    /// Makes the next generation under the same settings.
    pub(super) fn successor(&self) -> Arc<Self> {
        self.after(Arc::clone(&self.target), self.header_case)
    }

    fn with(number: u64, target: Arc<Target>, header_case: HeaderCase) -> Arc<Self> {
        Arc::new(Self { number, target, header_case, open: OpenConnections::default() })
    }

    /// True if the connection is of this generation, and the endpoint's name has lost the address of its peer.
    pub(super) fn has_moved(&self, connection: &Connection) -> bool {
        // A connection of an older generation is retired as such, whatever its address.
        connection.facts.generation == self.number
            && self.target.endpoint.has_lost(connection.facts.peer.ip())
    }

    /// Tells each connection to end whose server this trust does not cover. Returns their number.
    pub(super) fn end_untrusted(&self, trust: &Arc<Trust>) -> usize {
        self.open.end_untrusted(self.target.verifier(trust).ok().as_ref())
    }
}

#[cfg(test)]
mod tests;
