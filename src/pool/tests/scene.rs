//! A stage for a pool's state: a clock that the test moves, and connections whose handle is their id.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::{
    pool::{
        Advanced, Ask, Census, ClientId, ConnectionId, ConnectionPhase, DEFAULT_URGENCY, End,
        EndReason, KeepAlive, Rejection, Reuse, Settings, Verdict,
        state::{
            CheckoutOutcome, Collected, Dialled, Effects, Operation, State, WaiterId, WarmStep,
        },
    },
    telemetry::ends::{Manner, Side},
};

pub const PEER_POLITE: End = End { by: Side::Peer, how: Manner::Polite };
pub const US_POLITE: End = End { by: Side::Us, how: Manner::Polite };

/// A repeatable request on thread 0 that is not the first of its client.
pub const ANYBODY: Ask = Ask {
    thread: 0,
    fresh: false,
    repeatable: true,
    client: 0,
    first: false,
    urgency: DEFAULT_URGENCY,
};

/// A dial of the first generation, for one stream at a time.
pub const DIALLED: Dialled = Dialled {
    generation: 0,
    peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 443),
    streams: 1,
    jitter: 0.0,
};

/// A request like [`ANYBODY`] that cannot be sent again.
pub const UNREPEATABLE: Ask = Ask { repeatable: false, ..ANYBODY };

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Returns the default settings of a pool.
pub fn defaults() -> Settings {
    Settings::default()
}

impl<C, E, W> State<C, E, W> {
    /// True if no socket is left of any generation older than this.
    pub fn has_outlived(&self, generation: u64) -> bool {
        let views = self.views(Instant::now());
        let mut open = views.iter().filter(|view| view.phase != ConnectionPhase::Connecting);
        open.all(|view| view.generation >= generation)
    }
}

/// The news that a waiter gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Nothing,
    Dial(ConnectionId),
    Queued,
    Lease(ConnectionId, Reuse),
    Failed(Option<&'static str>),
}

/// The result of a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    Lease(ConnectionId, Reuse),
    Wait(WaiterId),
    Refused(Rejection),
}

pub struct Scene {
    pub state: State<ConnectionId, &'static str, WaiterId>,
    pub now: Instant,
    /// The handles that were dropped, in order.
    pub closed: Vec<ConnectionId>,
    /// The waiters that were woken and have not looked since, in order.
    pub woken: Vec<WaiterId>,
    /// The connections whose end was reported, in order.
    pub ended: Vec<(ConnectionId, EndReason)>,
    /// The time that the last waiter that got a connection was queued.
    pub queued_for: Option<Duration>,
    /// The number of streams that a new connection allows.
    pub streams: u32,
    settings: Settings,
}

impl Scene {
    /// Makes a stage with the default settings, changed by `change`, and two threads.
    pub fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = defaults();
        change(&mut settings);
        Self {
            state: State::new(settings.clone(), 1, 2),
            now: Instant::now(),
            closed: Vec::new(),
            woken: Vec::new(),
            ended: Vec::new(),
            queued_for: None,
            streams: 1,
            settings,
        }
    }

    pub fn with_cap(cap: usize) -> Self {
        Self::new(|settings| settings.max_connections = cap)
    }

    /// Empties the stage; its connections are expected to allow so many streams from now on.
    pub fn expect(&mut self, streams: u32) {
        self.state = State::new(self.settings.clone(), streams, 2);
    }

    /// Plays one operation, notes its effects, and checks the cap.
    fn play<R>(
        &mut self,
        operation: impl FnOnce(&mut Operation<'_, ConnectionId, &'static str, WaiterId>) -> R,
    ) -> R {
        let mut effects = Effects::default();
        let before = self.census().total();
        let result = operation(&mut self.state.at(self.now, &mut effects));
        self.closed.extend(effects.close);
        self.woken.extend(effects.wake);
        self.ended.extend(effects.ended.iter().map(|ended| (ended.id, ended.reason)));
        self.check_the_cap(before);
        result
    }

    /// Plays one operation that leaves no follow-up work, and checks the cap.
    fn adjust<R>(
        &mut self,
        adjustment: impl FnOnce(&mut State<ConnectionId, &'static str, WaiterId>, Instant) -> R,
    ) -> R {
        let before = self.census().total();
        let result = adjustment(&mut self.state, self.now);
        self.check_the_cap(before);
        result
    }

    fn check_the_cap(&self, before: usize) {
        let most = self.settings.max_connections.max(before);
        assert!(self.census().total() <= most, "over the cap: {:?}", self.census());
    }

    // ---- races

    /// Takes a place for one more socket of a dial.
    pub fn spare(&mut self) -> Option<ConnectionId> {
        self.adjust(|state, now| state.spare(now))
    }

    /// Plays a new answer for the upstream's name, which has lost all its addresses or none.
    pub fn addresses_go(&mut self, lost: bool) {
        self.play(|operation| operation.close_idle_to(|_| lost));
    }

    /// Closes the socket of a spare place.
    pub fn spare_ends(&mut self, id: ConnectionId) {
        self.play(|operation| operation.place_given_back(id));
    }

    // ---- checkouts

    pub fn check_out(&mut self, thread: usize, fresh: bool) -> Got {
        self.ask(Ask { thread, fresh, ..ANYBODY })
    }

    /// Checks out for a client's first request.
    pub fn first_of(&mut self, client: ClientId) -> Got {
        self.ask(Ask { client, first: true, ..ANYBODY })
    }

    /// Checks out for a later request of a client.
    pub fn next_of(&mut self, client: ClientId) -> Got {
        self.ask(Ask { client, ..ANYBODY })
    }

    pub fn ask(&mut self, ask: Ask) -> Got {
        match self.play(|operation| operation.check_out(ask)) {
            Ok(CheckoutOutcome::Leased(leased)) => {
                assert_eq!(leased.id, leased.handle);
                Got::Lease(leased.id, leased.reuse)
            }
            Ok(CheckoutOutcome::Waits(waiter)) => Got::Wait(waiter),
            Err(rejection) => Got::Refused(rejection),
        }
    }

    /// Checks out on thread 0, and expects an idle connection.
    pub fn reuse(&mut self) -> ConnectionId {
        match self.check_out(0, false) {
            Got::Lease(id, Reuse::Reused) => id,
            other => panic!("expected an idle connection, got {other:?}"),
        }
    }

    /// Checks out on thread 0, and expects to wait.
    pub fn wait(&mut self) -> WaiterId {
        self.wait_as(false)
    }

    /// Checks out a request of this urgency, and expects to wait.
    pub fn wait_with(&mut self, urgency: u8) -> WaiterId {
        match self.ask(Ask { urgency, ..ANYBODY }) {
            Got::Wait(waiter) => waiter,
            other => panic!("expected to wait, got {other:?}"),
        }
    }

    /// Checks out a request that cannot be sent again, and expects to wait.
    pub fn wait_unrepeatable(&mut self) -> WaiterId {
        match self.ask(UNREPEATABLE) {
            Got::Wait(waiter) => waiter,
            other => panic!("expected to wait, got {other:?}"),
        }
    }

    /// Checks out a retry on thread 0, and expects to wait.
    pub fn wait_fresh(&mut self) -> WaiterId {
        self.wait_as(true)
    }

    fn wait_as(&mut self, fresh: bool) -> WaiterId {
        match self.check_out(0, fresh) {
            Got::Wait(waiter) => waiter,
            other => panic!("expected to wait, got {other:?}"),
        }
    }

    pub fn collect_on(&mut self, thread: usize, waiter: WaiterId) -> Told {
        self.woken.retain(|woken| *woken != waiter);
        match self.adjust(|state, _| state.collect(waiter, thread, waiter)) {
            Collected::Nothing => Told::Nothing,
            Collected::Dial(id) => Told::Dial(id),
            Collected::Queued => Told::Queued,
            Collected::Leased(leased, queued_for) => {
                assert_eq!(leased.id, leased.handle);
                self.queued_for = queued_for;
                Told::Lease(leased.id, leased.reuse)
            }
            Collected::Failed(error) => Told::Failed(error.map(|error| *error)),
        }
    }

    pub fn collect(&mut self, waiter: WaiterId) -> Told {
        self.collect_on(0, waiter)
    }

    /// Returns the news of a waiter that only looks if it was woken.
    pub fn collect_if_woken(&mut self, waiter: WaiterId) -> Told {
        if self.woken.contains(&waiter) { self.collect(waiter) } else { Told::Nothing }
    }

    /// Collects a waiter's order to dial.
    pub fn dial(&mut self, waiter: WaiterId) -> ConnectionId {
        self.dial_on(0, waiter)
    }

    pub fn dial_on(&mut self, thread: usize, waiter: WaiterId) -> ConnectionId {
        match self.collect_on(thread, waiter) {
            Told::Dial(id) => id,
            other => panic!("expected a dial, was told {other:?}"),
        }
    }

    pub fn abandon(&mut self, waiter: WaiterId) {
        self.play(|operation| operation.abandon(waiter));
    }

    pub fn time_out(&mut self, waiter: WaiterId) -> bool {
        self.adjust(|state, now| state.time_out(waiter, now))
    }

    // ---- connections

    pub fn opens(&mut self, id: ConnectionId) {
        self.opens_with(id, 0.0);
    }

    pub fn opens_with(&mut self, id: ConnectionId, jitter: f64) {
        self.opens_as(id, self.state.generation(), jitter);
    }

    /// Ends a dial with success, whose handshake used this generation.
    pub fn opens_under(&mut self, id: ConnectionId, generation: u64) {
        self.opens_as(id, generation, 0.0);
    }

    fn opens_as(&mut self, id: ConnectionId, generation: u64, jitter: f64) {
        let peer = ([127, 0, 0, 1], 443).into();
        let dialled = Dialled { generation, peer, streams: self.streams, jitter };
        self.play(|operation| operation.established(id, id, dialled));
    }

    pub fn fails(&mut self, id: ConnectionId) {
        self.play(|operation| operation.dial_failed(id, Some("refused")));
    }

    pub fn check_in(&mut self, id: ConnectionId) {
        self.play(|operation| operation.end_lease(id, Verdict::Fit(None)));
    }

    /// Checks in a connection whose response announced `timeout` seconds of idle time and `max` more requests.
    pub fn check_in_told(&mut self, id: ConnectionId, timeout: Option<u64>, max: Option<u64>) {
        let hint = Some(KeepAlive { timeout: timeout.map(secs), max });
        self.play(|operation| operation.end_lease(id, Verdict::Fit(hint)));
    }

    /// Makes a leased connection private to a client that authenticates itself on it.
    pub fn claim(&mut self, id: ConnectionId, client: ClientId) {
        self.adjust(|state, _| state.claim(id, client));
    }

    /// Ends the stream of an exchange that failed on a connection which did not.
    pub fn fail_stream(&mut self, id: ConnectionId) {
        self.play(|operation| operation.end_lease(id, Verdict::StreamFailed));
    }

    pub fn discard(&mut self, id: ConnectionId, reason: EndReason) {
        let before = self.closed.len();
        self.play(|operation| operation.end_lease(id, Verdict::Unfit(reason)));
        // The lease's own clone of the handle is dropped after the pool's.
        self.closed.truncate(before);
    }

    /// Makes a connection allow another number of streams.
    pub fn allow(&mut self, id: ConnectionId, limit: u32) {
        self.play(|operation| operation.allow(id, limit));
    }

    /// Doubts the connections because bytes sent `ago` were not acknowledged; returns the doubted ones. All have one
    /// address.
    pub fn doubt(&mut self, ago: Duration) -> Vec<ConnectionId> {
        let peer = ([127, 0, 0, 1], 443).into();
        let sent = self.now - ago;
        self.play(|operation| operation.doubt(peer, sent))
    }

    /// Ends the doubt about a connection.
    pub fn trust(&mut self, id: ConnectionId) {
        self.play(|operation| operation.trust(id));
    }

    /// Ends HTTP on a connection, whose socket is being closed.
    pub fn socket_closes(&mut self, id: ConnectionId, by: Side) {
        self.play(|operation| operation.socket_closing(id, by));
    }

    /// Plays that the kernel gives the connection up, as the network no longer carries it.
    pub fn path_forgotten(&mut self, id: ConnectionId) {
        self.play(|operation| operation.path_forgotten(id));
    }

    pub fn socket_ends(&mut self, id: ConnectionId, end: End) {
        self.play(|operation| operation.socket_ended(id, end));
    }

    /// Ends the polite close of a connection.
    pub fn close_ends(&mut self, id: ConnectionId) {
        self.socket_ends(id, US_POLITE);
    }

    /// Makes a new connection and leases it; `thread` dials and drives it.
    pub fn lease_new_on(&mut self, thread: usize) -> ConnectionId {
        let Got::Wait(waiter) = self.check_out(thread, true) else { panic!("a fresh one is idle") };
        let id = self.dial_on(thread, waiter);
        self.opens(id);
        assert!(matches!(self.collect(waiter), Told::Lease(got, _) if got == id));
        id
    }

    pub fn lease_new(&mut self) -> ConnectionId {
        self.lease_new_on(0)
    }

    /// Makes so many new connections, all leased.
    pub fn lease_several(&mut self, count: usize) -> Vec<ConnectionId> {
        (0..count).map(|_| self.lease_new()).collect()
    }

    /// Makes so many new connections, all idle, and returns them oldest first.
    pub fn idle(&mut self, count: usize) -> Vec<ConnectionId> {
        let ids = self.lease_several(count);
        for id in &ids {
            self.check_in(*id);
        }
        ids
    }

    /// Returns the reason for which a new connection is made now.
    pub fn reason_now(&mut self) -> Reuse {
        let waiter = self.wait();
        let id = self.dial(waiter);
        self.opens(id);
        let Told::Lease(_, reuse) = self.collect(waiter) else { panic!("its own dial was done") };
        reuse
    }

    // ---- the warm floor

    pub fn want(&mut self) -> WarmStep {
        self.adjust(|state, now| state.want(now, 0, 0.0))
    }

    /// Returns the dials that the warm floor wants now.
    pub fn wanted(&mut self) -> Vec<ConnectionId> {
        let dial = |scene: &mut Self| match scene.want() {
            WarmStep::Dial(id) => Some(id),
            _ => None,
        };
        std::iter::from_fn(|| dial(self)).collect()
    }

    /// True if the warm floor is filled with proven connections.
    pub fn proven(&self) -> bool {
        self.state.is_proven(self.now)
    }

    /// Dials and opens all connections that the warm floor wants now.
    pub fn warm_up(&mut self) -> Vec<ConnectionId> {
        let ids = self.wanted();
        for id in &ids {
            self.opens(*id);
        }
        ids
    }

    // ---- changes of a living pool

    /// Puts a new generation with another certificate or trust in force.
    pub fn rotate(&mut self, generation: u64) -> Advanced {
        self.advance(generation, EndReason::Rotated)
    }

    pub fn advance(&mut self, generation: u64, reason: EndReason) -> Advanced {
        self.play(|operation| operation.advance(generation, reason))
    }

    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        let settings = self.settings.clone();
        self.play(|operation| operation.reconfigure(settings));
    }

    pub fn leaves(&mut self, client: ClientId) {
        self.play(|operation| operation.client_left(client));
    }

    // ---- time

    pub fn drain(&mut self) {
        self.play(|operation| operation.drain());
    }

    pub fn flush(&mut self) -> usize {
        self.play(|operation| operation.flush())
    }

    pub fn close_older_half(&mut self) {
        self.play(|operation| operation.close_older_half());
    }

    /// Moves the clock, and nothing else.
    pub fn clock(&mut self, by: Duration) {
        self.now += by;
    }

    pub fn tick(&mut self) -> Option<Instant> {
        self.play(|operation| operation.tick())
    }

    /// Moves the clock, with a tick whenever the state asked for one.
    pub fn pass(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.tick().filter(|at| *at <= end) {
            assert!(at > self.now, "a tick left something undone");
            self.now = at;
        }
        self.now = end;
        self.tick();
    }

    pub fn census(&self) -> Census {
        self.state.census()
    }

    /// Returns the numbers of connections: connecting, active, idle, closing.
    pub fn counts(&self) -> [usize; 4] {
        let Census { connecting, active, idle, closing } = self.census();
        [connecting, active, idle, closing]
    }
}
