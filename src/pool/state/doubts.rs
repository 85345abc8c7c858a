//! Idle connections whose path may have forgotten them: nobody is given one until its peer has acknowledged a probe.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{ConnectionId, Effects, State, Taker};

/// A doubted connection that is not proven alive within this time closes.
pub const PROOF_TIME: Duration = Duration::from_secs(2);

impl<C, E, W> State<C, E, W> {
    /// Counts the idle connections that are doubted.
    pub fn doubted(&self) -> usize {
        self.connections.doubted_idle()
    }

    /// Takes note that what was sent to this address at that time was never acknowledged: doubts the idle connections to the
    /// address that have carried nothing since, and names them. Their peers are to be probed.
    pub fn doubt(
        &mut self,
        peer: SocketAddr,
        sent: Instant,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) -> Vec<ConnectionId> {
        let until = now + PROOF_TIME;
        let doubted = self.connections.doubt(peer, sent, until);
        if !doubted.is_empty() {
            self.arm(Some(until), effects);
        }
        doubted
    }

    /// Takes note that the peer of a doubted connection is alive: the connection is as it was, and goes to the first in
    /// line.
    pub fn trust(&mut self, id: ConnectionId, now: Instant, effects: &mut Effects<C, W>) {
        if self.connections.trust(id)
            && let Some(Taker::Connection(waiter)) = self.taker(id)
            && let Some(handle) = self.connections.take_idle(id)
        {
            self.serve(waiter, id, handle, now, effects);
            self.find_dials(now, effects);
        }
    }
}
