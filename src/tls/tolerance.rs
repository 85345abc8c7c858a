//! The decision what the first message of a handshake may offer to the servers at one address: a session, a key share
//! that makes the message large. It depends on the earlier handshakes with that address; the time is an argument.
//!
//! A handshake that fails for something that it offered is made once more without that. If session and share may both
//! be the cause, the second try leaves out both; the handshakes that follow offer them one at a time, and so find out
//! which of the two was the cause.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// The time for which something is not offered, once it was found to be the cause; each further time is twice as long.
const FIRST_PAUSE: Duration = Duration::from_mins(10);
/// The longest time for which something is not offered.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);
/// The time, after a second try that failed too, for which handshakes begin with the small message and without a
/// session, and nothing in them is suspected. The server may be slow: it then has the whole time limit again. Each
/// further time is twice as long.
const FAILING: Duration = Duration::from_secs(30);
/// The longest time for which handshakes begin with the small message and without a session.
const LONGEST_FAILING: Duration = Duration::from_mins(30);
/// The number of consecutive handshakes ended by an offered session after which none is offered for a while.
const FAILURES_IN_A_ROW: u32 = 2;

/// The configured rule for resumption, and for the groups of the key exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// True if sessions may be offered.
    pub resumption: bool,
    /// The groups.
    pub key_exchange: KeyExchange,
}

impl Default for Policy {
    fn default() -> Self {
        Self { resumption: true, key_exchange: KeyExchange::default() }
    }
}

/// The configured groups of the key exchange.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyExchange {
    /// The hybrid (post-quantum) group first; if its large message gets no answer, a small one that still names it.
    #[default]
    Auto,
    /// No hybrid group.
    Classic,
    /// The hybrid group first, even if handshakes fail.
    Hybrid,
}

/// The key share in a handshake's first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyShare {
    /// A share of the hybrid group, unless the server chose another before: about 1.5 kB, two segments.
    Large,
    /// A share of a classic group; the hybrid group is named, and the server can ask for its share.
    Small,
    /// A share of a classic group; the hybrid group is not named.
    Classic,
}

/// The offer that a handshake may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedOffer {
    /// True if a session may be offered.
    pub session: bool,
    /// The key share.
    pub key_share: KeyShare,
    /// The suspected cause of the first try's failure, if this is the second one.
    second: Option<Cause>,
}

/// A handshake as it was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct TriedHandshake {
    /// The offer that it could make.
    pub allowed: AllowedOffer,
    /// True if a session was offered.
    pub session: bool,
    /// True if the first message had the hybrid group's share.
    pub large: bool,
    /// The beginning of the handshake, or of the first try if this is the second.
    pub begun: Instant,
}

/// The kind of the server's answer before a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// The server sent no byte, or a warning alone.
    Nothing,
    /// The server asked for another key share (`HelloRetryRequest`), and answered that with nothing, or with an alert
    /// as below.
    Retry,
    /// The server sent an alert that the size of a message may cause, and nothing before it.
    Alert,
    /// The server sent something else.
    Something,
}

/// The cause of a failed handshake, as far as a second try can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Session,
    KeyShare(RefusedShare),
    Either(RefusedShare),
}

/// The key share that ends a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RefusedShare {
    /// The share in the first message.
    Large,
    /// The share in the message that the server asked for.
    Asked,
}

/// A lesson about an address, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// An offered session ended a handshake or kept it from ending, and a full one succeeded.
    SessionsForgotten,
    /// The same happened again: no session is offered for this time.
    SessionsOff(Duration),
    /// Two resumed connections ended before any answer: no session is offered for this time.
    ResumedInVain(Duration),
    /// Handshakes with a large first message fail: small ones are sent for this time.
    Small(Duration),
    /// Handshakes fail even if the hybrid share is sent because the server asked for it: the group is not named for
    /// this time.
    Classic(Duration),
    /// A handshake succeeded without a session and with a small message, after one with both had failed.
    Either,
}

impl fmt::Display for Lesson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = |time: &Duration| format!("{} min", time.as_secs() / 60);
        match self {
            Self::SessionsForgotten => f.write_str(
                "it ends handshakes that offer an earlier session, or leaves them unfinished; a full one succeeded, and its \
                 sessions are forgotten (tls.resumption: false never offers any)",
            ),
            Self::SessionsOff(time) => write!(
                f,
                "it ends handshakes that offer an earlier session, or leaves them unfinished, again and again: for {} none is \
                 offered (tls.resumption: false never offers any)",
                minutes(time)
            ),
            Self::ResumedInVain(time) => write!(
                f,
                "two resumed connections ended before any answer; the session may be the cause, or the request: for {} no \
                 session is offered (tls.resumption: false never offers any)",
                minutes(time)
            ),
            Self::Small(time) => write!(
                f,
                "a handshake with a large first message (a post-quantum key share) fails, one with a small one succeeds: for {} \
                 small ones are sent (tls.keyExchange: classic always sends them; a firewall on the way may be the cause)",
                minutes(time)
            ),
            Self::Classic(time) => write!(
                f,
                "a handshake with the post-quantum key share that it asks for fails: for {} that group is not offered \
                 (tls.keyExchange: classic never offers it; a firewall on the way may be the cause)",
                minutes(time)
            ),
            Self::Either => f.write_str(
                "a handshake that offered an earlier session in a large first message (a post-quantum key share) failed, one \
                 without both succeeded; the next ones find out which of them it was",
            ),
        }
    }
}

/// A time for which something is not offered.
#[derive(Debug, Clone, Copy)]
struct Pause {
    first: Duration,
    longest: Duration,
    /// The end of the last pause, and its length.
    last: Option<(Instant, Duration)>,
}

impl Pause {
    fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, last: None }
    }

    /// Creates the pause for a session or a share.
    fn of_offer() -> Self {
        Self::new(FIRST_PAUSE, LONGEST_PAUSE)
    }

    fn is_on(&self, now: Instant) -> bool {
        self.last.is_some_and(|(until, _)| now < until)
    }

    /// Begins a pause, twice as long as the last one, and returns its length; `None` if a pause is on, which stays.
    fn begin(&mut self, now: Instant) -> Option<Duration> {
        if self.is_on(now) {
            return None;
        }
        let length = match self.last {
            Some((_, before)) => (before * 2).min(self.longest),
            None => self.first,
        };
        self.last = now.checked_add(length).map(|until| (until, length));
        Some(length)
    }

    fn forget(&mut self) {
        self.last = None;
    }
}

/// Everything known of one address.
#[derive(Debug, Clone)]
pub(super) struct Tolerance {
    /// The number of consecutive handshakes that an offered session ended.
    failures: u32,
    last_failure: Option<Instant>,
    /// True if the first handshake that an offered session ended was logged.
    told: bool,
    without_sessions: Pause,
    small: Pause,
    classic: Pause,
    /// The suspected share, after a second try without session and share succeeded, and the time until which it is not
    /// known which of them was the cause.
    undecided: Option<(RefusedShare, Instant)>,
    /// The pause after both tries failed.
    failing: Pause,
    /// True if a large first message was read there, and none was found to be lost since.
    reads_large: bool,
    /// The last time at which a resumed connection ended before anything came over it.
    in_vain: Option<Instant>,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            failures: 0,
            last_failure: None,
            told: false,
            without_sessions: Pause::of_offer(),
            small: Pause::of_offer(),
            classic: Pause::of_offer(),
            undecided: None,
            failing: Pause::new(FAILING, LONGEST_FAILING),
            reads_large: false,
            in_vain: None,
        }
    }
}

impl Tolerance {
    /// Returns the offer of a first try that begins now.
    pub(super) fn first_offer(&self, policy: Policy, now: Instant) -> AllowedOffer {
        AllowedOffer {
            session: policy.resumption
                && !self.without_sessions.is_on(now)
                && !self.failing.is_on(now),
            key_share: self.key_share(policy.key_exchange, now),
            second: None,
        }
    }

    /// Returns the key share of a first message: the configured one, or with [`KeyExchange::Auto`] the one that earlier
    /// handshakes allow.
    fn key_share(&self, key_exchange: KeyExchange, now: Instant) -> KeyShare {
        match key_exchange {
            KeyExchange::Classic => KeyShare::Classic,
            KeyExchange::Hybrid => KeyShare::Large,
            KeyExchange::Auto => self.learned_key_share(now),
        }
    }

    /// Returns the largest key share that is neither paused nor under suspicion `now`.
    fn learned_key_share(&self, now: Instant) -> KeyShare {
        let undecided =
            self.undecided.filter(|(_, until)| now < *until).map(|(refused, _)| refused);
        if undecided == Some(RefusedShare::Asked) || self.classic.is_on(now) {
            KeyShare::Classic
        } else if undecided.is_some() || self.small.is_on(now) || self.failing.is_on(now) {
            KeyShare::Small
        } else {
            KeyShare::Large
        }
    }

    /// Notes that a handshake failed, and not because of the server's certificate; after a second try begins a pause.
    /// Returns the offer for a second try, if one may help.
    pub(super) fn failed(
        &mut self,
        policy: Policy,
        tried: TriedHandshake,
        answer: AnswerKind,
        now: Instant,
    ) -> Option<AllowedOffer> {
        if tried.allowed.second.is_some() {
            self.second_failed(refused(policy.key_exchange, tried, answer), now);
        }
        let mut allowed = second_offer(policy, tried, answer)?;
        // An alert says that something arrived. The message of the second try is small nevertheless, as that serves for
        // either cause.
        if answer == AnswerKind::Alert && self.reads_large && tried.session {
            allowed.second = Some(Cause::Session);
        }
        Some(allowed)
    }

    /// Notes that the second try failed too: begins the pause of the hybrid group if the share that the server asked
    /// for may be the cause, otherwise that of all large and resumed first messages. Logs nothing.
    fn second_failed(&mut self, refused: Option<RefusedShare>, now: Instant) {
        self.reads_large = false;
        // The next handshake that succeeds will show what was learned.
        let _ = match refused {
            Some(RefusedShare::Asked) => self.classic.begin(now),
            _ => self.failing.begin(now),
        };
    }

    /// Notes that a handshake succeeded. A first try clears of suspicion what it offered. A second try confirms the
    /// suspicion: the pause of the cause begins, or both causes stay suspected for ten minutes if there are two.
    /// Returns what was learned, if the log is to tell it.
    pub(super) fn succeeded(&mut self, tried: TriedHandshake, now: Instant) -> Option<Lesson> {
        match tried.allowed.second {
            None => self.first_succeeded(tried, now),
            Some(Cause::Session) => self.session_failed(tried.begun, now),
            Some(Cause::KeyShare(refused)) => self.pause(refused, now),
            Some(Cause::Either(refused)) => {
                let until = now.checked_add(FIRST_PAUSE)?;
                let first = self.undecided.replace((refused, until)).is_none();
                first.then_some(Lesson::Either)
            }
        }
    }

    /// Clears everything that a first try offered of suspicion, and ends its pauses; if there were two suspects, the
    /// other one is the cause. Returns what was learned of that one, if the log is to tell it.
    fn first_succeeded(&mut self, tried: TriedHandshake, now: Instant) -> Option<Lesson> {
        if tried.large {
            self.reads_large = true;
            self.small.forget();
            self.classic.forget();
            // During the pause no session is offered, and a session may be what makes both tries fail.
            if tried.session || !self.failing.is_on(now) {
                self.failing.forget();
            }
            if self.undecided.take().is_some() && !tried.session {
                return self.session_failed(tried.begun, now);
            }
        }
        if !tried.session {
            return None;
        }
        self.failures = 0;
        self.without_sessions.forget();
        self.undecided.take().and_then(|(refused, _)| self.pause(refused, now))
    }

    /// Notes that an offered session ended a handshake that began at `begun`; the second one in a row begins the pause
    /// of sessions. Among handshakes that were under way at once only the first failure counts. Returns the lesson;
    /// `None` if it was logged before.
    fn session_failed(&mut self, begun: Instant, now: Instant) -> Option<Lesson> {
        if self.last_failure.is_some_and(|last| begun <= last) {
            return None;
        }
        // If the share was under suspicion too, that failure was the first, and this one tells that the session was the
        // cause.
        let before = u32::from(self.undecided.take().is_some());
        self.last_failure = Some(now);
        self.failures = self.failures.saturating_add(1 + before);
        if self.failures >= FAILURES_IN_A_ROW {
            return self.without_sessions.begin(now).map(Lesson::SessionsOff);
        }
        let told = std::mem::replace(&mut self.told, true);
        (!told).then_some(Lesson::SessionsForgotten)
    }

    /// Notes that a resumed connection ended before anything came over it. The handshake itself had succeeded (TLS
    /// 1.3): therefore a second time within ten minutes counts, not a second time in a row, and begins the pause of
    /// sessions. Returns that lesson; `None` the first time, and if that pause is on already.
    pub(super) fn resumed_in_vain(&mut self, now: Instant) -> Option<Lesson> {
        let before = self.in_vain.replace(now);
        let again = before.is_some_and(|at| now.saturating_duration_since(at) < FIRST_PAUSE);
        if again { self.without_sessions.begin(now).map(Lesson::ResumedInVain) } else { None }
    }

    /// Notes that the key share was the cause, as a handshake succeeded without it: begins the pause of large first
    /// messages, or of the hybrid group if the share that the server asked for was refused. Returns the lesson; `None`
    /// if that pause is on already.
    fn pause(&mut self, refused: RefusedShare, now: Instant) -> Option<Lesson> {
        self.reads_large = false;
        match refused {
            RefusedShare::Large => self.small.begin(now).map(Lesson::Small),
            RefusedShare::Asked => self.classic.begin(now).map(Lesson::Classic),
        }
    }
}

/// Returns the offer of a second try after a first one that failed or takes long: without the session, and with a
/// smaller share if the share may be the cause. `None` for a second try, and if nothing that was offered is suspected.
pub(super) fn second_offer(
    policy: Policy,
    tried: TriedHandshake,
    answer: AnswerKind,
) -> Option<AllowedOffer> {
    let refused = refused(policy.key_exchange, tried, answer);
    let cause = match (tried.allowed.second, tried.session, refused) {
        (Some(_), ..) | (None, false, None) => return None,
        (None, true, None) => Cause::Session,
        (None, false, Some(refused)) => Cause::KeyShare(refused),
        (None, true, Some(refused)) => Cause::Either(refused),
    };
    let key_share = match refused {
        Some(RefusedShare::Large) => KeyShare::Small,
        Some(RefusedShare::Asked) => KeyShare::Classic,
        None => tried.allowed.key_share,
    };
    Some(AllowedOffer { session: false, key_share, second: Some(cause) })
}

/// Returns the share that may be the cause of a failure, if another share may succeed; always `None` if the
/// configuration fixes the groups.
fn refused(
    key_exchange: KeyExchange,
    tried: TriedHandshake,
    answer: AnswerKind,
) -> Option<RefusedShare> {
    match (key_exchange, answer) {
        (KeyExchange::Auto, AnswerKind::Nothing | AnswerKind::Alert) if tried.large => {
            Some(RefusedShare::Large)
        }
        (KeyExchange::Auto, AnswerKind::Retry) if tried.allowed.key_share != KeyShare::Classic => {
            Some(RefusedShare::Asked)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
