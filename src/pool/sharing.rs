//! Who may take which connection: `HAProxy`'s `http-reuse`, in its documented meanings.

use super::ClientId;

/// When a request may take a connection that has carried another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Always.
    #[default]
    Always,
    /// A client connection's first request only takes one that was reused before, and so is known to bear it.
    Aggressive,
    /// A client connection's first request never does; the later ones do.
    Safe,
    /// A connection belongs to the client connection that used it first.
    Never,
}

/// What a checkout asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The caller's number, below what the pool was told.
    pub thread: usize,
    /// No used connection, whatever the reuse mode says (a retry).
    pub fresh: bool,
    /// If its connection ends under it, it can be sent again. What cannot asks for a fresh one, too, where the upstream
    /// closes idle connections at any time.
    pub repeatable: bool,
    /// Whose request it is: the connection that it came on.
    pub client: ClientId,
    /// It is the first one of that connection.
    pub first: bool,
    /// Its place in the queue (RFC 9218, section 4.1): 0 first, 7 last.
    pub urgency: u8,
}

/// The urgency of who says nothing.
pub const DEFAULT_URGENCY: u8 = 3;

/// What counts of a connection's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// Requests so far.
    pub uses: u64,
    /// Whose it is, where connections belong to somebody.
    pub owner: Option<ClientId>,
    /// True if its owner authenticated itself on it: no one else may ever take it, in any mode.
    pub private: bool,
}

impl Sharing {
    /// Whether one may take a connection with such a past. What is unused is anybody's.
    pub fn allows(self, ask: &Ask, past: Past) -> bool {
        if past.uses == 0 {
            return true;
        }
        !ask.fresh
            && match self {
                _ if past.private => past.owner == Some(ask.client),
                Self::Always => true,
                Self::Aggressive => !ask.first || past.uses > 1,
                Self::Safe => !ask.first,
                Self::Never => past.owner == Some(ask.client),
            }
    }

    /// Whether no used connection there could be is for it.
    pub fn forbids_all(self, ask: &Ask) -> bool {
        ask.fresh || (ask.first && matches!(self, Self::Safe | Self::Never))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: ClientId = 1;

    fn past(uses: u64, owner: Option<ClientId>) -> Past {
        Past { uses, owner, private: false }
    }

    fn ask(first: bool) -> Ask {
        Ask {
            thread: 0,
            fresh: false,
            repeatable: true,
            client: MINE,
            first,
            urgency: DEFAULT_URGENCY,
        }
    }

    /// What a client connection's first request and its later ones may take: used once, and used twice.
    #[test]
    fn each_mode_means_what_haproxys_manual_says() {
        for (mode, first, later) in [
            (Sharing::Always, [true, true], [true, true]),
            (Sharing::Aggressive, [false, true], [true, true]),
            (Sharing::Safe, [false, false], [true, true]),
            (Sharing::Never, [false, false], [false, false]),
        ] {
            for (is_first, expected) in [(true, first), (false, later)] {
                let may = [1, 2].map(|uses| mode.allows(&ask(is_first), past(uses, Some(2))));
                assert_eq!(may, expected, "{mode:?}, first: {is_first}");
            }
        }
    }

    #[test]
    fn with_never_only_the_first_to_use_it_takes_it_again() {
        for (owner, may) in [(Some(MINE), true), (Some(2), false), (None, false)] {
            assert_eq!(Sharing::Never.allows(&ask(false), past(3, owner)), may);
        }
    }

    #[test]
    fn fault_01_in_every_mode_a_private_connection_is_its_owners_alone_from_its_first_request_on() {
        for mode in [Sharing::Always, Sharing::Aggressive, Sharing::Safe, Sharing::Never] {
            for first in [true, false] {
                let may =
                    |owner| mode.allows(&ask(first), Past { private: true, ..past(1, owner) });
                assert_eq!([Some(MINE), Some(2), None].map(may), [true, false, false], "{mode:?}");
            }
        }
    }

    #[test]
    fn what_is_unused_is_anybodys() {
        for mode in [Sharing::Always, Sharing::Aggressive, Sharing::Safe, Sharing::Never] {
            assert!(mode.allows(&ask(true), past(0, None)), "{mode:?}");
        }
    }

    #[test]
    fn a_retry_takes_no_used_one_in_any_mode() {
        let retry = Ask { fresh: true, ..ask(false) };
        for mode in [Sharing::Always, Sharing::Aggressive, Sharing::Safe, Sharing::Never] {
            assert!(!mode.allows(&retry, past(2, Some(MINE))), "{mode:?}");
        }
    }
}
