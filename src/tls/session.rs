//! Sessions kept for resumption: one store per client, within it per IP address, bounded in number and bytes
//! ("Handshakes, sessions and key exchange" in docs/design.md).
//!
//! rustls verifies no certificate when it resumes, and its stored sessions tell neither the end of the chain that they
//! were made with nor their size. Therefore both are kept beside them: the end is read from the server's certificates
//! once the handshake is done (a session that comes before waits for that), and passes from a resumed connection to its
//! tickets. The size of a session is at most what came outside of application data since the last session.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::{ServerName, UnixTime},
};

use super::{
    inflow::Inflow,
    tolerance::{
        self, AllowedOffer, AnswerKind, KeyShare, Lesson, Policy, Tolerance, TriedHandshake,
    },
};

/// The most tickets kept per address; each is used once, so that a burst of dials needs one for each connection.
const TICKETS: usize = 256;
/// The most addresses that sessions are kept for; beyond them the address that came first is forgotten.
const ADDRESSES: usize = 64;
/// The most bytes of the sessions of one client, certificates included; beyond them the address with the most loses its
/// oldest ones.
const BYTES: usize = 4 * 1024 * 1024;
/// The bytes of a session beside its ticket and the server's certificates.
const FRAME: usize = 512;

/// The sessions of one client, and what is known of its addresses.
pub(super) struct Sessions {
    policy: Policy,
    store: Mutex<Store>,
}

struct Store<Ticket = Tls13ClientSessionValue, Session = Tls12ClientSessionValue> {
    /// The most tickets kept per address.
    tickets: usize,
    by_address: HashMap<IpAddr, AddressSessions<Ticket, Session>>,
    /// The addresses in the order in which they came; the same ones as in the map.
    arrival: VecDeque<IpAddr>,
}

struct AddressSessions<Ticket, Session> {
    /// The TLS 1.3 tickets, newest last.
    tickets: VecDeque<Stored<Ticket>>,
    /// The TLS 1.2 session, by session ID or ticket; it may be used many times.
    session: Option<Stored<Session>>,
    /// The group that the server chose: the next handshake offers a share of that group alone.
    group: Option<NamedGroup>,
    tolerance: Tolerance,
}

/// A session with its limits.
#[derive(Clone)]
struct Stored<S> {
    session: S,
    /// The end of the certificate chain that the session was made with.
    until: UnixTime,
    bytes: usize,
}

impl<S> Stored<S> {
    fn is_over(&self, now: UnixTime) -> bool {
        self.until < now
    }
}

impl Sessions {
    /// Creates a store with room for this number of connections at once.
    pub(super) fn new(policy: Policy, connections: usize) -> Self {
        Self { policy, store: Mutex::new(Store::new(connections)) }
    }

    /// Changes the number of connections for which there is room; surplus tickets are forgotten, the oldest first.
    pub(super) fn resize(&self, connections: usize) {
        self.lock().resize(connections);
    }

    /// True if sessions are resumed at all.
    pub(super) fn resumes(&self) -> bool {
        self.policy.resumption
    }

    /// Returns the offer of a first try with this address.
    pub(super) fn first_offer(&self, address: IpAddr, now: Instant) -> AllowedOffer {
        let policy = self.policy;
        self.lock().kept(address).tolerance.first_offer(policy, now)
    }

    /// Notes that a resumed connection to this address ended before anything came over it: forgets the address's
    /// sessions, and the second time within ten minutes offers none there for a while. Returns what was learned, if the
    /// log is to tell it.
    pub(super) fn session_ended(&self, address: IpAddr, now: Instant) -> Option<Lesson> {
        let mut store = self.lock();
        let kept = store.kept(address);
        kept.forget();
        kept.tolerance.resumed_in_vain(now)
    }

    /// Takes over what is known of addresses, but no session: sessions belong to the other client. Does nothing if the
    /// two policies differ.
    pub(super) fn learn_from(&self, other: &Self) {
        if self.policy != other.policy {
            return;
        }
        let known: Vec<_> = {
            let other = other.lock();
            let known = |address: &IpAddr| {
                let kept = other.by_address.get(address)?;
                Some((*address, kept.group, kept.tolerance.clone()))
            };
            other.arrival.iter().filter_map(known).collect()
        };
        let mut store = self.lock();
        for (address, group, tolerance) in known {
            let kept = store.kept(address);
            (kept.group, kept.tolerance) = (group, tolerance);
        }
    }

    /// Returns the end and the bytes of each session of this address.
    #[cfg(test)]
    pub(super) fn stored(&self, address: IpAddr) -> Vec<(UnixTime, usize)> {
        let mut store = self.lock();
        let kept = store.kept(address);
        let session = kept.session.iter().map(|session| (session.until, session.bytes));
        kept.tickets.iter().map(|ticket| (ticket.until, ticket.bytes)).chain(session).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tickets_for(connections: usize) -> usize {
    connections.clamp(1, TICKETS)
}

impl<Ticket, Session> Store<Ticket, Session> {
    /// Creates an empty store with room for the sessions of this number of connections per address.
    fn new(connections: usize) -> Self {
        Self {
            tickets: tickets_for(connections),
            by_address: HashMap::new(),
            arrival: VecDeque::new(),
        }
    }

    fn resize(&mut self, connections: usize) {
        let tickets = tickets_for(connections);
        self.tickets = tickets;
        self.by_address.values_mut().for_each(|kept| kept.keep_newest(tickets));
    }

    /// Returns what is kept for an address. A new address is added; if there are [`ADDRESSES`] already, the one that
    /// came first is forgotten.
    fn kept(&mut self, address: IpAddr) -> &mut AddressSessions<Ticket, Session> {
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

    /// Keeps a TLS 1.3 ticket of an address; beyond the bounds of number and bytes, older ones are forgotten.
    fn keep_ticket(&mut self, address: IpAddr, ticket: Stored<Ticket>) {
        let tickets = self.tickets;
        let kept = self.kept(address);
        kept.tickets.push_back(ticket);
        kept.keep_newest(tickets);
        self.keep_within_bytes();
    }

    fn keep_session(&mut self, address: IpAddr, session: Stored<Session>) {
        self.kept(address).session = Some(session);
        self.keep_within_bytes();
    }

    /// Forgets sessions until all of them take at most [`BYTES`]: the oldest of the address with the most bytes, one at
    /// a time.
    fn keep_within_bytes(&mut self) {
        while self.by_address.values().map(AddressSessions::bytes).sum::<usize>() > BYTES
            && let Some(largest) = self.by_address.values_mut().max_by_key(|kept| kept.bytes())
        {
            largest.forget_oldest();
        }
    }
}

impl<Ticket, Session> Default for AddressSessions<Ticket, Session> {
    fn default() -> Self {
        Self {
            tickets: VecDeque::new(),
            session: None,
            group: None,
            tolerance: Tolerance::default(),
        }
    }
}

impl<Ticket, Session> AddressSessions<Ticket, Session> {
    fn keep_newest(&mut self, tickets: usize) {
        let surplus = self.tickets.len().saturating_sub(tickets);
        self.tickets.drain(..surplus);
    }

    fn bytes(&self) -> usize {
        let session = self.session.as_ref().map_or(0, |session| session.bytes);
        self.tickets.iter().map(|ticket| ticket.bytes).sum::<usize>() + session
    }

    fn forget_oldest(&mut self) {
        if self.tickets.pop_front().is_none() {
            self.session = None;
        }
    }

    fn forget(&mut self) {
        self.tickets.clear();
        self.session = None;
    }

    /// Removes and returns the newest ticket; `None` if there is none. Tickets whose chain has ended are forgotten.
    fn take_ticket(&mut self, now: UnixTime) -> Option<Stored<Ticket>> {
        self.tickets.retain(|ticket| !ticket.is_over(now));
        self.tickets.pop_back()
    }

    /// Returns the session; `None` if there is none, or its chain has ended: then it is forgotten.
    fn session(&mut self, now: UnixTime) -> Option<&Stored<Session>> {
        self.session.take_if(|session| session.is_over(now));
        self.session.as_ref()
    }
}

/// The view that one handshake has of the store: it knows the address, and notes what was offered.
pub(super) struct HandshakeView {
    sessions: Arc<Sessions>,
    address: IpAddr,
    allowed: AllowedOffer,
    /// The beginning of the handshake, or of the first try if this is the second.
    begun: Instant,
    /// The count of the bytes that come from the server.
    inflow: Arc<Inflow>,
    /// True once a session was offered.
    offered_session: AtomicBool,
    /// True once a share of a hybrid group was offered.
    large: AtomicBool,
    arrivals: Mutex<ArrivingSessions>,
}

/// The treatment of sessions that arrive.
enum ArrivingSessions {
    /// Until the handshake is done, sessions wait for the end of its chain. `offered` is the end of the session that
    /// was offered.
    Wait { arrived: Vec<ArrivedSession>, offered: Option<UnixTime> },
    /// After the handshake, sessions are stored on these terms.
    Stored(StorageTerms),
}

/// A session on its way into the store.
enum ArrivedSession {
    Ticket(Tls13ClientSessionValue),
    Session(Tls12ClientSessionValue),
}

/// The properties that all sessions of a connection are stored with.
#[derive(Clone, Copy)]
struct StorageTerms {
    until: UnixTime,
    /// The bytes of the server's certificates, of which each session holds a copy.
    certificates: usize,
    /// The number of bytes outside of application data when the last session was stored.
    counted: u64,
}

impl HandshakeView {
    /// Creates the view of one handshake with this address, which may make this offer; `begun` is the beginning of its
    /// first try.
    pub(super) fn new(
        sessions: Arc<Sessions>,
        address: IpAddr,
        allowed: AllowedOffer,
        begun: Instant,
    ) -> Self {
        Self {
            sessions,
            address,
            allowed,
            begun,
            inflow: Arc::default(),
            offered_session: AtomicBool::new(false),
            large: AtomicBool::new(false),
            arrivals: Mutex::new(ArrivingSessions::Wait { arrived: Vec::new(), offered: None }),
        }
    }

    pub(super) fn inflow(&self) -> &Arc<Inflow> {
        &self.inflow
    }

    /// Returns the beginning of the handshake, or of the first try if this is the second.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// True if the handshake offered a session.
    pub(super) fn has_offered_session(&self) -> bool {
        self.offered_session.load(Relaxed)
    }

    /// True if a first try that has not succeeded so far is to make way for a second one that offers less.
    pub(super) fn makes_way(&self) -> bool {
        tolerance::second_offer(self.sessions.policy, self.tried(), self.inflow.answer()).is_some()
    }

    /// True if the first message was large, and got an alert that its size may cause.
    pub(super) fn large_got_an_alert(&self) -> bool {
        self.large.load(Relaxed) && self.inflow.answer() == AnswerKind::Alert
    }

    /// Notes that the handshake succeeded, and stores the sessions that have arrived; later ones are stored as they
    /// arrive. `end` returns the end of the chain of a full handshake, `certificates` is the number of bytes of its
    /// certificates. Returns what was learned, if the log is to tell it.
    pub(super) fn succeeded(
        &self,
        resumed: bool,
        end: impl FnOnce() -> UnixTime,
        certificates: usize,
        now: Instant,
    ) -> Option<Lesson> {
        let mut arrivals = self.arrivals();
        if let ArrivingSessions::Wait { arrived, offered } = &mut *arrivals {
            let until = offered.filter(|_| resumed).unwrap_or_else(end);
            let mut terms = StorageTerms { until, certificates, counted: 0 };
            for arrived in std::mem::take(arrived) {
                self.store(arrived, &mut terms);
            }
            terms.counted = self.inflow.outside();
            *arrivals = ArrivingSessions::Stored(terms);
        }
        drop(arrivals);
        let tried = self.tried();
        self.with(|kept| kept.tolerance.succeeded(tried, now))
    }

    /// Notes that the handshake failed, and not because of the server's certificate; forgets the sessions of its
    /// address if it offered one. Returns the offer for a second try, if one may help.
    pub(super) fn failed(&self, now: Instant) -> Option<AllowedOffer> {
        let (policy, tried, answer) = (self.sessions.policy, self.tried(), self.inflow.answer());
        self.with(|kept| {
            if tried.session {
                kept.forget();
            }
            kept.tolerance.failed(policy, tried, answer, now)
        })
    }

    fn tried(&self) -> TriedHandshake {
        let (session, large) = (self.has_offered_session(), self.large.load(Relaxed));
        TriedHandshake { allowed: self.allowed, session, large, begun: self.begun }
    }

    /// Runs an operation on what the store keeps for the handshake's address, under the store's lock.
    fn with<R>(
        &self,
        operation: impl FnOnce(
            &mut AddressSessions<Tls13ClientSessionValue, Tls12ClientSessionValue>,
        ) -> R,
    ) -> R {
        operation(self.sessions.lock().kept(self.address))
    }

    /// Takes a session that the server sent: until the handshake is done it waits (at most [`TICKETS`] do, the rest is
    /// dropped), later it is stored. Without resumption every session is dropped.
    fn arrives(&self, arrived: ArrivedSession) {
        if !self.sessions.policy.resumption {
            return;
        }
        match &mut *self.arrivals() {
            ArrivingSessions::Wait { arrived: waiting, .. } if waiting.len() < TICKETS => {
                waiting.push(arrived);
            }
            ArrivingSessions::Wait { .. } => {}
            ArrivingSessions::Stored(terms) => self.store(arrived, terms),
        }
    }

    /// Stores a session on these terms. Its size is at most the bytes outside of application data since the last one,
    /// which `terms` counts on, and its copy of the certificates.
    fn store(&self, arrived: ArrivedSession, terms: &mut StorageTerms) {
        let outside = self.inflow.outside();
        let came = outside.saturating_sub(terms.counted);
        terms.counted = outside;
        let bytes = usize::try_from(came).unwrap_or(BYTES) + terms.certificates + FRAME;
        let until = terms.until;
        let mut store = self.sessions.lock();
        match arrived {
            ArrivedSession::Ticket(session) => {
                store.keep_ticket(self.address, Stored { session, until, bytes });
            }
            ArrivedSession::Session(session) => {
                store.keep_session(self.address, Stored { session, until, bytes });
            }
        }
    }

    /// Notes that this session is offered, with the end of its chain, which tickets of a resumed connection inherit.
    /// Returns the session; `None` if there is none.
    fn offered<S>(&self, session: Option<Stored<S>>) -> Option<S> {
        let Stored { session, until, .. } = session?;
        self.offered_session.store(true, Relaxed);
        if let ArrivingSessions::Wait { offered, .. } = &mut *self.arrivals() {
            *offered = Some(until);
        }
        Some(session)
    }

    fn arrivals(&self) -> MutexGuard<'_, ArrivingSessions> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for HandshakeView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandshakeView").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The store that rustls uses in one handshake. The name is ignored: a client has one name.
impl ClientSessionStore for HandshakeView {
    /// Remembers the group that the server chose; not X25519 if only a small share was allowed.
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        // A small message names the hybrid group without a share of it: if the server took the share that was there,
        // that says nothing about the group.
        if self.allowed.key_share == KeyShare::Large || group != NamedGroup::X25519 {
            self.with(|kept| kept.group = Some(group));
        }
    }

    /// Returns the group of which the first message is to have a share. If a large share is allowed, that is the group
    /// that the server chose last, or `None`, for rustls's first, if none is known; also notes whether it makes the
    /// message large. Otherwise that is the group that the server chose last if it is small, else X25519.
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        let chosen = self.with(|kept| kept.group);
        if self.allowed.key_share == KeyShare::Large {
            self.large.store(chosen.is_none_or(is_large), Relaxed);
            return chosen;
        }
        chosen.filter(|group| !is_large(*group)).or(Some(NamedGroup::X25519))
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.arrives(ArrivedSession::Session(session));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        if !self.allowed.session {
            return None;
        }
        let session = self.with(|kept| kept.session(UnixTime::now()).cloned());
        self.offered(session)
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.with(|kept| kept.session = None);
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.arrives(ArrivedSession::Ticket(ticket));
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if !self.allowed.session {
            return None;
        }
        let ticket = self.with(|kept| kept.take_ticket(UnixTime::now()));
        self.offered(ticket)
    }
}

/// True if a share of this group makes a message so large that it takes a second segment.
pub(super) fn is_large(group: NamedGroup) -> bool {
    matches!(
        group,
        NamedGroup::X25519MLKEM768
            | NamedGroup::secp256r1MLKEM768
            | NamedGroup::MLKEM512
            | NamedGroup::MLKEM768
            | NamedGroup::MLKEM1024
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    type Numbers = Store<u32, u32>;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn stored(session: u32, until: u64, bytes: usize) -> Stored<u32> {
        Stored { session, until: at(until), bytes }
    }

    fn address(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    fn ticket(store: &mut Numbers, number: u8, now: u64) -> Option<u32> {
        store.kept(address(number)).take_ticket(at(now)).map(|ticket| ticket.session)
    }

    #[test]
    fn fault_02_no_session_is_offered_past_the_end_of_its_chain() {
        let mut store = Numbers::new(8);
        for (number, until) in [(1, 100), (2, 300), (3, 200)] {
            store.keep_ticket(address(1), stored(number, until, 1));
        }
        store.keep_session(address(1), stored(9, 100, 1));
        assert_eq!(ticket(&mut store, 1, 200), Some(3));
        assert_eq!(ticket(&mut store, 1, 201), Some(2));
        assert_eq!(ticket(&mut store, 1, 0), None, "the one that was over is forgotten");
        let kept = store.kept(address(1));
        assert_eq!(kept.session(at(100)).map(|session| session.session), Some(9));
        assert!(kept.session(at(101)).is_none());
        assert!(kept.session(at(0)).is_none(), "it is forgotten");
    }

    #[test]
    fn fault_38_the_bytes_of_stored_sessions_are_bounded_and_the_address_with_the_most_pays() {
        let mut store = Numbers::new(TICKETS);
        store.keep_ticket(address(1), stored(1, 1, 1000));
        let large = BYTES / 4;
        for number in 2..=9 {
            store.keep_ticket(address(2), stored(number, 1, large));
            let bytes = store.by_address.values().map(AddressSessions::bytes).sum::<usize>();
            assert!(bytes <= BYTES, "{bytes}");
        }
        assert_eq!(ticket(&mut store, 1, 0), Some(1));
        let newest: Vec<_> = std::iter::from_fn(|| ticket(&mut store, 2, 0)).collect();
        assert_eq!(newest, [9, 8, 7]);
        store.keep_session(address(3), stored(1, 1, BYTES + 1));
        assert!(store.kept(address(3)).session.is_none(), "one that is too large is not kept");
        store.keep_ticket(address(3), stored(1, 1, usize::MAX / 2));
        assert_eq!(ticket(&mut store, 3, 0), None);
    }
}
