//! Sessions kept for resumption: one store per key, within it per IP address, bounded (design, section 4.7).

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};

/// Tickets kept per address, at most; each is used once, so a burst of dials wants one for each connection.
const TICKETS: usize = 256;
/// Addresses that sessions are kept for; beyond them the one that came first is forgotten.
const ADDRESSES: usize = 64;

/// The sessions of one key.
pub(super) struct Sessions {
    store: Mutex<Store>,
}

#[derive(Default)]
struct Store {
    /// Kept per address, at most.
    tickets: usize,
    by_address: HashMap<IpAddr, Kept>,
    /// The addresses in order of arrival; the same ones as in the map.
    arrival: VecDeque<IpAddr>,
}

#[derive(Default)]
struct Kept {
    /// TLS 1.3, newest last.
    tickets: VecDeque<Tls13ClientSessionValue>,
    /// TLS 1.2, by session ID or ticket; it may be used many times.
    session: Option<Tls12ClientSessionValue>,
    /// The group that the server chose: the next handshake offers a share of that one alone.
    group: Option<NamedGroup>,
}

impl Sessions {
    /// A store that serves so many connections at once.
    pub(super) fn new(connections: usize) -> Self {
        let store = Store { tickets: tickets_for(connections), ..Store::default() };
        Self { store: Mutex::new(store) }
    }

    /// From now on it serves so many; what is too much is forgotten, the oldest first.
    pub(super) fn resize(&self, connections: usize) {
        let mut store = self.lock();
        let tickets = tickets_for(connections);
        store.tickets = tickets;
        store.by_address.values_mut().for_each(|kept| kept.keep_newest(tickets));
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tickets_for(connections: usize) -> usize {
    connections.clamp(1, TICKETS)
}

impl Store {
    fn kept(&mut self, address: IpAddr) -> &mut Kept {
        if !self.by_address.contains_key(&address) {
            if self.arrival.len() == ADDRESSES
                && let Some(oldest) = self.arrival.pop_front()
            {
                self.by_address.remove(&oldest);
            }
            self.arrival.push_back(address);
        }
        self.by_address.entry(address).or_default()
    }
}

impl Kept {
    fn keep_newest(&mut self, tickets: usize) {
        let surplus = self.tickets.len().saturating_sub(tickets);
        self.tickets.drain(..surplus);
    }
}

/// One handshake's view of the store: it knows the address, and notes whether a session was offered.
pub(super) struct Offer {
    sessions: Arc<Sessions>,
    address: IpAddr,
    made: AtomicBool,
}

impl Offer {
    pub(super) fn new(sessions: Arc<Sessions>, address: IpAddr) -> Self {
        Self { sessions, address, made: AtomicBool::new(false) }
    }

    /// Whether the handshake offered a session.
    pub(super) fn made(&self) -> bool {
        self.made.load(Relaxed)
    }

    fn with<R>(&self, operation: impl FnOnce(&mut Kept) -> R) -> R {
        operation(self.sessions.lock().kept(self.address))
    }

    fn offered<T>(&self, session: Option<T>) -> Option<T> {
        self.made.fetch_or(session.is_some(), Relaxed);
        session
    }
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The name is no part of it: within a key there is one name.
impl ClientSessionStore for Offer {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.with(|kept| kept.group = Some(group));
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(|kept| kept.group)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.with(|kept| kept.session = Some(session));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let session = self.with(|kept| kept.session.clone());
        self.offered(session)
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.with(|kept| kept.session = None);
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut store = self.sessions.lock();
        let tickets = store.tickets;
        let kept = store.kept(self.address);
        kept.tickets.push_back(ticket);
        kept.keep_newest(tickets);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let ticket = self.with(|kept| kept.tickets.pop_back());
        self.offered(ticket)
    }
}
