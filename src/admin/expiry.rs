//! When certificates begin and end, as gauges for alerts.

use std::time::SystemTime;

use crate::tls;

/// When an upstream's certificates end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry {
    /// Our own; `None` without one.
    pub identity: Option<SystemTime>,
    /// When our own began: how near the end is depends on how long it lasts.
    pub identity_began: Option<SystemTime>,
    /// The first one of the trust to end; `None` for the machine's own roots, where one always
    /// ends soon.
    pub trust: Option<SystemTime>,
}

impl Expiry {
    pub fn of(settings: &tls::Settings) -> Self {
        let identity = settings.identity.as_ref();
        Self {
            identity: identity.map(|identity| identity.not_after()),
            identity_began: identity.map(|identity| identity.not_before()),
            trust: settings.trust.first_end(),
        }
    }
}
