//! The pool again, naively: flat lists, where everything is found by a look at all entries and nothing is remembered
//! that can be counted. Slow and plain, to compare [`State`](crate::pool::state::State) with. Times are in
//! milliseconds.

use std::time::{Duration, Instant};

use crate::{
    pool::{
        Ask, Census, End, EndReason, KeepAlive, PROOF_TIME, Rejection, Reuse, Settings, Sharing,
        learned::Lessons,
        pace::Pace,
        refill::{MAX_CONCURRENT_DIALS, Refill, SHORT_LIFE},
    },
    telemetry::ends::Side,
};

type Id = u64;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stage {
    Dialling,
    Open,
    Retiring(EndReason),
    Closing(EndReason),
    Lost(End),
}

#[derive(Debug)]
pub struct Connection {
    pub id: Id,
    pub stage: Stage,
    /// The number of open streams, and the number that may be open.
    pub open: u32,
    pub limit: u32,
    /// The time and the turn since which the connection has had room or was idle.
    since: Option<(u64, u64)>,
    thread: usize,
    /// The time of establishment, and the connection's jitter in tenths; `None` during the dial.
    opened: Option<(u64, u64)>,
    pub generation: u64,
    pub uses: u64,
    owner: Option<u64>,
    /// True if its owner has authenticated itself on the connection.
    pub private: bool,
    /// The time until which the connection has to be proven alive; `None` if it is not doubted.
    pub doubted: Option<u64>,
    idle_before: Option<u64>,
    announced: Option<Duration>,
    last_use: Option<u64>,
    pub last_reuse: Option<Reuse>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Dial {
    Granted,
    Own,
    Adopted,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Leased { id: Id, uses: u64, reuse: Reuse },
    Failed(Option<u8>),
}

#[derive(Debug)]
pub struct Waiter {
    pub id: Id,
    ask: Ask,
    reason: Reuse,
    came_at_cap: Option<u64>,
    queued_since: Option<u64>,
    queued_for: Option<u64>,
    dial: Option<(Id, Dial)>,
    outcome: Option<Outcome>,
    /// True if the waiter lost its dial and has not been told of that.
    sent_back: bool,
}

impl Connection {
    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Open && self.open == 0
    }

    pub fn is_in_use(&self) -> bool {
        self.takes_place_for_streams() && self.open > 0
    }

    /// True if a new stream may begin.
    pub fn has_room(&self) -> bool {
        self.stage == Stage::Open && self.open < self.limit
    }

    /// True if streams are open, or may be opened, on a socket that has not ended.
    fn takes_place_for_streams(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Retiring(_))
    }

    /// Returns the client that has claimed the connection.
    pub fn private_to(&self) -> Option<u64> {
        self.owner.filter(|_| self.private)
    }
}

impl Waiter {
    fn queued(&self) -> bool {
        self.dial.is_none() && self.outcome.is_none()
    }

    /// True if the waiter would learn something by looking.
    pub fn has_news(&self) -> bool {
        self.outcome.is_some()
            || matches!(self.dial, Some((_, Dial::Granted)))
            || (self.queued() && self.sent_back)
    }

    pub fn unserved(&self) -> bool {
        self.outcome.is_none()
    }
}

/// The answer to a checkout or to a waiter that looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    Leased { id: Id, uses: u64, reuse: Reuse, queued_for: Option<u64> },
    Waits(Id),
    Refused(Rejection),
    Nothing,
    Dial(Id),
    Queued,
    Failed(Option<u8>),
}

#[derive(Debug)]
pub struct Model {
    settings: Settings,
    /// The number of streams that is expected on a connection.
    expected: usize,
    pub now: u64,
    pub connections: Vec<Connection>,
    pub waiters: Vec<Waiter>,
    /// The handles that were dropped, and the ends that were reported, since the test last looked.
    pub closed: Vec<Id>,
    pub ended: Vec<(Id, u64, EndReason)>,
    made: Id,
    came: Id,
    turns: u64,
    peak: usize,
    need: usize,
    purge_period: Option<u64>,
    pub generation: u64,
    outdated: EndReason,
    last_end: Option<EndReason>,
    draining: bool,
    /// The instant of time 0, for the parts that are shared with the state and count in instants.
    epoch: Instant,
    refill: Refill,
    pub lessons: Lessons,
    pace: Pace,
    pub warm: bool,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// Rounds up, because a learned limit may end between two milliseconds, and the clock here moves by whole ones.
pub fn ms_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap()
}

impl Model {
    pub fn new(settings: Settings, expected: usize) -> Self {
        Self {
            expected,
            epoch: Instant::now(),
            refill: Refill::default(),
            lessons: Lessons::default(),
            pace: Pace::default(),
            warm: settings.min_idle == 0,
            settings,
            now: 0,
            connections: Vec::new(),
            waiters: Vec::new(),
            closed: Vec::new(),
            ended: Vec::new(),
            made: 0,
            came: 0,
            turns: 0,
            peak: 0,
            need: 0,
            purge_period: None,
            generation: 0,
            outdated: EndReason::Rotated,
            last_end: None,
            draining: false,
        }
    }

    // ---- the present state

    fn count(&self, counts: impl Fn(&Connection) -> bool) -> usize {
        self.connections.iter().filter(|c| counts(c)).count()
    }

    /// Returns the number of connections that the open streams need.
    fn in_use(&self) -> usize {
        let in_use = self.connections.iter().filter(|c| c.is_in_use());
        let streams: usize = in_use.map(|c| c.open as usize).sum();
        streams.div_ceil(self.expected)
    }

    pub fn retiring(&self) -> usize {
        self.count(|c| matches!(c.stage, Stage::Retiring(_)))
    }

    pub fn census(&self) -> Census {
        Census {
            connecting: self.count(|c| c.stage == Stage::Dialling),
            active: self.count(Connection::is_in_use),
            idle: self.count(Connection::is_idle),
            closing: self.count(|c| matches!(c.stage, Stage::Closing(_))),
        }
    }

    /// Returns the dials that no waiter counts on, oldest first.
    pub fn orphans(&self) -> Vec<Id> {
        let owned = |id| self.waiters.iter().any(|w| w.dial.is_some_and(|dial| dial.0 == id));
        let dials = self.connections.iter().filter(|c| c.stage == Stage::Dialling).map(|c| c.id);
        dials.filter(|id| !owned(*id)).collect()
    }

    /// Returns the dials that one more waiter may count on, oldest first.
    pub fn dials_with_room(&self) -> Vec<Id> {
        let dials = self.connections.iter().filter(|c| c.stage == Stage::Dialling).map(|c| c.id);
        dials.filter(|id| self.counting_on(*id).len() < self.expected).collect()
    }

    /// Returns the waiters that count on a dial, in the order of the queue.
    fn counting_on(&self, dial: Id) -> Vec<Id> {
        let counting = self.waiters.iter().filter(|w| w.dial.is_some_and(|(id, _)| id == dial));
        counting.map(|w| w.id).collect()
    }

    /// True if a new request finds neither a free place nor a dial to count on.
    fn full(&self) -> bool {
        !self.place_free() && self.dials_with_room().is_empty()
    }

    pub fn queued(&self) -> usize {
        self.waiters.iter().filter(|waiter| waiter.queued()).count()
    }

    pub fn is_queued(&self, waiter: Id) -> bool {
        self.waiters.iter().any(|w| w.id == waiter && w.queued())
    }

    pub fn place_free(&self) -> bool {
        self.census().total() < self.settings.max_connections
    }

    pub fn stage(&self, id: Id) -> Option<Stage> {
        self.connections.iter().find(|c| c.id == id).map(|c| c.stage)
    }

    fn connection(&mut self, id: Id) -> &mut Connection {
        self.connections.iter_mut().find(|c| c.id == id).unwrap()
    }

    fn waiter(&mut self, id: Id) -> &mut Waiter {
        self.waiters.iter_mut().find(|w| w.id == id).unwrap()
    }

    /// Returns the connections that have room or are idle and that `wanted` accepts as (turn, id), oldest first.
    fn listed(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<(u64, Id)> {
        let wanted = self.connections.iter().filter(|c| wanted(c));
        let mut listed: Vec<_> = wanted.filter_map(|c| Some((c.since?.1, c.id))).collect();
        listed.sort_unstable();
        listed
    }

    fn idle(&self) -> Vec<(u64, Id)> {
        self.listed(Connection::is_idle)
    }

    fn find(&self, id: Id) -> &Connection {
        self.connections.iter().find(|c| c.id == id).unwrap()
    }

    /// Notes that a connection has room, or is idle, from now on, or that neither is true any more.
    fn settle(&mut self, id: Id) {
        let turn = self.turns + 1;
        let now = self.now;
        let connection = self.connection(id);
        if !connection.has_room() && !connection.is_idle() {
            connection.since = None;
        } else if connection.since.is_none() {
            connection.since = Some((now, turn));
            self.turns = turn;
        }
    }

    fn newest(&self, ask: &Ask) -> Option<Id> {
        let own = self.listed(|c| c.thread == ask.thread);
        let all = self.listed(|_| true);
        let private_first = all.iter().rev().filter(|(_, id)| self.is_private(*id));
        let newest_first = private_first.chain(own.iter().rev()).chain(all.iter().rev());
        let mut newest_first = newest_first.map(|(_, id)| *id);
        newest_first.find(|id| self.may_take(ask, *id)).filter(|_| !ask.fresh)
    }

    pub fn may_take(&self, ask: &Ask, id: Id) -> bool {
        let connection = self.find(id);
        match (connection.uses, self.settings.sharing) {
            _ if connection.doubted.is_some() || !connection.has_room() => false,
            (0, _) => true,
            _ if ask.fresh => false,
            _ if connection.private => connection.owner == Some(ask.client),
            (1, Sharing::Aggressive) | (_, Sharing::Safe) => !ask.first,
            (_, Sharing::Always | Sharing::Aggressive) => true,
            (_, Sharing::Never) => connection.owner == Some(ask.client),
        }
    }

    /// True if some connection may be taken by a waiter that is not a retry.
    pub fn waits_beside_its_own(&self) -> bool {
        let waits = |w: &&Waiter| w.unserved() && !w.ask.fresh;
        let all = self.listed(|_| true);
        self.waiters.iter().filter(waits).any(|w| all.iter().any(|i| self.may_take(&w.ask, i.1)))
    }

    /// Returns when a connection that has room or is idle must end, and why; of two reasons at one time the idle limit
    /// wins.
    fn limit(&self, connection: &Connection) -> Option<(u64, EndReason)> {
        let (since, _) = connection.since?;
        if !connection.is_idle() {
            return self.retires(connection).map(|at| (at, EndReason::Aged));
        }
        let timeout = ms(self.settings.idle_timeout);
        let learned = self
            .lessons
            .limit(connection.announced, connection.uses > 0)
            .map(|limit| since + ms_up(limit));
        let idle = if timeout > 0 { since + timeout } else { u64::MAX };
        let idle = idle.min(learned.unwrap_or(u64::MAX));
        let aged = self.retires(connection).unwrap_or(u64::MAX);
        let stale = connection.doubted.unwrap_or(u64::MAX);
        match idle.min(aged).min(stale) {
            u64::MAX => None,
            at if at == idle => Some((at, EndReason::Idle)),
            at if at == aged => Some((at, EndReason::Aged)),
            at => Some((at, EndReason::Stale)),
        }
    }

    fn retires(&self, connection: &Connection) -> Option<u64> {
        let age = ms(self.settings.max_age);
        let (opened, jitter) = connection.opened?;
        (age > 0).then_some(opened + age - age * jitter / 100)
    }

    fn next_purge(&self) -> Option<u64> {
        let delay = ms(self.settings.purge_delay);
        self.purge_period.filter(|_| delay > 0).map(|since| since + delay)
    }

    /// Returns the number of connecting, active and idle connections.
    fn staying(&self) -> usize {
        let census = self.census();
        census.connecting + census.active + census.idle
    }

    /// Returns the number of places that are free or closing.
    pub fn places_coming(&self) -> usize {
        self.settings.max_connections.saturating_sub(self.staying())
    }

    fn over_limit(&self, id: Id) -> Option<EndReason> {
        let connection = self.connections.iter().find(|c| c.id == id)?;
        self.limit(connection).filter(|(at, _)| *at <= self.now).map(|(_, reason)| reason)
    }

    /// Returns the next time at which a tick has work to do.
    pub fn due(&self) -> Option<u64> {
        let limits = self.connections.iter().filter_map(|c| self.limit(c)).map(|(at, _)| at);
        limits.chain(self.next_purge()).min()
    }

    // ---- checkouts

    pub fn check_out(&mut self, asked: Ask) -> Answer {
        while let Some(id) = self.newest(&asked).filter(|id| self.is_private(*id)) {
            if let Some(reason) = self.over_limit(id) {
                self.ends(id, reason);
            } else {
                return self.leased_idle(id, &asked);
            }
        }
        let gambles = self.lessons.has_habit() && !asked.fresh && !asked.repeatable;
        let ask = if gambles { Ask { fresh: true, ..asked } } else { asked };
        while let Some(id) = self.newest(&ask) {
            if let Some(reason) = self.over_limit(id) {
                self.ends(id, reason);
            } else {
                return self.leased_idle(id, &ask);
            }
        }
        let full = self.full();
        if full && self.queued() >= self.settings.max_queue {
            return Answer::Refused(Rejection::QueueFull);
        }
        let before = |w: &&Waiter| w.queued() && w.ask.urgency <= ask.urgency;
        let before = self.waiters.iter().filter(before).count();
        if full && self.pace.is_too_slow(before, self.at(), self.settings.queue_timeout) {
            return Answer::Refused(Rejection::Shed);
        }
        let id = self.join(ask, gambles);
        if full && self.queued() > self.places_coming() {
            match self.idle().first() {
                Some((_, oldest)) => self.close(*oldest, EndReason::Purged),
                None => self.retire_for_places(),
            }
        }
        self.adopt();
        self.grant();
        Answer::Waits(id)
    }

    fn leased_idle(&mut self, id: Id, ask: &Ask) -> Answer {
        let idle = self.idle_for(id).or(self.find(id).idle_before);
        self.connection(id).idle_before = idle;
        let answer = self.leased(id, ask, Reuse::Reused);
        if self.find(id).has_room() {
            self.give_room(id);
            self.adopt();
            self.grant();
        }
        answer
    }

    fn is_private(&self, id: Id) -> bool {
        self.connections.iter().any(|c| c.id == id && c.private)
    }

    fn is_doubted(&self, id: Id) -> bool {
        self.connections.iter().any(|c| c.id == id && c.doubted.is_some())
    }

    /// Doubts the idle connections with even ids, or with odd ones, that became idle before `sent`, and returns them.
    pub fn doubt(&mut self, odd: bool, sent: u64) -> Vec<Id> {
        let until = self.now + PROOF_TIME.as_millis() as u64;
        let fits = |c: &&mut Connection| {
            let unused = c.is_idle() && c.since.is_some_and(|(since, _)| since < sent);
            unused && (c.id % 2 == 1) == odd && c.doubted.is_none()
        };
        let mut doubted: Vec<_> = self
            .connections
            .iter_mut()
            .filter(fits)
            .map(|c| {
                c.doubted = Some(until);
                c.id
            })
            .collect();
        doubted.sort_unstable();
        doubted
    }

    /// Ends the doubt about a connection.
    pub fn trust(&mut self, id: Id) {
        if self.is_doubted(id) {
            self.connection(id).doubted = None;
            self.give_room(id);
            self.adopt();
            self.grant();
        }
    }

    /// Makes a leased connection private to a client.
    pub fn claim(&mut self, id: Id, client: u64) {
        let connection = self.connection(id);
        (connection.owner, connection.private) = (Some(client), true);
    }

    /// Counts another request on a lease; returns its uses, or `None` if the connection has ended.
    pub fn again(&mut self, id: Id) -> Option<u64> {
        let connection = self.connection(id);
        if connection.stage != Stage::Open {
            return None;
        }
        connection.uses += 1;
        connection.last_reuse = Some(Reuse::Reused);
        Some(connection.uses)
    }

    fn join(&mut self, ask: Ask, gambles: bool) -> Id {
        let census = self.census();
        let never_used = matches!(self.settings.sharing, Sharing::Safe | Sharing::Never);
        let is_shared = |c: &Connection| c.has_room() && !c.private && c.doubted.is_none();
        let reason = if gambles {
            Reuse::Risky
        } else if ask.fresh || ask.first && never_used || self.connections.iter().any(is_shared) {
            Reuse::Policy
        } else if self.connections.iter().any(|c| c.is_idle() && c.doubted.is_some()) {
            Reuse::Stale
        } else if self.connections.iter().any(Connection::has_room) {
            Reuse::Authenticated
        } else if !self.place_free() {
            Reuse::Cap
        } else if census.active + census.connecting + census.idle > 0 {
            Reuse::Busy
        } else {
            let last = self.last_end.map(EndReason::as_str);
            let same_word = |reuse: &&Reuse| Some(reuse.as_str()) == last;
            *Reuse::ALL.iter().find(same_word).unwrap_or(&Reuse::First)
        };
        let came_at_cap = self.full().then_some(self.now);
        if came_at_cap.is_some() {
            self.a_line_begins();
        }
        self.came += 1;
        let id = self.came;
        let (queued_for, dial, outcome) = (None, None, None);
        let sent_back = false;
        self.waiters.push(Waiter {
            id,
            ask,
            reason,
            came_at_cap,
            queued_since: came_at_cap,
            queued_for,
            dial,
            outcome,
            sent_back,
        });
        self.waiters.sort_by_key(|w| (w.ask.urgency, w.id));
        id
    }

    pub fn collect(&mut self, waiter: Id, thread: usize) -> Answer {
        let Waiter { outcome, dial, queued_for, sent_back, .. } = *self.waiter(waiter);
        match (outcome, dial) {
            (Some(Outcome::Leased { id, uses, reuse }), _) => {
                self.waiters.retain(|w| w.id != waiter);
                Answer::Leased { id, uses, reuse, queued_for }
            }
            (Some(Outcome::Failed(error)), _) => {
                self.waiters.retain(|w| w.id != waiter);
                Answer::Failed(error)
            }
            (None, Some((id, Dial::Granted))) => {
                self.waiter(waiter).dial = Some((id, Dial::Own));
                self.connection(id).thread = thread;
                Answer::Dial(id)
            }
            (None, None) if sent_back => {
                self.waiter(waiter).sent_back = false;
                Answer::Queued
            }
            _ => Answer::Nothing,
        }
    }

    pub fn abandon(&mut self, waiter: Id) {
        let index = self.waiters.iter().position(|w| w.id == waiter).unwrap();
        let left = self.waiters.remove(index);
        if left.queued() {
            self.a_line_may_end();
        }
        self.release(left.dial);
        if let Some(Outcome::Leased { id, .. }) = left.outcome {
            let connection = self.connection(id);
            connection.uses -= 1;
            if connection.uses == 0 {
                connection.owner = None;
            }
            self.end_stream(id, None);
        }
        self.adopt();
        self.grant();
    }

    pub fn time_out(&mut self, waiter: Id) -> bool {
        let queued = self.is_queued(waiter);
        self.waiters.retain(|w| w.id != waiter || !queued);
        if queued {
            self.a_line_may_end();
        }
        queued
    }

    /// Notes that a waiter queues, if the queue was empty.
    fn a_line_begins(&mut self) {
        if self.queued() == 0 {
            self.pace.begins(self.at(), self.settings.queue_timeout);
        }
    }

    fn a_line_may_end(&mut self) {
        if self.queued() == 0 {
            self.pace.given_up(self.at());
        }
    }

    /// Takes a dial from the waiters that count on it.
    fn lose_their_dial(&mut self, id: Id) {
        for waiter in self.counting_on(id) {
            if self.waiter(waiter).outcome.is_none() {
                self.a_line_begins();
            }
            let now = self.now;
            let waiter = self.waiter(waiter);
            (waiter.dial, waiter.sent_back, waiter.queued_since) = (None, true, Some(now));
        }
    }

    // ---- connections

    /// Returns the id of a new dial for the warm floor, else the time to ask again, or `None` to wait for a lack.
    pub fn want(&mut self, thread: usize, jitter: f64) -> Result<Id, Option<u64>> {
        if !self.lacks() {
            return Err(None);
        }
        if let Some(end) = self.refill.paused_until(self.at()) {
            return Err(Some(ms(end - self.epoch)));
        }
        self.refill.set_jitter(jitter);
        self.dial();
        let id = self.made;
        self.connection(id).thread = thread;
        Ok(id)
    }

    /// True if a dial for the warm floor is due, now or after the pause.
    pub fn lacks(&self) -> bool {
        let (idle, coming) = (self.census().idle, self.orphans().len());
        let few = coming < MAX_CONCURRENT_DIALS && idle + coming < self.settings.min_idle;
        few && self.place_free() && !self.draining
    }

    /// Returns the time until which no dial for the warm floor may begin.
    pub fn paused_until(&self) -> u64 {
        self.refill.paused_until(self.at()).map_or(0, |end| ms(end - self.epoch))
    }

    fn at(&self) -> Instant {
        self.epoch + Duration::from_millis(self.now)
    }

    fn notice_warmth(&mut self) {
        let Census { active, idle, .. } = self.census();
        let wanted = self.settings.min_idle.min(self.settings.max_connections);
        self.warm = self.warm || active + idle >= wanted;
    }

    /// Closes an idle connection that has expired or was ended; if it was short-lived and unused, dials for the floor
    /// pause.
    fn ends(&mut self, id: Id, reason: EndReason) {
        let at = self.at();
        if self.was_short_lived(id) {
            self.refill.failed(at);
        }
        if reason == EndReason::Idle || reason == EndReason::Aged {
            let idle = Duration::from_millis(self.idle_for(id).unwrap_or(0));
            self.lessons.survived(idle, at);
        }
        self.retire(id, reason);
    }

    fn was_short_lived(&mut self, id: Id) -> bool {
        let now = self.now;
        let connection = self.connection(id);
        let opened = connection.opened.map_or(now, |(opened, _)| opened);
        connection.uses == 0 && Duration::from_millis(now - opened) < SHORT_LIFE
    }

    fn idle_for(&self, id: Id) -> Option<u64> {
        let idle = self.connections.iter().find(|c| c.id == id && c.is_idle());
        idle.and_then(|c| c.since).map(|(since, _)| self.now - since)
    }

    /// Learns that the upstream closed a connection that had been idle for so long.
    pub fn cut_short(&mut self, idle: Option<u64>) {
        if let Some(idle) = idle {
            self.lessons.closed(Duration::from_millis(idle), self.at());
        }
    }

    pub fn opens(&mut self, id: Id, generation: u64, jitter: u64, limit: u32) {
        self.lose_their_dial(id);
        let opened = Some((self.now, jitter));
        let connection = self.connection(id);
        (connection.opened, connection.generation) = (opened, generation);
        (connection.stage, connection.limit) = (Stage::Open, limit);
        self.returned(id);
        self.notice_warmth();
        self.adopt();
        self.grant();
    }

    pub fn fails(&mut self, id: Id, error: Option<u8>) {
        self.refill.failed(self.at());
        self.connections.retain(|c| c.id != id);
        for waiter in self.waiters.iter_mut().filter(|w| w.dial == Some((id, Dial::Own))) {
            waiter.outcome = Some(Outcome::Failed(error));
        }
        self.lose_their_dial(id);
        // The place is granted first, because it is for the waiters that have just lost their dial. Otherwise those
        // waiters would adopt another dial.
        self.grant_places();
        self.adopt();
        self.grant();
    }

    pub fn check_in(&mut self, id: Id, hint: Option<KeepAlive>) {
        if !matches!(self.stage(id), Some(Stage::Lost(_))) {
            self.learn(id, hint.unwrap_or_default());
        }
        self.end_stream(id, None);
        self.adopt();
        self.grant();
    }

    /// Ends a lease whose exchange failed, while its connection did not.
    pub fn fail_stream(&mut self, id: Id) {
        self.end_stream(id, None);
        self.adopt();
        self.grant();
    }

    fn learn(&mut self, id: Id, hint: KeepAlive) {
        let at = self.at();
        self.lessons.time_passes(at);
        if let Some(idle) = self.connection(id).idle_before.take() {
            self.lessons.survived(Duration::from_millis(idle), at);
        }
        if let Some(timeout) = hint.timeout {
            let limit = self.lessons.announced(timeout, at);
            self.connection(id).announced = Some(limit);
        }
        let max = if hint.timeout == Some(Duration::ZERO) { Some(0) } else { hint.max };
        if let Some(max) = max {
            self.connection(id).last_use = Some(self.connection(id).uses + max);
        }
    }

    /// Returns the first reason that applies for which a connection in use must not be used again.
    fn unfit(&self, id: Id) -> Option<EndReason> {
        let connection = self.connections.iter().find(|c| c.id == id)?;
        let old = connection.generation < self.generation;
        let used_up = self.has_used_up_requests(connection);
        let ownerless = self.reason_if_ownerless(connection);
        let aged = self.retires(connection).is_some_and(|at| at <= self.now);
        let retiring = if connection.is_idle() { 0 } else { self.retiring() };
        let surplus = self.staying() > self.settings.max_connections + retiring;
        [
            old.then_some(self.outdated),
            used_up.then_some(EndReason::Requests),
            ownerless,
            aged.then_some(EndReason::Aged),
            surplus.then_some(EndReason::Reconfigured),
        ]
        .into_iter()
        .find_map(|reason| reason)
    }

    fn has_used_up_requests(&self, connection: &Connection) -> bool {
        let most = self.settings.max_requests.is_some_and(|most| connection.uses >= most.get());
        most || connection.last_use.is_some_and(|last| connection.uses >= last)
    }

    fn reason_if_ownerless(&self, connection: &Connection) -> Option<EndReason> {
        let never = self.settings.sharing == Sharing::Never;
        match (connection.uses > 0 && connection.owner.is_none(), connection.private) {
            (true, true) => Some(EndReason::Authenticated),
            (true, false) => never.then_some(EndReason::Policy),
            (false, _) => None,
        }
    }

    /// Ends a stream; `unfit` is the reason for which no other one may begin on its connection.
    fn end_stream(&mut self, id: Id, unfit: Option<EndReason>) {
        let connection = self.connection(id);
        connection.open -= 1;
        if connection.open == 0 {
            connection.since = None;
        }
        match (connection.stage, connection.open) {
            (Stage::Open, _) => match unfit {
                Some(reason) => self.retire(id, reason),
                None => self.returned(id),
            },
            (Stage::Retiring(reason), 0) => self.close(id, unfit.unwrap_or(reason)),
            (Stage::Lost(end), 0) => {
                let reason = unfit.unwrap_or(ended_by(end));
                self.closed.push(id);
                self.last_end = Some(reason);
                self.remove_ended(id, reason);
            }
            _ => self.settle(id),
        }
    }

    /// Finds the next use for a connection that comes from a dial, or on which a stream has ended; or ends it.
    fn returned(&mut self, id: Id) {
        match self.unfit(id) {
            Some(reason) => self.retire(id, reason),
            None => self.offer(id),
        }
    }

    /// Ends a lease of a connection that must not be used again.
    pub fn discard(&mut self, id: Id, reason: EndReason) {
        if reason == EndReason::Stale {
            let idle = self.connection(id).idle_before.take();
            self.cut_short(idle);
        }
        self.end_stream(id, Some(reason));
        self.adopt();
        self.grant();
    }

    /// Puts another limit of streams in force on a connection.
    pub fn allow(&mut self, id: Id, limit: u32) {
        self.connection(id).limit = limit;
        self.settle(id);
        let open = self.find(id).stage == Stage::Open;
        match self.unfit(id).filter(|_| open) {
            Some(reason) => self.retire(id, reason),
            None if self.give_room(id) => self.retire(id, EndReason::Purged),
            None => self.watch(id),
        }
        self.adopt();
        self.grant();
    }

    /// Ends a connection now, or once its open streams have ended.
    fn retire(&mut self, id: Id, reason: EndReason) {
        if self.find(id).is_idle() {
            self.close(id, reason);
        } else {
            self.connection(id).stage = Stage::Retiring(reason);
            self.settle(id);
        }
    }

    /// Closes idle connections, and then retires connections with room, the least busy first, while more waiters are
    /// queued than places are coming.
    fn retire_for_places(&mut self) {
        for (_, id) in self.idle() {
            if self.queued() > self.places_coming() {
                self.close(id, EndReason::Purged);
            }
        }
        while self.queued() > self.places_coming() + self.retiring()
            && let Some(id) = self.least_busy()
        {
            self.retire(id, EndReason::Purged);
        }
    }

    fn least_busy(&self) -> Option<Id> {
        let busy = self.connections.iter().filter(|c| c.has_room() && c.open > 0);
        busy.map(|c| (c.open, c.id)).min().map(|(_, id)| id)
    }

    pub fn socket_closes(&mut self, id: Id, by: Side) {
        let reason = if by == Side::Peer { EndReason::PeerClosed } else { EndReason::Unfit };
        match self.stage(id) {
            Some(Stage::Open) if self.find(id).is_idle() => {
                self.ends_idle(id, by, reason);
            }
            Some(Stage::Open | Stage::Retiring(_)) => self.retire(id, reason),
            _ => {}
        }
    }

    pub fn socket_ends(&mut self, id: Id, end: End) {
        match self.stage(id).unwrap() {
            Stage::Open if self.find(id).is_idle() => {
                let reason = self.ends_idle(id, end.by, ended_by(end));
                self.remove_ended(id, reason);
            }
            Stage::Open | Stage::Retiring(_) => {
                self.connection(id).stage = Stage::Lost(end);
                self.settle(id);
                self.last_end = Some(ended_by(end));
            }
            Stage::Closing(reason) => self.remove_ended(id, reason),
            stage => panic!("no socket to end: {stage:?}"),
        }
        self.grant();
    }

    fn ends_idle(&mut self, id: Id, by: Side, reason: EndReason) -> EndReason {
        if self.is_doubted(id) {
            self.ends(id, EndReason::Stale);
            return EndReason::Stale;
        }
        let idle = self.idle_for(id).filter(|_| by == Side::Peer);
        let idle = if self.was_short_lived(id) { None } else { idle };
        self.cut_short(idle);
        self.ends(id, reason);
        reason
    }

    fn leased(&mut self, id: Id, ask: &Ask, reuse: Reuse) -> Answer {
        let never = self.settings.sharing == Sharing::Never;
        let connection = self.connection(id);
        connection.open += 1;
        connection.uses += 1;
        connection.last_reuse = Some(reuse);
        if never {
            connection.owner = Some(ask.client);
        }
        let uses = connection.uses;
        self.settle(id);
        let in_use = self.in_use();
        (self.peak, self.need) = (self.peak.max(in_use), self.need.max(in_use));
        Answer::Leased { id, uses, reuse, queued_for: None }
    }

    /// Closes a connection whose handle the pool holds.
    fn close(&mut self, id: Id, reason: EndReason) {
        self.closed.push(id);
        self.last_end = Some(reason);
        self.connection(id).stage = Stage::Closing(reason);
        self.settle(id);
    }

    fn remove_ended(&mut self, id: Id, reason: EndReason) {
        let uses = self.connection(id).uses;
        self.connections.retain(|c| c.id != id);
        self.ended.push((id, uses, reason));
    }

    // ---- the assignment of connections and places

    /// Gives the room of a connection to the first waiters that may take it, and keeps the connection for what is left.
    /// If a waiter that may not take it would be overtaken, the connection ends for its place instead, unless enough
    /// places are coming.
    fn offer(&mut self, id: Id) {
        if self.give_room(id) { self.retire(id, EndReason::Purged) } else { self.keep(id) }
    }

    /// Gives the room of a connection to the first waiters that may take it. Returns true if another one would be
    /// overtaken by the next.
    fn give_room(&mut self, id: Id) -> bool {
        while self.find(id).has_room() {
            match self.taker(id) {
                Ok(waiter) => self.give(id, waiter),
                Err(overtaken) => return overtaken,
            }
        }
        self.find(id).is_idle() && self.queued() > self.places_coming()
    }

    /// Returns the first waiter that may take the connection, or whether another one would be overtaken.
    fn taker(&self, id: Id) -> Result<Id, bool> {
        let mut places_coming = self.places_coming();
        if !self.find(id).is_idle() {
            places_coming += self.retiring();
        }
        for waiter in self.waiters.iter().filter(|waiter| waiter.unserved()) {
            if self.may_take(&waiter.ask, id) {
                return Ok(waiter.id);
            }
            if waiter.queued() {
                if places_coming == 0 {
                    return Err(true);
                }
                places_coming -= 1;
            }
        }
        Err(false)
    }

    fn give(&mut self, id: Id, to: Id) {
        let unused = self.connection(id).uses == 0;
        let Waiter { ask, reason, .. } = *self.waiter(to);
        let reuse = if unused { reason } else { Reuse::Reused };
        self.leased(id, &ask, reuse);
        let uses = self.find(id).uses;
        self.note_wait(to);
        let waiter = self.waiter(to);
        waiter.outcome = Some(Outcome::Leased { id, uses, reuse });
        let dial = waiter.dial.take();
        self.release(dial);
    }

    /// Passes on a dial that a waiter has left. A place where no dial has begun goes to the next waiter that counts on
    /// it, if there is one.
    fn release(&mut self, dial: Option<(Id, Dial)>) {
        let Some((id, kind)) = dial else { return };
        if kind == Dial::Granted {
            match self.counting_on(id).first() {
                Some(next) => self.waiter(*next).dial = Some((id, Dial::Granted)),
                None => self.connections.retain(|c| c.id != id),
            }
        }
        self.fill(id);
    }

    /// Lets the first queued waiters count on a dial, as long as it has room.
    fn fill(&mut self, dial: Id) {
        while self.dials_with_room().contains(&dial)
            && let Some(waiter) = self.waiters.iter().find(|w| w.queued()).map(|w| w.id)
        {
            self.note_wait(waiter);
            let theirs = |w: &Waiter| matches!(w.dial, Some((id, kind)) if id == dial && kind != Dial::Adopted);
            let kind = if self.waiters.iter().any(theirs) { Dial::Own } else { Dial::Adopted };
            self.waiter(waiter).dial = Some((dial, kind));
        }
    }

    /// Lets the first queued waiters count on the oldest dials with room, as long as there are both.
    fn adopt(&mut self) {
        for dial in self.dials_with_room() {
            self.fill(dial);
        }
    }

    fn grant(&mut self) {
        self.grant_places();
        self.retire_for_places();
    }

    /// Gives free places to the first queued waiters, as long as there are both.
    fn grant_places(&mut self) {
        while self.place_free()
            && let Some(waiter) = self.waiters.iter().find(|w| w.queued()).map(|w| w.id)
        {
            let id = self.dial();
            self.note_wait(waiter);
            self.waiter(waiter).dial = Some((id, Dial::Granted));
            self.fill(id);
        }
    }

    fn dial(&mut self) -> Id {
        self.made += 1;
        let (id, stage) = (self.made, Stage::Dialling);
        let (thread, opened, generation) = (0, None, 0);
        let (uses, owner, private, last_reuse) = (0, None, false, None);
        let (idle_before, announced, last_use) = (None, None, None);
        let dial = Connection {
            id,
            stage,
            open: 0,
            limit: 0,
            since: None,
            thread,
            opened,
            generation,
            uses,
            owner,
            private,
            doubted: None,
            idle_before,
            announced,
            last_use,
            last_reuse,
        };
        self.connections.push(dial);
        id
    }

    /// Notes that a waiter is no longer queued.
    fn note_wait(&mut self, waiter: Id) {
        let (now, at) = (self.now, self.at());
        let waiter = self.waiter(waiter);
        waiter.sent_back = false;
        let queued = waiter.queued();
        let Some(since) = waiter.queued_since.take().filter(|_| queued) else { return };
        let arrived = waiter.came_at_cap.is_some() && waiter.queued_for.is_none();
        if arrived || now > since {
            waiter.queued_for = Some(waiter.queued_for.unwrap_or(0) + now - since);
            self.pace.moves(at);
        }
    }

    fn keep(&mut self, id: Id) {
        if !self.find(id).is_idle() {
            self.connection(id).since = None;
            self.settle(id);
            if self.draining && self.find(id).since.is_some() {
                return self.retire(id, EndReason::Drained);
            }
            return self.watch(id);
        }
        if self.draining {
            return self.close(id, EndReason::Drained);
        }
        let idle = self.idle();
        let mut most = self.most_idle();
        if self.lessons.has_habit() {
            // The idle connections, with the one that is to be kept, and the others in use are together at most as many
            // as were lately in use at once.
            let room = self.peak.max(self.need).saturating_sub(self.in_use());
            most = room.min(most).max(self.settings.min_idle);
        }
        if most == 0 {
            return self.close(id, EndReason::Purged);
        }
        if idle.len() >= most {
            self.close(idle[0].1, EndReason::Purged);
        }
        self.connection(id).doubted = None;
        self.settle(id);
        if let Some(reason) = self.over_limit(id) {
            return self.ends(id, reason);
        }
        self.watch(id);
    }

    /// Begins a purge period if there is none, and the connection is idle or has room.
    fn watch(&mut self, id: Id) {
        if self.find(id).since.is_some() {
            self.purge_period = self.purge_period.or(Some(self.now));
        }
    }

    pub fn most_idle(&self) -> usize {
        let none = ms(self.settings.purge_delay) == 0;
        let most = if none { 0 } else { self.settings.max_idle.unwrap_or(usize::MAX) };
        most.max(self.settings.min_idle)
    }

    // ---- time

    pub fn tick(&mut self) {
        self.close_over_limit();
        if self.next_purge().is_some_and(|at| at <= self.now) {
            self.purge();
            let listed = self.connections.iter().any(|c| c.since.is_some());
            self.purge_period = listed.then_some(self.now);
        }
    }

    fn close_over_limit(&mut self) {
        for (_, id) in self.listed(|_| true) {
            if let Some(reason) = self.over_limit(id) {
                self.ends(id, reason);
            }
        }
    }

    /// Applies the purge rule: excess = in use + idle − max(peak, need); close ⌈excess/2⌉, oldest idle first, never the
    /// newest; then need = max(peak, ⌊(need + peak)/2⌋) and peak = in use. In use is ⌈open streams/expected⌉; so many
    /// connections with open streams as are in excess of the need retire, those with the fewest first.
    fn purge(&mut self) {
        let Census { active, idle, .. } = self.census();
        let surplus = (active - self.retiring()).saturating_sub(self.peak.max(self.need));
        let excess = (active - self.retiring() + idle).saturating_sub(self.peak.max(self.need));
        let candidates = self.idle();
        let all_but_newest = &candidates[..idle.saturating_sub(self.settings.min_idle.max(1))];
        for (_, id) in all_but_newest.iter().take(excess.div_ceil(2)) {
            self.close(*id, EndReason::Purged);
        }
        self.need = self.peak.max(usize::midpoint(self.need, self.peak));
        self.peak = self.in_use();
        for _ in 0..surplus {
            if let Some(id) = self.least_busy() {
                self.retire(id, EndReason::Purged);
            }
        }
    }

    // ---- changes

    /// Puts a generation in force; returns how many idle connections were closed, and how many in use will be.
    pub fn advance(&mut self, generation: u64, reason: EndReason) -> (usize, usize) {
        if generation > self.generation {
            (self.generation, self.outdated) = (generation, reason);
            if reason == EndReason::Reconfigured {
                self.lessons = Lessons::default();
            }
        }
        let old = |c: &&Connection| c.generation < self.generation;
        let old: Vec<_> = self.connections.iter().filter(old).map(|c| c.id).collect();
        let in_use = old.iter().filter(|id| self.find(**id).is_in_use()).count();
        let idle = old.iter().filter(|id| self.find(**id).is_idle()).count();
        for id in old {
            if self.find(id).since.is_some() {
                self.retire(id, self.outdated);
            }
        }
        (idle, in_use)
    }

    pub fn client_left(&mut self, client: u64) {
        for connection in &mut self.connections {
            connection.owner = connection.owner.filter(|owner| *owner != client);
        }
        for (_, id) in self.listed(|_| true) {
            if let Some(reason) = self.reason_if_ownerless(self.find(id)) {
                self.retire(id, reason);
            }
        }
    }

    pub fn reconfigure(&mut self, settings: Settings) {
        if settings.sharing != self.settings.sharing {
            self.connections.iter_mut().filter(|c| !c.private).for_each(|c| c.owner = None);
        }
        self.settings = settings;
        self.close_over_limit();
        for (_, id) in self.listed(|_| true) {
            if self.has_used_up_requests(self.find(id)) {
                self.retire(id, EndReason::Requests);
            }
        }
        for (_, id) in self.listed(|_| true) {
            if let Some(reason) = self.reason_if_ownerless(self.find(id)) {
                self.retire(id, reason);
            }
        }
        for (_, id) in self.idle() {
            if self.staying() > self.settings.max_connections {
                self.close(id, EndReason::Reconfigured);
            }
        }
        for (_, id) in self.listed(|c| c.doubted.is_none()) {
            if self.give_room(id) && !self.find(id).is_idle() {
                self.retire(id, EndReason::Purged);
            }
        }
        for (_, id) in self.idle() {
            if self.census().idle > self.most_idle() || self.queued() > self.places_coming() {
                self.close(id, EndReason::Purged);
            }
        }
        self.notice_warmth();
        self.adopt();
        self.grant();
    }

    pub fn drain(&mut self) {
        self.draining = true;
        for (_, id) in self.listed(|_| true) {
            self.retire(id, EndReason::Drained);
        }
    }
}

fn ended_by(end: End) -> EndReason {
    if end.by == Side::Peer { EndReason::PeerClosed } else { EndReason::Unfit }
}
