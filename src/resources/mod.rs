//! Bounds of the whole process, over all listeners and upstreams. A bound that acts is counted and logged.

mod buffers;
mod division;
mod room;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

pub use buffers::{BUFFERED, Buffered, Buffers, FREE};
pub use division::{Division, OPERATORS, Wanted};
pub use room::{Room, Seat};

use crate::{
    label,
    telemetry::{Label, Tally},
};

label! {
    /// A resource that can be used up.
    pub enum Resource {
        /// Descriptors for client connections.
        ClientDescriptors = "client-descriptors",
        /// Descriptors for connections to upstreams.
        UpstreamDescriptors = "upstream-descriptors",
        /// Bytes of clients that are buffered.
        ClientBuffers = "client-buffers",
    }
}

/// The bounds of one process.
#[derive(Debug)]
pub struct Resources {
    /// Descriptors of clients, over all listeners.
    pub clients: Arc<Room>,
    /// Descriptors of connections to upstreams, over all upstreams.
    pub upstreams: Arc<Room>,
    /// Bytes of clients that are buffered, over all clients.
    pub buffers: Buffers,
    /// The number of times that each bound acted.
    pub shortages: Tally<Resource>,
    /// The time of each bound's newest log line, and the number of times that it had acted by then.
    told: Mutex<[Option<(Instant, u64)>; Resource::ALL.len()]>,
}

/// A shortage lasts, and acts at each client that comes: one line in this time says so.
const TELL_EVERY: Duration = Duration::from_secs(10);

impl Default for Resources {
    /// Descriptors have no bound until they are divided.
    fn default() -> Self {
        Self {
            clients: Room::new(usize::MAX),
            upstreams: Room::new(usize::MAX),
            buffers: Buffers::default(),
            shortages: Tally::default(),
            told: Mutex::default(),
        }
    }
}

impl Resources {
    /// From now on these are the bounds.
    pub fn divide(&self, division: Division) {
        self.clients.resize(division.clients);
        self.upstreams.resize(division.upstreams);
    }

    /// Counts that a bound acted, and logs that, though not each time.
    pub fn short_of(&self, resource: Resource) {
        self.shortages.increment(resource);
        if let Some(times) = self.is_to_be_told(resource, Instant::now()) {
            let most = self.most(resource);
            tracing::warn!(resource = resource.as_str(), most, times, "{}", resource.consequence());
        }
    }

    /// Gives the number of times that the bound acted since the last line about it, if another line is due.
    fn is_to_be_told(&self, resource: Resource, now: Instant) -> Option<u64> {
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

    fn most(&self, resource: Resource) -> usize {
        match resource {
            Resource::ClientDescriptors => self.clients.most(),
            Resource::UpstreamDescriptors => self.upstreams.most(),
            Resource::ClientBuffers => self.buffers.most(),
        }
    }
}

impl Resource {
    /// Says in words for the log what follows from the shortage, and what would end it.
    const fn consequence(self) -> &'static str {
        match self {
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
            resources.is_to_be_told(resource, begin + Duration::from_secs(seconds))
        };
        assert_eq!(acts(0, clients), Some(1));
        assert_eq!((acts(0, clients), acts(9, clients)), (None, None));
        assert_eq!(acts(9, Resource::UpstreamDescriptors), Some(1), "another one is news");
        assert_eq!(acts(10, clients), Some(3));
    }
}
