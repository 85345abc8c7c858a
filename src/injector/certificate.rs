//! The serving certificate: its parsing from PEM, and the choice of the newest at each handshake.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use rustls::{
    pki_types::CertificateDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::tls::{
    Identity,
    identity::{Concern, IdentityError},
};

/// A serving certificate with its chain and its key. `Debug` does not show the key.
pub(super) struct Serving {
    certified: Arc<CertifiedKey>,
    pub(super) not_after: SystemTime,
}

/// The reason that certificate and key cannot be used. The text quotes neither.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}: {}", file(.0), .0)]
pub(super) struct Unusable(#[from] IdentityError);

/// Returns the name of the file, or of both, that an error is about.
const fn file(error: &IdentityError) -> &'static str {
    match error.concern() {
        Concern::Certificate => "tls.crt",
        Concern::Key => "tls.key",
        Concern::Both => "tls.key with tls.crt",
    }
}

impl Serving {
    /// Reads certificate and key from PEM. Of several certificates for the key, the one is used that is valid `now` and
    /// ends last; if none is valid, the one that ends last. Fails if either text cannot be used, or if no certificate
    /// is for the key.
    pub(super) fn from_pem(
        certificate: &[u8],
        key: &[u8],
        now: SystemTime,
    ) -> Result<Self, Unusable> {
        let identity = Identity::from_pem(certificate, key, now)?;
        let certified = Arc::clone(identity.certified_key());
        Ok(Self { certified, not_after: identity.not_after() })
    }

    /// Returns the server's own certificate, without its chain.
    pub(super) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.certified.cert.first()
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// Returns the end of a certificate's validity; `None` if the certificate cannot be parsed.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The serving certificate in use; empty until the first is there.
#[derive(Debug, Default)]
pub(super) struct CurrentCertificate(ArcSwapOption<Serving>);

impl CurrentCertificate {
    pub(super) fn get(&self) -> Option<Arc<Serving>> {
        self.0.load_full()
    }

    /// Puts a certificate in use: all later handshakes get it.
    pub(super) fn replace(&self, serving: Serving) {
        self.0.store(Some(Arc::new(serving)));
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().as_ref().map(|serving| Arc::clone(&serving.certified))
    }
}
