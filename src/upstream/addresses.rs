//! Looks the name of an upstream up again while the upstream has connections, and closes connections to addresses that
//! the name has lost.

use std::time::{Duration, Instant};

use tokio::time::{sleep_until, timeout};

use super::{Upstream, generation::Generation};
use crate::connect::{EndpointHost, Resolver};

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
            let due = self.generation.get().addresses.asked_again_at();
            let at = due.unwrap_or_else(|| Instant::now() + PAUSE).max(soonest);
            sleep_until(at.into()).await;
            if due.is_some() {
                self.ask_again(&self.generation.share(), resolver).await;
                soonest = Instant::now() + PAUSE;
            }
        }
    }

    async fn ask_again(&self, generation: &Generation, resolver: &Resolver) {
        let EndpointHost::Name(name) = &generation.endpoint.host else { return };
        let limit = self.settings().connect.connect;
        // A failed look-up removes no address, and the next dial reports the failure.
        let Ok(answer) = resolver.look_up(name, limit).await else { return };
        generation.addresses.learn(&answer.parts);
        if let Some(late) = answer.late
            && let Ok(Some(part)) = timeout(limit, late).await
        {
            generation.addresses.learn(&[part]);
        }
        self.leave_lost_addresses(generation);
    }

    /// Closes idle connections to addresses that the name has lost. Connections in use close when they are checked in.
    pub(super) fn leave_lost_addresses(&self, generation: &Generation) {
        if generation.addresses.take_loss() {
            self.pool.close_idle_to(|address| generation.addresses.lost(address));
        }
    }
}
