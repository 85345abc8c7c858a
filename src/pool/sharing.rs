//! The rules by which requests may take used connections: the modes of HAProxy's `http-reuse`, as its manual has them.

use super::ClientId;

/// The mode by which a request may take a connection that has carried another request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Every request may take every connection.
    #[default]
    Always,
    /// A client's first request only takes a connection that was reused before, and so is known to bear reuse. Later
    /// requests take any.
    Aggressive,
    /// A client's first request takes no used connection; the later ones take any.
    Safe,
    /// A connection belongs to the client that used it first.
    Never,
}

/// The demands of a request on the connection that it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The number of the caller's worker thread, below the number of threads that the pool was made for.
    pub thread: usize,
    /// True if the request must not get a used connection in any mode: a retry.
    pub fresh: bool,
    /// True if the request can be sent again when the connection ends under it. One that cannot gets a fresh connection
    /// if the upstream closes idle connections at any time.
    pub repeatable: bool,
    /// The client whose request it is.
    pub client: ClientId,
    /// True if the request is the first of its client.
    pub first: bool,
    /// The request's urgency in the queue: 0 comes first, 7 last (RFC 9218, section 4.1).
    pub urgency: u8,
}

/// The urgency of a request that states none.
pub const DEFAULT_URGENCY: u8 = 3;

/// The facts about a connection that the reuse mode judges by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UseHistory {
    /// The number of requests that the connection has carried, a running one included.
    pub uses: u64,
    /// The client that the connection belongs to, under [`Sharing::Never`] or by a claim.
    pub owner: Option<ClientId>,
    /// True if the owner has authenticated itself on the connection: no other client may ever take it, in any mode.
    pub private: bool,
}

impl Sharing {
    /// True if the request may take a connection with this history. An unused connection is for every request.
    pub fn allows(self, ask: &Ask, history: UseHistory) -> bool {
        if history.uses == 0 {
            return true;
        }
        !ask.fresh
            && match self {
                _ if history.private => history.owner == Some(ask.client),
                Self::Always => true,
                Self::Aggressive => !ask.first || history.uses > 1,
                Self::Safe => !ask.first,
                Self::Never => history.owner == Some(ask.client),
            }
    }

    /// True if the request may take no used connection at all, whatever its history.
    pub fn forbids_all(self, ask: &Ask) -> bool {
        ask.fresh || (ask.first && matches!(self, Self::Safe | Self::Never))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: ClientId = 1;

    fn history(uses: u64, owner: Option<ClientId>) -> UseHistory {
        UseHistory { uses, owner, private: false }
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

    /// The columns: the client's first request, and its later ones; for each, a connection used once, and one used
    /// twice.
    #[test]
    fn each_mode_means_what_haproxys_manual_says() {
        for (mode, first, later) in [
            (Sharing::Always, [true, true], [true, true]),
            (Sharing::Aggressive, [false, true], [true, true]),
            (Sharing::Safe, [false, false], [true, true]),
            (Sharing::Never, [false, false], [false, false]),
        ] {
            for (is_first, expected) in [(true, first), (false, later)] {
                let may = [1, 2].map(|uses| mode.allows(&ask(is_first), history(uses, Some(2))));
                assert_eq!(may, expected, "{mode:?}, first: {is_first}");
            }
        }
    }

    #[test]
    fn with_never_only_the_first_to_use_it_takes_it_again() {
        for (owner, may) in [(Some(MINE), true), (Some(2), false), (None, false)] {
            assert_eq!(Sharing::Never.allows(&ask(false), history(3, owner)), may);
        }
    }

    #[test]
    fn fault_01_in_every_mode_a_private_connection_is_its_owners_alone_from_its_first_request_on() {
        for mode in [Sharing::Always, Sharing::Aggressive, Sharing::Safe, Sharing::Never] {
            for first in [true, false] {
                let may = |owner| {
                    mode.allows(&ask(first), UseHistory { private: true, ..history(1, owner) })
                };
                assert_eq!([Some(MINE), Some(2), None].map(may), [true, false, false], "{mode:?}");
            }
        }
    }

    #[test]
    fn what_is_unused_is_anybodys() {
        for mode in [Sharing::Always, Sharing::Aggressive, Sharing::Safe, Sharing::Never] {
            assert!(mode.allows(&ask(true), history(0, None)), "{mode:?}");
        }
    }

    #[test]
    fn a_retry_takes_no_used_one_in_any_mode() {
        let retry = Ask { fresh: true, ..ask(false) };
        for mode in [Sharing::Always, Sharing::Aggressive, Sharing::Safe, Sharing::Never] {
            assert!(!mode.allows(&retry, history(2, Some(MINE))), "{mode:?}");
        }
    }
}
