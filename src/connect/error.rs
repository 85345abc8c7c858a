//! The reasons for which a dial gives no connection.

use std::{fmt, io, net::SocketAddr, time::Duration};

use rustix::io::Errno;
use rustls::AlertDescription;

use super::resolve::NameFault;
use crate::{
    descriptors,
    tls::{CertificateUse, Preparation, VerifyFailure, alert, alert_name, words},
};

/// The failure of a dial. No byte of a request was sent before any of these failures.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint's name could not be resolved.
    #[error("the name {name:?} cannot be resolved: {fault}")]
    Name {
        /// The name as configured.
        name: String,
        /// A description of the fault.
        fault: NameFault,
    },
    /// No address accepted within `timeouts.connect`.
    #[error("no TCP connection to {endpoint} within {limit:?} (timeouts.connect)")]
    ConnectTimeout {
        /// The endpoint as written.
        endpoint: String,
        /// The time limit.
        limit: Duration,
    },
    /// Every address failed; this is the last failure.
    #[error("no TCP connection to {address}: {error}{others}")]
    Tcp {
        /// The address that failed last.
        address: SocketAddr,
        /// The kernel's error.
        error: io::Error,
        /// The addresses tried before it, with their failures.
        others: Others,
    },
    /// This machine has no descriptor or local port left; for an IPv6 address it may also lack IPv6.
    #[error("{}: {error}", shortage(*.address, .error))]
    Exhausted {
        /// The address that failed last.
        address: SocketAddr,
        /// The kernel's error.
        error: io::Error,
    },
    /// All descriptors that the process has for connections to upstreams are in use.
    #[error(
        "all {most} descriptors for connections to upstreams are in use, and none came free: raise the limit of open files \
         (ulimit -Hn), or lower pool.maxConnections"
    )]
    NoDescriptor {
        /// The number of those descriptors.
        most: usize,
    },
    /// The TLS handshake was not done within `timeouts.handshake`.
    #[error("no TLS handshake with {address} within {limit:?} (timeouts.handshake)")]
    HandshakeTimeout {
        /// The upstream's address.
        address: SocketAddr,
        /// The time limit.
        limit: Duration,
    },
    /// Warmline refused the upstream's certificate.
    #[error("the certificate of {address} was refused: {reason}")]
    Certificate {
        /// The upstream's address.
        address: SocketAddr,
        /// The kind of the fault.
        kind: VerifyFailure,
        /// A description of the fault, and of what would be right.
        reason: String,
    },
    /// The upstream ended the handshake with an alert.
    #[error("{address} {}{}", ended_with(*.alert, *.shown), remedy_for_large(*.only_large))]
    Alert {
        /// The upstream's address.
        address: SocketAddr,
        /// The TLS alert.
        alert: AlertDescription,
        /// The use of Warmline's certificate in the handshake.
        shown: CertificateUse,
        /// True if the alert was the only answer to a large first message, and may come of its size.
        only_large: bool,
    },
    /// The upstream's answer is not TLS, or breaks its rules.
    #[error("the TLS handshake with {address} failed: {reason}")]
    Tls {
        /// The upstream's address.
        address: SocketAddr,
        /// A description of the fault.
        reason: String,
    },
    /// The connection broke during the TLS handshake.
    #[error("the connection to {address} broke during the TLS handshake: {error}")]
    HandshakeBroken {
        /// The upstream's address.
        address: SocketAddr,
        /// The kernel's error.
        error: io::Error,
    },
}

impl ConnectError {
    /// True if another try may succeed at once: false if the next answer would be the same, or a time limit is used up.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Tcp { error, others, .. } => !others.is_empty() || !is_lasting(error),
            Self::HandshakeBroken { .. } => true,
            Self::Alert { alert, .. } => !alert::is_final(*alert),
            _ => false,
        }
    }

    /// Makes the failure of a TCP error, either a shortage on this machine or a fault elsewhere.
    pub fn tcp(address: SocketAddr, error: io::Error) -> Self {
        if Self::is_ours(&error) {
            Self::Exhausted { address, error }
        } else {
            Self::Tcp { address, error, others: Others::default() }
        }
    }

    /// True if this machine, or this process, has no local port or no descriptor left, which is likely to pass.
    pub(super) fn is_ours(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::AddrNotAvailable || descriptors::is_shortage(error)
    }

    /// Makes the failure of a handshake's error, from rustls' error and the facts noted in the handshake.
    pub(super) fn handshake(
        address: SocketAddr,
        error: io::Error,
        preparation: &Preparation,
    ) -> Self {
        let note = &preparation.note;
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let Some(tls) = tls else { return Self::HandshakeBroken { address, error } };
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

/// Addresses that failed before the one whose error is reported first: the first few with their errors, the number of
/// the rest.
#[derive(Debug, Default)]
pub struct Others {
    told: Vec<String>,
    more: usize,
}

/// True if the kernel refuses to try at all, and will again: by a rule of this machine's firewall (EPERM), or because the
/// machine lacks the address's family (EAFNOSUPPORT), for example.
fn is_lasting(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::AFNOSUPPORT)
    )
}

/// The number of further addresses that a message names.
const OTHERS_TOLD: usize = 3;

impl Others {
    fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Adds an address that failed.
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

/// Describes the shortage on this machine; the kernel has one error for used-up ports and for an address family that it
/// lacks.
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

/// Describes a TLS alert, to follow the address of its sender in a sentence. The use of Warmline's certificate comes
/// first, as servers use nearly every alert to refuse that.
pub fn ended_with(alert: AlertDescription, shown: CertificateUse) -> String {
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
        CertificateUse::NotConfigured if of_certificates || alert == A::HandshakeFailure => {
            format!(
                "asked for a client certificate and got none, as none is configured (set tls.identity), and {ended}"
            )
        }
        CertificateUse::NoSignature if of_certificates || alert == A::HandshakeFailure => format!(
            "asked for a client certificate and got none: it takes no signature that our key (tls.identity) can make; give an \
             identity with a key of another kind; it {ended}"
        ),
        CertificateUse::Sent if of_certificates => format!(
            "refused our client certificate (tls.identity) with the alert {name}{}",
            refusal(alert)
        ),
        CertificateUse::Sent | CertificateUse::NotConfigured | CertificateUse::NoSignature => {
            format!("{ended}{}", remedy(alert))
        }
        CertificateUse::Resumed if of_certificates => format!(
            "{ended}: a session was resumed, so it did not ask for our client certificate (tls.identity) again"
        ),
        CertificateUse::NotAsked if of_certificates => {
            format!("{ended}, and had not asked for a client certificate (tls.identity)")
        }
        CertificateUse::Resumed | CertificateUse::NotAsked => format!("{ended}{}", remedy(alert)),
    }
}

/// Describes the fault that a server found in Warmline's certificate, to follow the alert's name; empty if the alert
/// names none.
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

/// Describes the remedy for an alert, where that is known (RFC 8446 section 6.2); else empty.
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

/// Describes the remedy where the first message may have been too large for the server; else empty.
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
            let (shown, only_large) = (CertificateUse::NotAsked, false);
            let error = ConnectError::Alert { address, alert, shown, only_large };
            assert_eq!(error.may_retry(), !alert::is_final(alert), "{error}");
        }
    }

    #[test]
    fn fault_17_a_dial_that_the_kernel_will_refuse_again_is_not_tried_again() {
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
    fn a_shortage_on_this_side_is_named() {
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
