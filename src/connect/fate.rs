//! The fate of an attempt that brought no response, judged from the marks of its exchange and the end of its connection.

use rustls::AlertDescription;

use super::meter::Refusal;
use crate::{
    pool::{EndReason, Verdict},
    tls::{Version, alert},
};

/// The fate of an attempt that ended before the header of its response was whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No byte of the request was written.
    NotSent,
    /// The request was written, at least in part, and no byte of an answer came.
    Unanswered {
        /// True if the kernel gave the connection up, as the peer did not even acknowledge what was written.
        forgotten: bool,
    },
    /// A part of an answer came.
    Begun {
        /// False if the peer ended the connection behind whole informational responses; true in every other case: the
        /// head cannot be read, or broke off.
        unreadable: bool,
    },
    /// The upstream refused Warmline's certificate with this alert, which another connection would get, too.
    IdentityRefused(AlertDescription),
    /// The upstream ended the connection in a way in which it would end the next one, too.
    Refused(Refusal),
    /// Warmline itself ended the connection.
    Ended {
        /// The reason for which Warmline ended the connection.
        reason: EndReason,
        /// True if a part of an answer had come.
        begun: bool,
    },
}

impl Fate {
    /// Returns the state in which an attempt leaves its connection, whose past this is, and which Warmline ended for this
    /// reason, if it did. In HTTP/1.1 none outlives an attempt that brought no response.
    pub(super) fn verdict(self, past: PriorUse, ended: Option<EndReason>) -> Verdict {
        Verdict::Unfit(match (self, ended) {
            (Self::Ended { reason, .. }, _) | (Self::NotSent, Some(reason)) => reason,
            // A connection that was just dialled cannot have gone stale.
            (Self::NotSent | Self::Unanswered { .. }, _) if past.may_be_stale() => EndReason::Stale,
            _ => EndReason::Unfit,
        })
    }
}

/// A part of the handshake that the end of an attempt casts doubt on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspect {
    /// The session that was resumed; the alert that ended the connection, if there was one.
    Session(Option<AlertDescription>),
    /// Warmline's certificate, which was judged after the handshake was over on this side.
    Identity,
}

/// The past of a connection at the beginning of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriorUse {
    /// The connection was dialled for this exchange, or for another one that waited: it was never idle.
    JustDialled,
    /// The connection was idle, and this is its first exchange.
    Unused,
    /// The connection has had exchanges.
    Used,
}

impl PriorUse {
    /// True if the peer may have ended the connection before this exchange: it was idle, or had an exchange before. A
    /// connection that goes from one exchange straight to the next was not idle, and may be closing nevertheless.
    pub fn may_be_stale(self) -> bool {
        self != Self::JustDialled
    }

    /// True if the exchange is the connection's first.
    fn is_first(self) -> bool {
        self != Self::Used
    }
}

/// Facts about an attempt that brought no response.
#[allow(clippy::struct_excessive_bools, reason = "marks that do not depend on each other")]
pub(super) struct Evidence {
    /// True if a byte of the request may have been written.
    pub(super) sent: bool,
    /// True if a byte of an answer came.
    pub(super) begun: bool,
    /// True if the next byte would begin a head: nothing came, or only whole informational responses.
    pub(super) awaits_head: bool,
    /// True if the peer ended the connection.
    pub(super) peer_ended: bool,
    /// True if the kernel gave the connection up, as the peer acknowledged nothing any more.
    pub(super) forgotten: bool,
    /// The reason for which Warmline ended the connection, if it did.
    pub(super) ended: Option<EndReason>,
    /// The fatal alert that ended the connection.
    pub(super) alert: Option<AlertDescription>,
    /// The end of the connection, if the next one would meet it again.
    pub(super) refusal: Option<Refusal>,
    /// The past of the connection at the beginning of the exchange.
    pub(super) past: PriorUse,
    /// The connection's TLS version.
    pub(super) version: Version,
    /// True if the connection resumed a session under TLS 1.3, where the server judges it after the handshake is over
    /// on this side.
    pub(super) resumed_tls13: bool,
}

impl Evidence {
    /// Judges the attempt; a refusal that the next attempt would meet again comes before everything else.
    pub(super) fn fate(&self) -> Fate {
        if let Some(refused) = self.refused() {
            return refused;
        }
        match (self.sent, self.ended, self.begun) {
            (false, ..) => Fate::NotSent,
            (true, Some(reason), begun) => Fate::Ended { reason, begun },
            (true, None, true) => {
                Fate::Begun { unreadable: !(self.awaits_head && self.peer_ended) }
            }
            (true, None, false) => Fate::Unanswered { forgotten: self.forgotten },
        }
    }

    /// Returns the part of the handshake that may be the reason for the end; `None` if a byte of an answer came, or
    /// nothing points to the handshake.
    pub(super) fn suspect(&self) -> Option<Suspect> {
        if self.begun {
            return None;
        }
        if self.suspects_session() {
            return Some(Suspect::Session(self.alert));
        }
        self.late_alert().map(|_| Suspect::Identity)
    }

    /// Returns the fate, if the next attempt would meet the same one; `None` if another attempt may fare better.
    fn refused(&self) -> Option<Fate> {
        if self.begun {
            // An informational response does not rule a refusal out: Apache answers 100 and reads the request's body
            // before it asks for renegotiation.
            return self.refusal.filter(|_| self.awaits_head).map(Fate::Refused);
        }
        if self.suspects_session() {
            return None;
        }
        if let Some(alert) = self.late_alert() {
            return alert::is_final(alert).then_some(Fate::IdentityRefused(alert));
        }
        // A used connection may have gone stale in any way.
        let counts = |refusal: &Refusal| self.past.is_first() || *refusal == Refusal::Renegotiation;
        self.refusal.filter(counts).map(Fate::Refused)
    }

    /// True if the session may be the reason for which a resumed connection ended before anything came over it.
    /// Warmline's certificate was not shown on such a connection. Without an alert, a connection that was idle for a
    /// while may have gone stale instead.
    fn suspects_session(&self) -> bool {
        let refused = self.past.is_first() && self.alert.is_some();
        self.resumed_tls13
            && self.ended.is_none()
            && (refused || self.past == PriorUse::JustDialled)
    }

    /// Returns the alert that came on a connection's first exchange in place of an answer; `None` on a used connection,
    /// and with TLS 1.2. There the server judges Warmline's certificate before the handshake is done: an alert after
    /// that says nothing about it.
    fn late_alert(&self) -> Option<AlertDescription> {
        self.alert.filter(|_| self.version == Version::Tls13 && self.past.is_first())
    }
}

#[cfg(test)]
mod tests;
