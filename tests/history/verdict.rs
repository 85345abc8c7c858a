//! The verdict on a history: the rules that were broken, and the counts.

use crate::history::Id;

/// A rule that was broken, with the request's id or the upstream's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breach {
    /// The client got an answer that belongs to another request.
    WrongAnswer(Id),
    /// The client got the right answer to a request that no origin answered.
    AnswerFromNowhere(Id),
    /// A request that must not be repeated arrived more than once.
    Duplicate(Id),
    /// An idempotent request arrived more often than it may be tried.
    TooManyAttempts(Id),
    /// A request arrived that no client sent.
    Unknown(Id),
    /// A request arrived at another upstream's origin.
    WrongUpstream(Id),
    /// A request arrived with another method.
    WrongMethod(Id),
    /// A request arrived with another body.
    WrongBody(Id),
    /// A request arrived with another Host.
    WrongHost(Id),
    /// A request arrived on a connection with another upstream's client certificate, or none.
    WrongIdentity(Id),
    /// A request arrived on a connection with another SNI, or none.
    WrongServerName(Id),
    /// A request's client noted no outcome.
    NoOutcome(Id),
    /// A request had two outcomes, or an outcome without having been sent.
    SurplusOutcome(Id),
    /// Two requests were sent under the same id.
    AmbiguousId(Id),
    /// The origin of this upstream saw `at_once` connections at the same time, more than the cap.
    AboveCap { upstream: usize, at_once: usize },
    /// A pool counted so many connections at once, more than the cap.
    CountedAboveCap(usize),
    /// So many connections to this upstream's origin never ended.
    StillOpen { upstream: usize, connections: usize },
    /// So many connections and waiters were left in the pools after the drain.
    LeftInPool(usize),
    /// The pool established another number of connections than this upstream's origin accepted.
    Uncounted { upstream: usize, opened: u64, accepted: u64 },
    /// The proxy counted another number of requests than were sent.
    Miscounted { counted: u64, sent: u64 },
}

/// The counts of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// The number of GETs sent.
    pub gets: usize,
    /// The number of GETs that got no right answer although the origin had broken none of their exchanges.
    pub lost_gets: usize,
    /// The number of POSTs sent.
    pub posts: usize,
    /// The number of POSTs that got no right answer although the origin had broken none of their exchanges.
    pub lost_posts: usize,
    /// The number of lost POSTs that had reached an origin.
    pub lost_after_delivery: usize,
    /// The number of requests whose response the origin itself broke, so that no proxy could pass it on.
    pub broken: usize,
    /// The number of POSTs that arrived more than once.
    pub duplicates: usize,
    /// The number of answers that belong to another request.
    pub wrong: usize,
    /// The number of connections, over all origins.
    pub connections: usize,
    /// The most connections to one origin at the same time.
    pub most: usize,
    /// The number of connections that were accepted while the cap was already reached.
    pub above_cap: usize,
    /// The number of configurations and client certificates put in force meanwhile, and of origins' certificates
    /// verified.
    pub changes: u64,
}

/// The judge's verdict on a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Every rule that was broken.
    pub breaches: Vec<Breach>,
    /// The counts.
    pub figures: Figures,
}
