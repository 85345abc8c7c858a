//! The target of handshakes: an endpoint, and how TLS is spoken with its servers.

use std::sync::Arc;

use rustls::{KeyLog, pki_types::ServerName};

use super::{Settings, endpoint::Endpoint};
use crate::tls::{self, Trust, Verifier};

/// An endpoint, the TLS client for handshakes with its servers, and the name that their certificates must carry.
///
/// Shared: generations whose TLS settings and endpoint are the same share one target, and with it the TLS sessions.
/// The next target shares the endpoint, unless another is configured, and no session. If only certificates, keys or
/// trust changed, `change.rs` passes on the lessons about addresses.
pub(super) struct Target {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) tls: tls::Connector,
    /// The name that the certificates of the endpoint's servers are verified for.
    verify_name: ServerName<'static>,
}

impl Target {
    /// Makes the target that these settings name. Fails if TLS cannot be set up.
    pub(super) fn new(
        settings: &Settings,
        key_log: Option<Arc<dyn KeyLog>>,
    ) -> Result<Arc<Self>, rustls::Error> {
        let endpoint = Arc::new(Endpoint::new(settings.endpoint.clone()));
        Self::with(endpoint, settings, key_log)
    }

    /// Makes the target of other settings, which have another endpoint or other TLS settings. It shares this target's
    /// endpoint if that is the same. Fails if TLS cannot be set up.
    pub(super) fn after(
        &self,
        settings: &Settings,
        key_log: Option<Arc<dyn KeyLog>>,
    ) -> Result<Arc<Self>, rustls::Error> {
        if self.endpoint.configured == settings.endpoint {
            Self::with(Arc::clone(&self.endpoint), settings, key_log)
        } else {
            Self::new(settings, key_log)
        }
    }

    /// Makes a target with this endpoint and the TLS of these settings, without any session. Fails if TLS cannot be set
    /// up.
    fn with(
        endpoint: Arc<Endpoint>,
        settings: &Settings,
        key_log: Option<Arc<dyn KeyLog>>,
    ) -> Result<Arc<Self>, rustls::Error> {
        let tls = tls::Connector::new(&settings.tls, settings.pool.max_connections, key_log)?;
        let verify_name = settings.tls.verify_name.clone();
        Ok(Arc::new(Self { endpoint, tls, verify_name }))
    }

    /// Returns a judge of the chains that the endpoint's servers show, by this trust. Fails if the trust cannot be
    /// used.
    pub(super) fn verifier(&self, trust: &Arc<Trust>) -> Result<Verifier, rustls::Error> {
        tls::verifier(trust, &self.verify_name)
    }
}
