//! A certificate authority in memory, which ends with the process.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use super::Error;

/// The time before now from which certificates are valid: clocks of a machine that was just started may be behind.
const BEFORE: Duration = Duration::from_hours(1);
/// The time from now until which certificates are valid, longer than a demo runs.
const AFTER: Duration = Duration::from_hours(24 * 7);

/// A certificate authority; its key is never written anywhere.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Credentials {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    /// Makes an authority with a new key.
    pub fn new() -> Result<Self, Error> {
        let mut params = named("Warmline demo, to be thrown away");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// Issues a server certificate for this DNS name.
    pub fn server(&self, name: &str) -> Result<Credentials, Error> {
        let mut params = named(name);
        params.subject_alt_names = CertificateParams::new([name.to_owned()])?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params)
    }

    /// Issues a client certificate with this common name.
    pub fn client(&self, name: &str) -> Result<Credentials, Error> {
        let mut params = named(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    /// Returns the authority's certificate in PEM; client and server trust it.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Returns the authority's certificate as rustls takes it.
    pub(super) fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        Ok(roots)
    }

    fn issue(&self, params: &CertificateParams) -> Result<Credentials, Error> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Credentials { certificate, key })
    }
}

impl Credentials {
    /// Returns the certificate in PEM.
    pub fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    /// Returns the private key in PEM (PKCS#8).
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }
}

/// Returns the parameters of a certificate with this common name, valid from an hour ago for a week.
fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now();
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + AFTER).into();
    params
}
