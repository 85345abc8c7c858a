//! The begin and end of certificates' validity, as gauges for alerts.

use std::time::SystemTime;

use crate::tls;

/// The validity of an upstream's certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry {
    /// The end of Warmline's own certificate for the upstream; `None` without one.
    pub identity: Option<SystemTime>,
    /// The beginning of that certificate. An alert needs it, because a near end means less for a certificate that lasts
    /// a short time.
    pub identity_began: Option<SystemTime>,
    /// The earliest end among the trusted certificates; `None` for the system's roots, of which one always ends soon.
    pub trust: Option<SystemTime>,
}

impl Expiry {
    /// Takes the validity from an upstream's TLS settings: that of its client certificate, and the earliest end in its
    /// trust.
    pub(super) fn of(settings: &tls::Settings) -> Self {
        let identity = settings.identity.as_ref();
        Self {
            identity: identity.map(|identity| identity.not_after()),
            identity_began: identity.map(|identity| identity.not_before()),
            trust: settings.trust.first_end(),
        }
    }
}
