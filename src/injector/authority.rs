//! The injector's own certificate authority, and the serving certificates that it issues. Lifetimes and the time are
//! arguments.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::{
    RootCertStore,
    client::{
        WebPkiServerVerifier,
        danger::{ServerCertVerified, ServerCertVerifier as _},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::certificate::{Serving, not_after};
use crate::tls::pem;

/// A certificate and its key, both in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PemPair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// A certificate authority with its key. `Debug` does not show the key.
#[derive(Clone)]
pub(super) struct Authority {
    pub(super) pair: PemPair,
    der: CertificateDer<'static>,
    name: String,
    pub(super) not_after: SystemTime,
}

/// The beginning of the common names of the injector's own authorities.
const NAME: &str = "warmline-injector ";
/// The time by which validity begins before the moment of issue, because the API server's clock may be behind.
const SKEW: Duration = Duration::from_mins(5);

impl Authority {
    /// Makes a new authority with this lifetime.
    pub(super) fn make(lifetime: Duration, now: SystemTime) -> Result<Self, rcgen::Error> {
        // Each authority has a different name, because two of them may be trusted at once.
        let born = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let name = format!("{NAME}{born}");
        let mut params = named(&name, lifetime, now);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let pair = PemPair { certificate: certificate.pem(), key: key.serialize_pem() };
        let not_after = not_after(certificate.der()).unwrap_or(now);
        Ok(Self { pair, der: certificate.der().clone(), name, not_after })
    }

    /// Reads an authority that [`Authority::make`] made. Returns `None` if the pair is not that: wrong name, not a CA,
    /// or a key that does not match.
    pub(super) fn read(pair: PemPair) -> Option<Self> {
        let read = pem::read(pair.certificate.as_bytes()).ok()?;
        let (der, _) = read.certificates.into_iter().next()?;
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        let key = KeyPair::from_pem(&pair.key).ok()?;
        let matching = parsed.public_key().raw == key.subject_public_key_info();
        let not_after = not_after(&der)?;
        let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
        let ours = parsed.is_ca() && matching && name.starts_with(NAME);
        ours.then_some(Self { pair, der, name, not_after })
    }

    /// Issues a serving certificate for this DNS name. The certificate ends with its authority, if not before.
    pub(super) fn issue(
        &self,
        name: &str,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<PemPair, rcgen::Error> {
        // Only the issuer's name and key matter here: nothing else of its certificate goes into what it signs.
        let issuer = named(&self.name, lifetime, now);
        let issuer = Issuer::new(issuer, KeyPair::from_pem(&self.pair.key)?);
        let mut params = named(name, lifetime, now);
        params.not_after = params.not_after.min(self.not_after.into());
        params.subject_alt_names = CertificateParams::new([name.to_owned()])?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(PemPair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// True if a client that trusts only this authority accepts the certificate for this name.
    pub(super) fn vouches_for(&self, serving: &Serving, name: &str, now: SystemTime) -> bool {
        vouches(&self.der, serving, name, now).is_some()
    }
}

/// Returns the proof that a client that trusts only `authority` accepts the certificate for this name; `None` if the
/// client would refuse.
pub(super) fn vouches(
    authority: &CertificateDer<'static>,
    serving: &Serving,
    name: &str,
    now: SystemTime,
) -> Option<ServerCertVerified> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).ok()?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let name = ServerName::try_from(name).ok()?;
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).ok()?);
    verifier.build().ok()?.verify_server_cert(serving.leaf()?, &[], &name, &[], now).ok()
}

/// Returns the parameters of a certificate with this common name, valid from five minutes ago until `lifetime` from
/// now.
fn named(name: &str, lifetime: Duration, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - SKEW).into();
    params.not_after = (now + lifetime).into();
    params
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl fmt::Debug for PemPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemPair").finish_non_exhaustive()
    }
}
