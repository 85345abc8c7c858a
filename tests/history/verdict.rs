//! What a history proves: the rules that were broken, and the counts.

use crate::history::Id;

/// A rule that was broken.
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
    /// It arrived at another upstream's origin.
    WrongUpstream(Id),
    /// It arrived with another method.
    WrongMethod(Id),
    /// It arrived with another body.
    WrongBody(Id),
    /// It arrived with another Host.
    WrongHost(Id),
    /// It arrived on a connection with another client certificate, or none.
    WrongIdentity(Id),
    /// It arrived on a connection with another SNI, or none.
    WrongServerName(Id),
    /// Its client never wrote down how it ended.
    NoOutcome(Id),
    /// It ended twice, or ended without having been sent.
    SurplusOutcome(Id),
    /// Two requests were sent under this id.
    AmbiguousId(Id),
    /// The origin of this upstream saw so many connections at once, and the cap is lower.
    AboveCap { upstream: usize, at_once: usize },
    /// A pool counted so many connections at once, and the cap is lower.
    CountedAboveCap(usize),
    /// So many connections to this origin never ended.
    StillOpen { upstream: usize, connections: usize },
    /// So many connections and waiters were left in the pools.
    LeftInPool(usize),
    /// The pool established another number of connections than this origin saw.
    Uncounted { upstream: usize, opened: u64, accepted: u64 },
    /// The proxy counted another number of requests than were sent.
    Miscounted { counted: u64, sent: u64 },
}

/// Counts of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// GETs sent.
    pub gets: usize,
    /// GETs that got no right answer although the origin broke none of theirs.
    pub lost_gets: usize,
    /// POSTs sent.
    pub posts: usize,
    /// POSTs that got no right answer although the origin broke none of theirs.
    pub lost_posts: usize,
    /// Those of the lost POSTs that reached an origin.
    pub lost_after_delivery: usize,
    /// Requests whose answer the origin itself broke, so that no proxy could pass it on.
    pub broken: usize,
    /// POSTs that arrived more than once.
    pub duplicates: usize,
    /// Answers that belong to another request.
    pub wrong: usize,
    /// Connections, of all origins.
    pub connections: usize,
    /// The most connections to one origin at once.
    pub most: usize,
    /// Connections that were accepted when the cap had been reached.
    pub above_cap: usize,
    /// Configurations and certificates that the proxy put in force meanwhile, and those of origins that it came to believe.
    pub changes: u64,
}

/// What a history proves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Every rule that was broken.
    pub breaches: Vec<Breach>,
    /// The counts.
    pub figures: Figures,
}
