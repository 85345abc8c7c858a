//! Why there is no connection.

use std::{fmt, io, net::SocketAddr, time::Duration};

use rustls::AlertDescription;

use super::resolve::NameFault;
use crate::{
    descriptors,
    tls::{Preparation, Shown, VerifyFailure, alert, alert_name, words},
};

/// Why a dial failed. None of these sent a byte of a request.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name gave no address.
    #[error("the name {name:?} cannot be resolved: {fault}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        fault: NameFault,
    },
    /// No address accepted within the limit.
    #[error("no TCP connection to {endpoint} within {limit:?} (timeouts.connect)")]
    ConnectTimeout {
        /// The endpoint as written.
        endpoint: String,
        /// The limit.
        limit: Duration,
    },
    /// Every address refused; the last error.
    #[error("no TCP connection to {address}: {error}{others}")]
    Tcp {
        /// The address tried last.
        address: SocketAddr,
        /// The kernel's word.
        error: io::Error,
        /// The addresses before it, and what became of them.
        others: Others,
    },
    /// Descriptors or local ports are used up on our side; of IPv6, the machine may also have none.
    #[error("{}: {error}", shortage(*.address, .error))]
    Exhausted {
        /// The address tried last.
        address: SocketAddr,
        /// The kernel's word.
        error: io::Error,
    },
    /// All descriptors that the process has for connections to upstreams are in use.
    #[error(
        "all {most} descriptors for connections to upstreams are in use, and none came free: raise the limit of open files \
         (ulimit -Hn), or lower pool.maxConnections"
    )]
    NoDescriptor {
        /// How many there are.
        most: usize,
    },
    /// The TLS handshake took too long.
    #[error("no TLS handshake with {address} within {limit:?} (timeouts.handshake)")]
    HandshakeTimeout {
        /// The address.
        address: SocketAddr,
        /// The limit.
        limit: Duration,
    },
    /// The upstream's certificate was refused.
    #[error("the certificate of {address} was refused: {reason}")]
    Certificate {
        /// The address.
        address: SocketAddr,
        /// The kind.
        kind: VerifyFailure,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The upstream ended the handshake with an alert.
    #[error("{address} {}{}", ended_with(*.alert, *.shown), remedy_for_large(*.only_large))]
    Alert {
        /// The address.
        address: SocketAddr,
        /// The alert.
        alert: AlertDescription,
        /// The fate of our certificate.
        shown: Shown,
        /// True if the first message was large, and that was its only answer and may come of it.
        only_large: bool,
    },
    /// What the upstream sent is no TLS that we speak.
    #[error("the TLS handshake with {address} failed: {reason}")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// The reason.
        reason: String,
    },
    /// The connection broke during the TLS handshake.
    #[error("the connection to {address} broke during the TLS handshake: {error}")]
    Broken {
        /// The address.
        address: SocketAddr,
        /// The kernel's word.
        error: io::Error,
    },
}

impl ConnectError {
    /// Whether another try may go better at once: not when the answer is deterministic, nor when a limit is spent.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Tcp { error, others, .. } => !others.is_empty() || !is_lasting(error),
            Self::Broken { .. } => true,
            Self::Alert { alert, .. } => !alert::is_final(*alert),
            _ => false,
        }
    }

    /// A TCP error, told apart by whose fault it is.
    pub fn tcp(address: SocketAddr, error: io::Error) -> Self {
        if Self::is_ours(&error) {
            Self::Exhausted { address, error }
        } else {
            Self::Tcp { address, error, others: Others::default() }
        }
    }

    /// Whether something is used up on our side, which is likely to pass.
    pub(super) fn is_ours(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::AddrNotAvailable || descriptors::is_shortage(error)
    }

    /// A handshake's error, told apart by what rustls says and the handshake's note has.
    pub(super) fn handshake(
        address: SocketAddr,
        error: io::Error,
        preparation: &Preparation,
    ) -> Self {
        let note = &preparation.note;
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let Some(tls) = tls else { return Self::Broken { address, error } };
        if let rustls::Error::AlertReceived(alert) = tls {
            let (shown, only_large) = (note.shown(), preparation.large_got_an_alert());
            return Self::Alert { address, alert: *alert, shown, only_large };
        }
        match (VerifyFailure::of(tls), note.refusal()) {
            (Some(kind), Some(reason)) => {
                Self::Certificate { address, kind, reason: reason.into() }
            }
            (Some(kind), None) => Self::Certificate { address, kind, reason: words(tls) },
            (None, _) => Self::Tls { address, reason: words(tls) },
        }
    }
}

/// Addresses that failed before the one that is told of first: the first few in words, of the rest the number.
#[derive(Debug, Default)]
pub struct Others {
    told: Vec<String>,
    more: usize,
}

/// True if the kernel refuses to try at all, and will the next time: EPERM (a rule of this machine's firewall), EACCES, EINVAL,
/// EAFNOSUPPORT (it lacks the address's family).
fn is_lasting(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(1 | 13 | 22 | 97))
}

/// How many are told of.
const OTHERS_TOLD: usize = 3;

impl Others {
    fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// One more.
    pub(super) fn add(&mut self, address: SocketAddr, error: &io::Error) {
        if self.told.len() < OTHERS_TOLD {
            self.told.push(format!("{address}: {error}"));
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.told.iter().try_for_each(|told| write!(f, "; nor to {told}"))?;
        if self.more > 0 { write!(f, "; nor to {} more", self.more) } else { Ok(()) }
    }
}

/// What is missing on our side; the kernel has one word for used up ports and for a family that it lacks.
fn shortage(address: SocketAddr, error: &io::Error) -> String {
    match (error.kind(), address.is_ipv6()) {
        (io::ErrorKind::AddrNotAvailable, true) => {
            format!(
                "no TCP connection to {address}: this machine has no IPv6, or no local port left"
            )
        }
        (io::ErrorKind::AddrNotAvailable, false) => {
            format!("no TCP connection to {address}: no local port is left")
        }
        _ => "no descriptor is left on this side (ulimit -Hn)".into(),
    }
}

/// Says what an alert tells, to follow the address of who sent it: what became of our certificate comes first, as servers use
/// nearly every alert for that.
pub fn ended_with(alert: AlertDescription, shown: Shown) -> String {
    use AlertDescription as A;
    let name = alert_name(alert);
    let ended = format!("ended the TLS handshake with the alert {name}");
    let of_certificates = matches!(
        alert,
        A::CertificateRequired
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
    );
    match shown {
        Shown::NotConfigured if of_certificates || alert == A::HandshakeFailure => format!(
            "asked for a client certificate and got none, as none is configured (set tls.identity), and {ended}"
        ),
        Shown::NoSignature if of_certificates || alert == A::HandshakeFailure => format!(
            "asked for a client certificate and got none: it takes no signature that our key (tls.identity) can make; give an \
             identity with a key of another kind; it {ended}"
        ),
        Shown::Sent if of_certificates => format!(
            "refused our client certificate (tls.identity) with the alert {name}{}",
            refusal(alert)
        ),
        Shown::Sent | Shown::NotConfigured | Shown::NoSignature => {
            format!("{ended}{}", remedy(alert))
        }
        Shown::Resumed if of_certificates => format!(
            "{ended}: a session was resumed, so it did not ask for our client certificate (tls.identity) again"
        ),
        Shown::NotAsked if of_certificates => {
            format!("{ended}, and had not asked for a client certificate (tls.identity)")
        }
        Shown::Resumed | Shown::NotAsked => format!("{ended}{}", remedy(alert)),
    }
}

/// Says what a server that refused our certificate means.
fn refusal(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => {
            ": it does not trust its issuer, or lacks a certificate between (put the chain into the same file)"
        }
        AlertDescription::CertificateExpired => ": to its clock the certificate is expired",
        AlertDescription::CertificateRevoked => ": its issuer revoked it",
        AlertDescription::UnsupportedCertificate => {
            ": it is not for clients (extendedKeyUsage without clientAuth), or of a kind that is not taken there"
        }
        _ => "",
    }
}

/// Says what an alert asks for, where that is known (RFC 8446 section 6.2).
fn remedy(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::ProtocolVersion => ": no TLS version in common (tls.minVersion)",
        AlertDescription::UnrecognisedName => ": it does not serve this name (tls.serverName)",
        AlertDescription::HandshakeFailure => {
            ": no cipher suite, group or signature algorithm in common"
        }
        _ => "",
    }
}

/// Says what helps where the first message was too large for the server.
fn remedy_for_large(only_large: bool) -> &'static str {
    if only_large {
        "; if it cannot read a first message of two segments (post-quantum key share), tls.keyExchange: classic sends a small one"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_17_a_handshake_that_an_alert_ended_is_tried_again_unless_that_is_final() {
        let address = "192.0.2.1:443".parse().expect("an address");
        for alert in (0..=u8::MAX).map(AlertDescription::from) {
            let (shown, only_large) = (Shown::NotAsked, false);
            let error = ConnectError::Alert { address, alert, shown, only_large };
            assert_eq!(error.may_retry(), !alert::is_final(alert), "{error}");
        }
    }

    #[test]
    fn fault_17_what_the_kernel_will_refuse_again_is_not_tried_again() {
        let address = "192.0.2.1:443".parse().expect("an address");
        let error = |errno| ConnectError::tcp(address, io::Error::from_raw_os_error(errno));
        for (errno, may) in [
            (1, false),
            (13, false),
            (22, false),
            (97, false),
            (104, true),
            (110, true),
            (111, true),
        ] {
            assert_eq!(error(errno).may_retry(), may, "{errno}");
        }
        let mut several = error(97);
        if let ConnectError::Tcp { others, .. } = &mut several {
            others.add(address, &io::Error::from_raw_os_error(111));
        }
        assert!(several.may_retry(), "another address may answer the next time");
    }

    #[test]
    fn what_is_missing_on_this_side_is_named() {
        let unavailable = io::ErrorKind::AddrNotAvailable;
        for (address, error, says) in [
            ("192.0.2.1:443", io::Error::from_raw_os_error(24), "no descriptor is left"),
            ("[2001:db8::1]:443", io::Error::from_raw_os_error(24), "no descriptor is left"),
            ("192.0.2.1:443", unavailable.into(), "192.0.2.1:443: no local port is left"),
            ("[2001:db8::1]:443", unavailable.into(), "this machine has no IPv6"),
        ] {
            let error = ConnectError::tcp(address.parse().expect("an address"), error);
            assert!(matches!(error, ConnectError::Exhausted { .. }), "{error:?}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
