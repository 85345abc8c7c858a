//! Looks the name of an upstream up again while the upstream has connections, and closes connections to addresses that
//! the name has lost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

use super::{Upstream, endpoint::Endpoint};
use crate::connect::Resolver;

/// The shortest time between two look-ups that no dial asked for.
const PAUSE: Duration = Duration::from_secs(5);

impl Upstream {
    /// Looks the name up again each time its last answer expires, while there are connections, for as long as the
    /// future is polled. A pool of warm connections rarely dials, so that dials alone would not notice a change of
    /// addresses.
    pub(super) async fn follow_name(&self, resolver: &Resolver) {
        let mut soonest = Instant::now();
        loop {
            self.pool.until_has_connection().await;
            let due = self.generation.get().target.endpoint.addresses.asked_again_at();
            let at = due.unwrap_or_else(|| Instant::now() + PAUSE).max(soonest);
            sleep_until(at.into()).await;
            if due.is_some() {
                let target = Arc::clone(&self.generation.get().target);
                target.endpoint.look_up(resolver, self.settings().connect.connect).await;
                self.leave_lost_addresses(&target.endpoint);
                soonest = Instant::now() + PAUSE;
            }
        }
    }

    /// Closes idle connections to addresses that the name has lost. Connections in use close when they are checked in.
    pub(super) fn leave_lost_addresses(&self, endpoint: &Endpoint) {
        if endpoint.addresses.take_loss() {
            self.pool.close_idle_to(|address| endpoint.addresses.lost(address));
        }
    }
}
