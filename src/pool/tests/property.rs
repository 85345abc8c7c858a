//! Random lives of a pool, compared after each step with the naive [`Model`]. `WARMLINE_SOAK=1` plays more and longer
//! ones. The invariants by number are those of `pool::state`.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{
    model::{Answer, Connection, Model, Stage, ms_up},
    scene::{PEER_POLITE, US_POLITE, defaults, millis},
};
use crate::{
    pool::{
        Advanced, Ask, ConnectionPhase, EndReason, KeepAlive, Settings, Sharing, Verdict,
        state::{CheckoutOutcome, Collected, Dialled, Effects, Leased, State, WarmStep},
    },
    telemetry::ends::Side,
};

type Id = u64;

/// A step of a life; `pick` chooses the waiter or connection among those that the step can concern.
#[derive(Debug, Clone)]
enum Step {
    CheckOut {
        ask: Ask,
    },
    Collect {
        pick: usize,
        thread: usize,
    },
    Abandon {
        pick: usize,
    },
    TimeOut {
        pick: usize,
    },
    Opens {
        pick: usize,
        /// The number of generations by which the dial is behind the newest one.
        behind: u64,
        jitter: u32,
    },
    Fails {
        pick: usize,
        error: Option<u8>,
    },
    CheckIn {
        pick: usize,
        hint: Option<KeepAlive>,
    },
    Discard {
        pick: usize,
        reason: EndReason,
    },
    /// An exchange fails, and its connection does not.
    FailStream {
        pick: usize,
    },
    /// A client authenticates itself on a connection that is leased.
    Claim {
        pick: usize,
        client: u64,
    },
    /// A lease goes on with another request of its client.
    Again {
        pick: usize,
    },
    /// A connection allows another number of streams from now on.
    Allow {
        pick: usize,
        limit: u32,
    },
    /// New connections allow another number of streams from now on than their dials are expected to bring.
    Grant {
        limit: u32,
    },
    /// Bytes that were sent `ago` to the peer of the odd, or of the even, connections were never acknowledged.
    Doubt {
        odd: bool,
        ago: u64,
    },
    /// The peer of a connection is proven alive.
    Trust {
        pick: usize,
    },
    SocketCloses {
        pick: usize,
        by_peer: bool,
    },
    SocketEnds {
        pick: usize,
        by_peer: bool,
    },
    /// The upstream closes several idle connections at different ages, so that the lessons show a habit of closing.
    Habit,
    Pass {
        time: u64,
    },
    /// The clock moves to the millisecond at which a tick is due.
    PassToDue,
    Tick,
    Advance {
        by: u64,
        reason: EndReason,
    },
    Reconfigure {
        settings: Settings,
    },
    ClientLeaves {
        client: u64,
    },
    /// The task that dials for the warm floor asks for a dial.
    Want {
        thread: usize,
        jitter: u32,
    },
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    let pick = || any::<usize>();
    prop_oneof![
        14 => ask().prop_map(|ask| Step::CheckOut { ask }),
        14 => (pick(), 0..3_usize).prop_map(|(pick, thread)| Step::Collect { pick, thread }),
        4 => pick().prop_map(|pick| Step::Abandon { pick }),
        2 => pick().prop_map(|pick| Step::TimeOut { pick }),
        8 => (pick(), prop::sample::select(&[0, 0, 0, 1, 2]), 0..=10_u32)
            .prop_map(|(pick, behind, jitter)| Step::Opens { pick, behind, jitter }),
        3 => (pick(), any::<Option<u8>>()).prop_map(|(pick, error)| Step::Fails { pick, error }),
        10 => (pick(), hint()).prop_map(|(pick, hint)| Step::CheckIn { pick, hint }),
        3 => (pick(), prop::sample::select(EndReason::ALL))
            .prop_map(|(pick, reason)| Step::Discard { pick, reason }),
        2 => pick().prop_map(|pick| Step::FailStream { pick }),
        2 => (pick(), 0..4_u64).prop_map(|(pick, client)| Step::Claim { pick, client }),
        1 => pick().prop_map(|pick| Step::Again { pick }),
        2 => (any::<bool>(), 0..50_u64).prop_map(|(odd, ago)| Step::Doubt { odd, ago }),
        2 => pick().prop_map(|pick| Step::Trust { pick }),
        3 => (pick(), any::<bool>())
            .prop_map(|(pick, by_peer)| Step::SocketCloses { pick, by_peer }),
        5 => (pick(), any::<bool>()).prop_map(|(pick, by_peer)| Step::SocketEnds { pick, by_peer }),
        1 => Just(Step::Habit),
        6 => (1..150_u64).prop_map(|time| Step::Pass { time }),
        2 => Just(Step::PassToDue),
        4 => Just(Step::Tick),
        1 => (0..3_u64, prop::sample::select(&[EndReason::Rotated, EndReason::Reconfigured]))
            .prop_map(|(by, reason)| Step::Advance { by, reason }),
        2 => settings().prop_map(|settings| Step::Reconfigure { settings }),
        2 => (0..4_u64).prop_map(|client| Step::ClientLeaves { client }),
        5 => (0..3_usize, 0..=10_u32).prop_map(|(thread, jitter)| Step::Want { thread, jitter }),
        1 => prop::bool::weighted(0.1).prop_map(|now| if now { Step::Drain } else { Step::Tick }),
    ]
}

/// Makes a step of a life in which the connections' limits of streams change.
fn step_with_limits() -> impl Strategy<Value = Step> {
    let allow = (any::<usize>(), 0..4_u32).prop_map(|(pick, limit)| Step::Allow { pick, limit });
    let grant = (0..4_u32).prop_map(|limit| Step::Grant { limit });
    prop_oneof![30 => step(), 2 => allow, 1 => grant]
}

/// Makes a `Keep-Alive` field whose timeout is in milliseconds, as the other times here, not in seconds.
fn hint() -> impl Strategy<Value = Option<KeepAlive>> {
    let timeout = prop::option::weighted(0.5, prop::sample::select(&[0, 50, 200, 3000]));
    let max = prop::option::weighted(0.5, 0..4_u64);
    let hint =
        (timeout, max).prop_map(|(timeout, max)| KeepAlive { timeout: timeout.map(millis), max });
    prop::option::weighted(0.1, hint)
}

fn ask() -> impl Strategy<Value = Ask> {
    let urgency = prop::sample::select(&[0, 3, 3, 3, 7]);
    let fresh = prop::bool::weighted(0.3);
    (0..3_usize, fresh, any::<bool>(), 0..4_u64, any::<bool>(), urgency).prop_map(
        |(thread, fresh, repeatable, client, first, urgency)| Ask {
            thread,
            fresh,
            repeatable,
            client,
            first,
            urgency,
        },
    )
}

fn settings() -> impl Strategy<Value = Settings> {
    let period = |values: &'static [u64]| prop::sample::select(values).prop_map(millis);
    let max_idle = prop::sample::select(&[None, None, Some(0), Some(1), Some(2)]);
    let max_requests =
        prop::sample::select(vec![None, None, NonZeroU64::new(1), NonZeroU64::new(3)]);
    let periods = (period(&[0, 100, 100, 400]), period(&[0, 150, 500]), period(&[0, 300, 1000]));
    let modes = [Sharing::Always, Sharing::Aggressive, Sharing::Safe, Sharing::Never];
    let sharing = prop::sample::select(modes.to_vec());
    let idle = (max_idle, prop::sample::select(&[0, 0, 1, 3]));
    (sharing, 1..6_usize, idle, periods, max_requests, 0..6_usize).prop_map(
        |(
            sharing,
            max_connections,
            (max_idle, min_idle),
            (purge_delay, idle_timeout, max_age),
            max_requests,
            max_queue,
        )| {
            let mut settings = defaults();
            settings.sharing = sharing;
            settings.max_connections = max_connections;
            settings.max_idle = max_idle;
            settings.min_idle = min_idle;
            settings.purge_delay = purge_delay;
            settings.idle_timeout = idle_timeout;
            settings.max_age = max_age;
            settings.max_requests = max_requests;
            settings.max_queue = max_queue;
            settings.queue_timeout = millis(max_age.as_millis() as u64 / 2 + 100);
            settings
        },
    )
}

/// The task that dials for the warm floor.
enum Filler {
    Awake,
    /// The task sleeps until the state reports that the floor is short.
    Sleeps,
    SleepsUntil(u64),
}

/// The state and the model side by side, and what the outside holds of them.
struct Life {
    settings: Settings,
    /// The number of streams that a new connection allows.
    limit: u32,
    state: State<Id, u8, Id>,
    model: Model,
    start: Instant,
    /// The time that the caller of `tick` sleeps towards.
    armed: Option<u64>,
    waiters: BTreeSet<Id>,
    /// The waiters that have looked, found nothing more to do, and were not woken since.
    asleep: BTreeSet<Id>,
    filler: Filler,
    dials: BTreeSet<Id>,
    /// The connections of the leases.
    leases: Vec<Id>,
    sockets: BTreeSet<Id>,
    /// The connections, past ones included, on which HTTP is over.
    closing: BTreeSet<Id>,
    /// The handles that were made, and those of them that were dropped.
    made: BTreeSet<Id>,
    dropped: BTreeSet<Id>,
    /// The connections whose end was reported.
    ended: BTreeSet<Id>,
}

impl Life {
    fn new(settings: &Settings, limit: u32) -> Self {
        Self {
            settings: settings.clone(),
            limit,
            state: State::new(settings.clone(), limit, 3),
            model: Model::new(settings.clone(), limit as usize),
            start: Instant::now(),
            armed: None,
            waiters: BTreeSet::new(),
            asleep: BTreeSet::new(),
            filler: Filler::Awake,
            dials: BTreeSet::new(),
            leases: Vec::new(),
            sockets: BTreeSet::new(),
            closing: BTreeSet::new(),
            made: BTreeSet::new(),
            dropped: BTreeSet::new(),
            ended: BTreeSet::new(),
        }
    }

    fn now(&self) -> Instant {
        self.start + millis(self.model.now)
    }

    fn play(&mut self, step: &Step) {
        let before = self.state.census().total();
        if let Some(id) = self.concerned(step) {
            match *step {
                Step::CheckOut { ask } => self.check_out(ask),
                Step::Collect { thread, .. } => self.collect(id, thread),
                Step::Abandon { .. } => self.abandon(id),
                Step::TimeOut { .. } => self.time_out(id),
                Step::Opens { behind, jitter, .. } => self.opens(id, behind, jitter),
                Step::Fails { error, .. } => self.fails(id, error),
                Step::CheckIn { hint, .. } => self.check_in(id, hint),
                Step::Discard { reason, .. } => self.discard(id, reason),
                Step::FailStream { .. } => self.fail_stream(id),
                Step::Claim { client, .. } => self.claim(id, client),
                Step::Again { .. } => self.again(id),
                Step::Allow { limit, .. } => self.allow(id, limit),
                Step::Grant { limit } => self.limit = limit,
                Step::Doubt { odd, ago } => self.doubt(odd, ago),
                Step::Trust { .. } => self.trust(id),
                Step::SocketCloses { by_peer, .. } => self.socket_closes(id, by_peer),
                Step::SocketEnds { by_peer, .. } => self.socket_ends(id, by_peer),
                Step::Habit => self.habit(),
                Step::Pass { time } => self.model.now += time,
                Step::PassToDue => {
                    let now = self.model.now;
                    self.model.now = self.model.due().map_or(now, |due| due.max(now));
                }
                Step::Tick => self.tick(),
                Step::Advance { by, reason } => self.advance(by, reason),
                Step::Reconfigure { ref settings } => self.reconfigure(settings),
                Step::ClientLeaves { client } => self.client_leaves(client),
                Step::Want { thread, jitter } => self.want(thread, jitter),
                Step::Drain => self.drain(),
            }
        }
        self.check(before);
    }

    /// Returns the waiter or connection that a step concerns; `None` if there is none, and 0 if the step needs none.
    fn concerned(&self, step: &Step) -> Option<Id> {
        let (among, pick) = match step {
            Step::CheckIn { pick, .. }
            | Step::Discard { pick, .. }
            | Step::FailStream { pick }
            | Step::Claim { pick, .. }
            | Step::Again { pick } => {
                return self.leases.get(pick % self.leases.len().max(1)).copied();
            }
            Step::Collect { pick, .. } | Step::Abandon { pick } | Step::TimeOut { pick } => {
                (&self.waiters, pick)
            }
            Step::Opens { pick, .. } | Step::Fails { pick, .. } => (&self.dials, pick),
            Step::SocketCloses { pick, .. }
            | Step::SocketEnds { pick, .. }
            | Step::Allow { pick, .. }
            | Step::Trust { pick } => (&self.sockets, pick),
            Step::CheckOut { .. }
            | Step::Grant { .. }
            | Step::Doubt { .. }
            | Step::Habit
            | Step::Pass { .. }
            | Step::PassToDue
            | Step::Tick
            | Step::Advance { .. }
            | Step::Reconfigure { .. }
            | Step::ClientLeaves { .. }
            | Step::Want { .. }
            | Step::Drain => return Some(0),
        };
        among.iter().nth(pick % among.len().max(1)).copied()
    }

    // ---- steps: each is played on both, with the same result

    fn check_out(&mut self, ask: Ask) {
        let (now, mut effects) = (self.now(), Effects::default());
        let found = self.state.at(now, &mut effects).check_out(ask);
        let answer = match found {
            Ok(CheckoutOutcome::Leased(leased)) => leased_answer(&leased, None),
            Ok(CheckoutOutcome::Waits(waiter)) => Answer::Waits(waiter),
            Err(rejection) => Answer::Refused(rejection),
        };
        assert_eq!(answer, self.model.check_out(ask));
        match answer {
            Answer::Leased { id, .. } => self.leases(id),
            Answer::Waits(waiter) => assert!(self.waiters.insert(waiter)),
            _ => {}
        }
        self.follow_up(effects);
    }

    fn collect(&mut self, waiter: Id, thread: usize) {
        let answer = match self.state.collect(waiter, thread, waiter) {
            Collected::Nothing => Answer::Nothing,
            Collected::Dial(id) => Answer::Dial(id),
            Collected::Queued => Answer::Queued,
            Collected::Leased(leased, queued_for) => leased_answer(&leased, queued_for),
            Collected::Failed(error) => Answer::Failed(error.map(|error| *error)),
        };
        assert_eq!(answer, self.model.collect(waiter, thread));
        match answer {
            Answer::Leased { id, .. } => {
                self.leases(id);
                self.leaves(waiter);
            }
            Answer::Failed(_) => self.leaves(waiter),
            Answer::Dial(id) => {
                assert!(self.dials.insert(id), "dialled twice: {id}");
                self.asleep.insert(waiter);
            }
            // The waiter looks again at once.
            Answer::Queued => {}
            _ => {
                self.asleep.insert(waiter);
            }
        }
    }

    /// Notes a lease, for which the model has found room.
    fn leases(&mut self, id: Id) {
        self.leases.push(id);
    }

    fn ends_lease(&mut self, id: Id) {
        let index = self.leases.iter().position(|leased| *leased == id).unwrap();
        self.leases.swap_remove(index);
    }

    fn leaves(&mut self, waiter: Id) {
        self.waiters.remove(&waiter);
        self.asleep.remove(&waiter);
    }

    fn abandon(&mut self, waiter: Id) {
        let (now, mut effects) = (self.now(), Effects::default());
        self.state.at(now, &mut effects).abandon(waiter);
        self.model.abandon(waiter);
        self.leaves(waiter);
        self.follow_up(effects);
    }

    fn time_out(&mut self, waiter: Id) {
        let timed_out = self.state.time_out(waiter, self.now());
        assert_eq!(timed_out, self.model.time_out(waiter));
        if timed_out {
            self.leaves(waiter);
        }
    }

    fn opens(&mut self, id: Id, behind: u64, jitter: u32) {
        self.dials.remove(&id);
        self.sockets.insert(id);
        assert!(self.made.insert(id));
        let (now, mut effects) = (self.now(), Effects::default());
        let peer = peer(id % 2 == 1);
        let generation = self.model.generation.saturating_sub(behind);
        let (streams, of_one) = (self.limit, f64::from(jitter) / 10.0);
        let dialled = Dialled { generation, peer, streams, jitter: of_one };
        self.state.at(now, &mut effects).established(id, id, dialled);
        self.model.opens(id, generation, u64::from(jitter), self.limit);
        self.follow_up(effects);
    }

    fn fails(&mut self, id: Id, error: Option<u8>) {
        self.dials.remove(&id);
        let (now, mut effects) = (self.now(), Effects::default());
        self.state.at(now, &mut effects).dial_failed(id, error);
        self.model.fails(id, error);
        self.follow_up(effects);
    }

    fn check_in(&mut self, id: Id, hint: Option<KeepAlive>) {
        self.ends_lease(id);
        let (now, mut effects) = (self.now(), Effects::default());
        self.state.at(now, &mut effects).end_lease(id, Verdict::Fit(hint));
        self.model.check_in(id, hint);
        self.follow_up(effects);
    }

    fn fail_stream(&mut self, id: Id) {
        self.ends_lease(id);
        let (now, mut effects) = (self.now(), Effects::default());
        self.state.at(now, &mut effects).end_lease(id, Verdict::StreamFailed);
        self.model.fail_stream(id);
        self.follow_up(effects);
    }

    fn discard(&mut self, id: Id, reason: EndReason) {
        self.ends_lease(id);
        let (now, mut effects) = (self.now(), Effects::default());
        self.state.at(now, &mut effects).end_lease(id, Verdict::Unfit(reason));
        self.model.discard(id, reason);
        self.follow_up(effects);
    }

    /// Claims a connection for a client; a private one for its owner, because no other client can have leased it.
    fn claim(&mut self, id: Id, client: u64) {
        if self.is_shared(id) {
            return;
        }
        let leased = self.model.connections.iter().find(|c| c.id == id);
        let owner = leased.and_then(Connection::private_to);
        let client = owner.unwrap_or(client);
        self.state.claim(id, client);
        self.model.claim(id, client);
    }

    /// True if a connection carries, or could carry, more than one stream: clients authenticate themselves on none
    /// such.
    fn is_shared(&self, id: Id) -> bool {
        self.model.connections.iter().any(|c| c.id == id && (c.open > 1 || c.has_room()))
    }

    fn allow(&mut self, id: Id, limit: u32) {
        let (now, mut effects) = (self.now(), Effects::default());
        self.state.at(now, &mut effects).allow(id, limit);
        self.model.allow(id, limit);
        self.follow_up(effects);
    }

    fn again(&mut self, id: Id) {
        if self.is_shared(id) {
            return;
        }
        let again = self.state.lease_again(id, self.now()).map(|(uses, _)| uses);
        assert_eq!(again, self.model.again(id));
    }

    fn doubt(&mut self, odd: bool, ago: u64) {
        let sent = self.model.now.saturating_sub(ago);
        let (now, mut effects) = (self.now(), Effects::default());
        let at = self.start + millis(sent);
        let doubted = self.state.at(now, &mut effects).doubt(peer(odd), at);
        assert_eq!(doubted, self.model.doubt(odd, sent));
        self.follow_up(effects);
    }

    fn trust(&mut self, id: Id) {
        let (now, mut effects) = (self.now(), Effects::default());
        self.state.at(now, &mut effects).trust(id);
        self.model.trust(id);
        self.follow_up(effects);
    }

    fn socket_closes(&mut self, id: Id, by_peer: bool) {
        let by = if by_peer { Side::Peer } else { Side::Us };
        let (now, mut effects) = (self.now(), Effects::default());
        self.state.at(now, &mut effects).socket_closing(id, by);
        self.model.socket_closes(id, by);
        self.closing.insert(id);
        self.follow_up(effects);
    }

    fn socket_ends(&mut self, id: Id, by_peer: bool) {
        self.sockets.remove(&id);
        let end = if by_peer { PEER_POLITE } else { US_POLITE };
        let (now, mut effects) = (self.now(), Effects::default());
        self.state.at(now, &mut effects).socket_ended(id, end);
        self.model.socket_ends(id, end);
        self.follow_up(effects);
    }

    fn habit(&mut self) {
        let mut effects = Effects::default();
        for idle in [1, 40, 5, 100, 15] {
            self.model.now += 21;
            let now = self.now();
            self.state.at(now, &mut effects).learn_from_close(millis(idle));
            self.model.cut_short(Some(idle));
        }
        self.follow_up(effects);
    }

    fn tick(&mut self) {
        let (now, mut effects) = (self.now(), Effects::default());
        let next = self.state.at(now, &mut effects).tick();
        self.model.tick();
        let due = self.model.due();
        assert_eq!(next.map(|at| ms_up(at - self.start)), due);
        assert!(due.is_none_or(|at| at > self.model.now), "a tick left something undone");
        self.armed = due;
        self.follow_up(effects);
    }

    fn advance(&mut self, by: u64, reason: EndReason) {
        let generation = self.model.generation + by;
        let (now, mut effects) = (self.now(), Effects::default());
        let advanced = self.state.at(now, &mut effects).advance(generation, reason);
        let (idle_closed, in_use) = self.model.advance(generation, reason);
        assert_eq!(advanced, Advanced { idle_closed, in_use });
        self.follow_up(effects);
    }

    fn reconfigure(&mut self, settings: &Settings) {
        self.settings = settings.clone();
        let (now, mut effects) = (self.now(), Effects::default());
        self.state.at(now, &mut effects).reconfigure(settings.clone());
        self.model.reconfigure(settings.clone());
        self.follow_up(effects);
    }

    fn client_leaves(&mut self, client: u64) {
        let (now, mut effects) = (self.now(), Effects::default());
        self.state.at(now, &mut effects).client_left(client);
        self.model.client_left(client);
        self.follow_up(effects);
    }

    fn want(&mut self, thread: usize, jitter: u32) {
        let jitter = f64::from(jitter) / 10.0;
        let wanted = match self.state.want(self.now(), thread, jitter) {
            WarmStep::Dial(id) => Ok(id),
            WarmStep::After(at) => Err(Some((at - self.start).as_millis() as u64)),
            WarmStep::Nothing => Err(None),
        };
        assert_eq!(wanted, self.model.want(thread, jitter));
        if let Ok(id) = wanted {
            assert!(self.dials.insert(id), "dialled twice: {id}");
        }
        self.filler = match wanted {
            Ok(_) => Filler::Awake,
            Err(Some(at)) => Filler::SleepsUntil(at),
            Err(None) => Filler::Sleeps,
        };
    }

    fn drain(&mut self) {
        let (now, mut effects) = (self.now(), Effects::default());
        self.state.at(now, &mut effects).drain();
        self.model.drain();
        self.follow_up(effects);
    }

    // ---- invariants (9 and 10 in part: no handle is dropped twice, no end is reported twice or too early)

    fn follow_up(&mut self, effects: Effects<Id, Id>) {
        let Effects { wake, close, ended, rearm } = effects;
        self.asleep.retain(|waiter| !wake.contains(waiter));
        for id in &close {
            assert!(self.dropped.insert(*id), "handle {id} was dropped twice");
        }
        let sorted = |mut ids: Vec<Id>| {
            ids.sort_unstable();
            ids
        };
        assert_eq!(sorted(close), sorted(std::mem::take(&mut self.model.closed)));
        let ended: Vec<_> = ended.iter().map(|e| (e.id, e.uses, e.reason)).collect();
        assert_eq!(ended, std::mem::take(&mut self.model.ended));
        for (id, ..) in ended {
            assert!(self.ended.insert(id), "connection {id} ended twice");
            assert!(!self.sockets.contains(&id) && !self.leases.contains(&id));
        }
        if rearm {
            self.armed = self.model.due();
            // The caller ticks at once. Unless work is due, that only sets the time of the next tick.
            if self.armed.is_none_or(|at| at > self.model.now) {
                let now = self.now();
                self.state.at(now, &mut Effects::default()).tick();
            }
        }
    }

    /// Checks all invariants. `before` is the number of places that were taken before the step.
    fn check(&mut self, before: usize) {
        if self.state.reports_shortage() {
            self.filler = Filler::Awake;
        }
        self.check_against_the_model();
        self.check_the_places(before);
        self.check_that_nothing_is_lost();
        self.check_that_nobody_oversleeps();
    }

    /// Compares the state with the model (invariant 4), and checks that no closing connection is idle (invariant 8).
    fn check_against_the_model(&self) {
        assert_eq!(self.state.census(), self.model.census());
        assert_eq!(self.state.queued(), self.model.queued());
        assert_eq!(self.state.learned(), self.model.lessons.learned());
        assert_eq!(self.state.closes_at_any_time(), self.model.lessons.has_habit());
        assert_eq!(self.state.is_warm(), self.model.warm);
        for waiter in &self.waiters {
            assert_eq!(self.state.is_queued(*waiter), self.model.is_queued(*waiter));
        }
        let dials = self.model.dials_with_room();
        assert_eq!(self.state.dials_with_room(), [dials.clone(), dials]);
        let mut views = self.state.views(self.now());
        views.sort_unstable_by_key(|view| view.id);
        for view in views.iter().filter(|view| view.phase == ConnectionPhase::Idle) {
            assert!(!self.closing.contains(&view.id), "{} is idle and being closed", view.id);
        }
        let views: Vec<_> =
            views.iter().map(|v| (v.id, v.phase, v.generation, v.uses, v.last_reuse)).collect();
        let living = self.model.connections.iter().filter_map(|c| {
            let phase = match c.stage {
                Stage::Dialling => ConnectionPhase::Connecting,
                Stage::Open if c.is_idle() => ConnectionPhase::Idle,
                Stage::Open | Stage::Retiring(_) => ConnectionPhase::Active,
                Stage::Closing(_) => ConnectionPhase::Closing,
                Stage::Lost(_) => return None,
            };
            Some((c.id, phase, c.generation, c.uses, c.last_reuse))
        });
        assert_eq!(views, living.collect::<Vec<_>>());
    }

    /// Checks invariants 1 to 3 and 5 to 8, in this order.
    fn check_the_places(&self, before: usize) {
        let census = self.state.census();
        let most = self.settings.max_connections.max(before);
        assert!(census.total() <= most, "over the cap: {census:?}");
        assert!(
            !self.model.place_free() || self.state.queued() == 0,
            "a place is free: {census:?}"
        );
        assert!(
            self.model.dials_with_room().is_empty() || self.state.queued() == 0,
            "somebody queues beside a dial with room"
        );
        assert!(!self.model.waits_beside_its_own(), "somebody waits beside one with room");
        if census.idle > 0 {
            assert!(
                self.state.queued() <= self.model.places_coming(),
                "somebody waits for no place"
            );
        }
        assert!(census.idle <= self.model.most_idle(), "too many idle: {census:?}");
        if self.model.connections.iter().any(Connection::has_room) {
            let coming = self.model.places_coming() + self.model.retiring();
            assert!(self.state.queued() <= coming, "somebody waits beside room for no place");
        }
        let takes_streams = |c: &&Connection| c.is_idle() || c.has_room();
        let generations = self.model.connections.iter().filter(takes_streams).map(|c| c.generation);
        let newest = self.model.generation;
        assert!(generations.min().is_none_or(|oldest| oldest >= newest), "an old one has room");
        let open = |c: &&Connection| {
            matches!(c.stage, Stage::Open | Stage::Retiring(_) | Stage::Closing(_))
        };
        let oldest = self.model.connections.iter().filter(open).map(|c| c.generation).min();
        for generation in newest.saturating_sub(3)..=newest {
            let outlived = oldest.is_none_or(|oldest| oldest >= generation);
            assert_eq!(self.state.has_outlived(generation), outlived);
        }
    }

    /// Checks that each handle is held until its connection closes, and for as long as it is leased (invariant 9), and
    /// that a connection which is to end has open streams (invariant 14).
    fn check_that_nothing_is_lost(&self) {
        assert!(self.dropped.is_subset(&self.made));
        let held = self.made.difference(&self.dropped).count();
        let holds =
            |c: &&Connection| matches!(c.stage, Stage::Open | Stage::Retiring(_) | Stage::Lost(_));
        let holding = self.model.connections.iter().filter(holds).count();
        assert_eq!(held, holding, "handles made and not dropped");
        for connection in &self.model.connections {
            if matches!(connection.stage, Stage::Retiring(_) | Stage::Lost(_)) {
                assert!(connection.open > 0, "nothing holds {}", connection.id);
            }
        }
        for id in &self.leases {
            assert!(!self.dropped.contains(id), "{id} is leased and dropped");
        }
    }

    /// Checks that waiters, the warm floor's task and the next tick are woken in time (invariants 11, 13 and 12).
    fn check_that_nobody_oversleeps(&self) {
        for waiter in &self.model.waiters {
            let asleep = self.asleep.contains(&waiter.id);
            assert!(!(asleep && waiter.has_news()), "waiter {} was not woken", waiter.id);
        }
        match self.filler {
            Filler::Sleeps => assert!(!self.model.lacks(), "the floor lacks one, and nobody knows"),
            Filler::SleepsUntil(at) => {
                assert!(at <= self.model.paused_until().max(self.model.now));
            }
            Filler::Awake => {}
        }
        if let Some(due) = self.model.due() {
            assert!(self.armed.is_some_and(|at| at <= due), "the next tick comes too late");
        }
    }

    /// Plays on without failures, and with waiters that only look when woken: every waiter must be served, and every
    /// connection close.
    fn come_to_rest(&mut self) {
        for _ in 0..10_000 {
            let before = self.state.census().total();
            let awake = self.waiters.difference(&self.asleep).next().copied();
            if let Some(waiter) = awake {
                self.collect(waiter, 0);
            } else if let Some(id) = self.dials.first().copied() {
                self.limit = 1;
                self.opens(id, 0, 0);
            } else if let Some(id) = self.leases.first().copied() {
                self.check_in(id, None);
            } else if let Some(id) = self.closing() {
                self.socket_ends(id, false);
            } else {
                break;
            }
            self.check(before);
        }
        assert!(self.waiters.is_empty(), "stuck: {:?}", self.model.waiters);
        self.drain();
        while let Some(id) = self.closing() {
            self.socket_ends(id, false);
        }
        self.check(0);
        assert!(self.state.is_empty());
        assert_eq!(self.made, self.dropped);
        assert_eq!(self.made, self.ended);
    }

    fn closing(&self) -> Option<Id> {
        let closing = |id: &&Id| matches!(self.model.stage(**id), Some(Stage::Closing(_)));
        self.sockets.iter().find(closing).copied()
    }
}

/// Returns the address behind a connection; there are two, for odd and for even ids.
fn peer(odd: bool) -> SocketAddr {
    ([127, 0, 0, 1], 443 + u16::from(odd)).into()
}

fn leased_answer(leased: &Leased<Id>, queued_for: Option<Duration>) -> Answer {
    assert_eq!(leased.id, leased.handle, "another connection's handle");
    let Leased { id, uses, reuse, .. } = *leased;
    Answer::Leased { id, uses, reuse, queued_for: queued_for.map(|wait| wait.as_millis() as u64) }
}

/// Plays lives whose connections allow this number of streams at first.
fn live<S: Strategy<Value = Step>>(limit: impl Strategy<Value = u32>, step: impl Fn() -> S) {
    let soak = std::env::var("WARMLINE_SOAK").is_ok_and(|value| value == "1");
    let (cases, steps) = if soak { (50_000, 400) } else { (1_500, 200) };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(settings(), limit, vec(step(), 1..steps)), |(settings, limit, steps)| {
            let mut life = Life::new(&settings, limit);
            for step in &steps {
                life.play(step);
            }
            life.come_to_rest();
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn whatever_happens_the_pool_does_as_the_model() {
    live(prop::sample::select(&[1, 1, 3]), step);
}

#[test]
fn whatever_limits_of_streams_the_peers_set_the_pool_does_as_the_model() {
    live(1..4_u32, step_with_limits);
}
