//! The serving certificate: read from PEM, and the newest one at each handshake.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate, its chain and its key. `Debug` shows no key.
pub(super) struct Serving {
    certified: Arc<CertifiedKey>,
    pub(super) not_after: SystemTime,
}

/// Why a certificate and key cannot be used. No text quotes them.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub(super) enum Unusable {
    #[error("tls.crt holds no certificate that can be read (PEM is wanted, the server's first)")]
    Certificate,
    #[error("tls.key holds no private key that can be read (PEM, not encrypted, is wanted)")]
    Key,
    #[error("tls.key is of a kind that is not supported (RSA, ECDSA P-256, P-384, P-521, Ed25519)")]
    KeyKind,
    #[error("tls.key does not belong to tls.crt: their public keys differ")]
    Mismatch,
}

impl Serving {
    pub(super) fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, Unusable> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|_| Unusable::Certificate)?;
        let not_after = chain.first().and_then(not_after).ok_or(Unusable::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Unusable::Key)?;
        let key = any_supported_type(&key).map_err(|_| Unusable::KeyKind)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| Unusable::Mismatch)?;
        Ok(Self { certified: Arc::new(certified), not_after })
    }

    /// The server's own certificate.
    pub(super) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.certified.cert.first()
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// When a certificate's time ends.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The newest serving certificate; none before the first.
#[derive(Debug, Default)]
pub(super) struct Current(ArcSwapOption<Serving>);

impl Current {
    pub(super) fn get(&self) -> Option<Arc<Serving>> {
        self.0.load_full()
    }

    /// From now on handshakes get this one.
    pub(super) fn replace(&self, serving: Serving) {
        self.0.store(Some(Arc::new(serving)));
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().as_ref().map(|serving| Arc::clone(&serving.certified))
    }
}
