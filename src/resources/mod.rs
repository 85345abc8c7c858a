//! The bounds of the whole process, over all listeners and upstreams. Each time that a bound acts is counted, and
//! logged now and then.

mod buffers;
mod connection_bound;
mod division;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

pub use buffers::{BUFFERED, Buffered, Buffers, FREE};
pub use connection_bound::{ConnectionBound, Slot};
pub use division::{DescriptorDemand, Division, OPERATORS};

use crate::{
    label,
    telemetry::{Label, Tally},
};

label! {
    /// A resource that can be used up.
    pub enum Resource {
        /// Client connections, over all listeners and own ports.
        ClientConnections = "client-connections",
        /// Descriptors for client connections.
        ClientDescriptors = "client-descriptors",
        /// Descriptors for connections to upstreams.
        UpstreamDescriptors = "upstream-descriptors",
        /// Buffered bytes of clients.
        ClientBuffers = "client-buffers",
    }
}

/// The bounds of one process.
#[derive(Debug)]
pub struct Resources {
    /// The client connections, over all listeners and own ports. Bounded because the connections that each port may
    /// have would together not fit the memory of a sidecar.
    pub connections: Arc<ConnectionBound>,
    /// The descriptors of clients, over all listeners.
    pub clients: Arc<ConnectionBound>,
    /// The descriptors of connections to upstreams, over all upstreams.
    pub upstreams: Arc<ConnectionBound>,
    /// The buffered bytes, over all clients.
    pub buffers: Buffers,
    /// The number of times that each bound acted.
    pub shortages: Tally<Resource>,
    /// The time of each bound's newest log line, and the number of times that the bound had acted by then.
    told: Mutex<[Option<(Instant, u64)>; Resource::ALL.len()]>,
}

/// The slots of one client in the bounds over all clients; given back on drop.
#[derive(Debug)]
pub struct ClientSlots {
    _connection: Slot,
    _descriptor: Slot,
}

/// The least time between two log lines about one bound: a shortage lasts, and acts on each client that comes.
const TELL_EVERY: Duration = Duration::from_secs(10);

impl Default for Resources {
    /// Makes bounds that allow any number of clients and descriptors, until [`Resources::divide`] sets others.
    fn default() -> Self {
        Self {
            connections: ConnectionBound::new(usize::MAX),
            clients: ConnectionBound::new(usize::MAX),
            upstreams: ConnectionBound::new(usize::MAX),
            buffers: Buffers::default(),
            shortages: Tally::default(),
            told: Mutex::default(),
        }
    }
}

impl Resources {
    /// Sets the bounds: the division of the descriptors, and the most client connections.
    pub fn divide(&self, division: Division, connections: usize) {
        self.connections.resize(connections);
        self.clients.resize(division.clients);
        self.upstreams.resize(division.upstreams);
    }

    /// Takes a client's slots; `None` if a bound over all clients has none free.
    pub fn client_slots(&self) -> Option<ClientSlots> {
        let connection = self.connections.free_slot()?;
        let descriptor = self.clients.free_slot()?;
        Some(ClientSlots { _connection: connection, _descriptor: descriptor })
    }

    /// Waits until the bounds over all clients may have a free slot, and takes none. Counts and logs the bound that is
    /// reached.
    pub async fn until_client_slot_free(&self) {
        let bounds = [
            (Resource::ClientConnections, &self.connections),
            (Resource::ClientDescriptors, &self.clients),
        ];
        if let Some((reached, bound)) = bounds.into_iter().find(|(_, bound)| bound.is_full()) {
            self.short_of(reached);
            bound.until_free().await;
        }
    }

    /// Counts that a bound acted, and logs it from time to time.
    pub fn short_of(&self, resource: Resource) {
        self.shortages.increment(resource);
        if let Some(times) = self.take_count_to_log(resource, Instant::now()) {
            let most = self.most(resource);
            tracing::warn!(resource = resource.as_str(), most, times, "{}", resource.consequence());
        }
    }

    /// Returns the number of times that the bound acted since the last log line about it; `None` if no line is due.
    fn take_count_to_log(&self, resource: Resource, now: Instant) -> Option<u64> {
        let acted = self.shortages.get(resource);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let last = &mut told[resource.index()];
        let (due, before) = last.map_or((true, 0), |(at, before)| {
            (now.saturating_duration_since(at) >= TELL_EVERY, before)
        });
        due.then(|| {
            *last = Some((now, acted));
            acted - before
        })
    }

    /// Returns the bound of a resource, in slots or bytes.
    fn most(&self, resource: Resource) -> usize {
        match resource {
            Resource::ClientConnections => self.connections.most(),
            Resource::ClientDescriptors => self.clients.most(),
            Resource::UpstreamDescriptors => self.upstreams.most(),
            Resource::ClientBuffers => self.buffers.most(),
        }
    }
}

impl Resource {
    /// Returns the words for the log: what follows from the shortage, and what would end it.
    const fn consequence(self) -> &'static str {
        match self {
            Self::ClientConnections => {
                "there are as many client connections as limits.connections allows over all listeners and own ports: the next \
                 client waits until one leaves; raise limits.connections, and the memory limit with it, or lower \
                 limits.idleTimeout"
            }
            Self::ClientDescriptors => {
                "all descriptors for clients are in use: the next client waits until one leaves; raise the limit of open \
                 files (ulimit -Hn, LimitNOFILE)"
            }
            Self::UpstreamDescriptors => {
                "all descriptors for connections to upstreams are in use: idle connections are closed for new ones; raise \
                 the limit of open files (ulimit -Hn, LimitNOFILE), or lower pool.maxConnections"
            }
            Self::ClientBuffers => {
                "what is buffered of all clients has reached its bound in bytes: a request whose header is larger than 8 KiB \
                 gets 503, uploads are read in smaller pieces"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_27_a_shortage_that_lasts_is_told_once_in_ten_seconds_with_how_often_it_acted() {
        let resources = Resources::default();
        let (clients, begin) = (Resource::ClientDescriptors, Instant::now());
        let acts = |seconds: u64, resource| {
            resources.shortages.increment(resource);
            resources.take_count_to_log(resource, begin + Duration::from_secs(seconds))
        };
        assert_eq!(acts(0, clients), Some(1));
        assert_eq!((acts(0, clients), acts(9, clients)), (None, None));
        assert_eq!(acts(9, Resource::UpstreamDescriptors), Some(1), "another one is news");
        assert_eq!(acts(10, clients), Some(3));
    }
}
