//! Doubted idle connections: the network path may have dropped them, so no request gets one before its peer has
//! acknowledged a probe.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{ConnectionId, Operation, State};

/// The time that a doubted connection has to be proven alive; after it the connection closes.
pub const PROOF_TIME: Duration = Duration::from_secs(2);

impl<C: Clone, E, W> Operation<'_, C, E, W> {
    /// Doubts the idle connections to an address at which bytes, sent at the time `sent`, were never acknowledged.
    /// Spares the connections that became idle after that time. Returns the doubted ones, for the caller to probe their
    /// peers.
    pub fn doubt(&mut self, peer: SocketAddr, sent: Instant) -> Vec<ConnectionId> {
        let until = self.now + PROOF_TIME;
        let doubted = self.state.connections.doubt(peer, sent, until);
        if !doubted.is_empty() {
            self.arm(Some(until));
        }
        doubted
    }

    /// Ends the doubt about a connection whose peer is alive. The connection goes to the first waiter that may take it,
    /// else it stays idle.
    pub fn trust(&mut self, id: ConnectionId) {
        if self.state.connections.trust(id) {
            self.give_room(id);
            self.find_dials();
        }
    }
}

impl<C, E, W> State<C, E, W> {
    /// Returns the number of idle connections that are doubted.
    pub fn doubted(&self) -> usize {
        self.connections.doubted_idle()
    }
}
