//! The verification of the upstream's certificate: always, and always against a name (RFC 9525; "Handshakes, sessions
//! and key exchange" in docs/design.md).
//!
//! webpki verifies chains. This module adds the name, which may differ from the SNI, trust in the server's own
//! certificate, CAs that may not sign, CAs whose name is spelt in another way, and texts that tell the remedy.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
    server::ParsedCertificate,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Trust, note, refusal::RefusedChain, x509};
use crate::label;

label! {
    /// The kind of fault for which an upstream's certificate was refused.
    pub enum VerifyFailure {
        /// The certificate does not carry the name.
        Name = "name",
        /// The certificate has expired.
        Expired = "expired",
        /// The certificate is not valid yet.
        NotYetValid = "not-yet-valid",
        /// The certificate's chain does not end in a trusted certificate.
        Untrusted = "untrusted",
        /// The certificate is not for servers, or malformed, or its chain is beyond webpki's limits.
        Unsuitable = "unsuitable",
    }
}

impl VerifyFailure {
    /// Returns the kind of fault, if the error is a refused certificate; `None` for every other error.
    pub fn of(error: &Error) -> Option<Self> {
        let Error::InvalidCertificate(refusal) = error else { return None };
        Some(match refusal {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Untrusted,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::Name
            }
            _ => Self::Unsuitable,
        })
    }
}

/// A verifier that accepts a chain that ends in a trusted certificate and whose leaf carries one name, whatever the SNI
/// was.
#[derive(Debug)]
pub struct Verifier {
    chains: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
    trust: Arc<Trust>,
    name: ServerName<'static>,
}

impl Verifier {
    /// Creates a verifier for this trust and this name. Fails if a trusted certificate cannot serve as a root, or if
    /// there is none.
    pub(super) fn new(
        trust: Arc<Trust>,
        name: ServerName<'static>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in trust.certificates() {
            roots.add(certificate.clone())?;
        }
        let chains = verifier_of(roots, &provider)?;
        Ok(Self { chains, provider, trust, name })
    }

    /// True if a chain, its leaf first, would be accepted now.
    #[must_use]
    pub fn believes(&self, chain: &[CertificateDer<'_>]) -> bool {
        self.believes_at(chain, UnixTime::now())
    }

    /// True if a chain, its leaf first, would be accepted at this time.
    pub(super) fn believes_at(&self, chain: &[CertificateDer<'_>], at: UnixTime) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        self.verify_server_cert(leaf, intermediates, &self.name, &[], at).is_ok()
    }

    /// Verifies a leaf that is itself trusted: its time, use and name still count, its issuer does not. Fails with the
    /// first of them that is wrong.
    fn verify_pinned(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if seconds < parsed.validity().not_before.timestamp() {
            let not_before = unix(parsed.validity().not_before.timestamp());
            return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
        }
        if seconds > parsed.validity().not_after.timestamp() {
            let not_after = unix(parsed.validity().not_after.timestamp());
            return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
        }
        if let Ok(Some(usage)) = parsed.extended_key_usage()
            && !(usage.value.server_auth || usage.value.any)
        {
            return Err(CertificateError::InvalidPurpose.into());
        }
        verify_server_name(&ParsedCertificate::try_from(leaf)?, &self.name)
    }

    /// Verifies a chain that ends in a trusted CA. A CA whose keyUsage does not let it sign, or cannot be read, is not
    /// part of any chain, as webpki does not check that. Other spellings of names are tried after every error: an older
    /// CA of the same name may be trusted in the spelling that the chain has, with another key.
    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let signing = intermediates.iter().filter(|der| may_sign(der));
        let signing: Vec<_> = signing.map(|der| CertificateDer::from(der.as_ref())).collect();
        let verified = self.chains.verify_server_cert(leaf, &signing, &self.name, &[], now);
        let Err(error) = verified else { return Ok(()) };
        let Some(respelt) = self.respelt(leaf, &signing) else { return Err(error) };
        match respelt.verify_server_cert(leaf, &signing, &self.name, &[], now) {
            Ok(_) => Ok(()),
            Err(better) if error == CertificateError::UnknownIssuer.into() => Err(better),
            Err(_) => Err(error),
        }
    }

    /// Returns a verifier with the trusted CAs under the names that this chain gives to them, if it spells those in
    /// another way: in other types of strings, or in upper case. RFC 5280 (section 7.1) and OpenSSL take such names for
    /// equal, webpki does not.
    fn respelt(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Option<Arc<WebPkiServerVerifier>> {
        let trusted = self.trust.certificates().iter().map(x509::parse);
        let trusted = trusted.collect::<Option<Vec<_>>>()?;
        let names: Vec<_> = trusted.iter().map(|ca| x509::canonical(ca.subject())).collect();
        let mut roots = RootCertStore::empty();
        for child in std::iter::once(leaf).chain(intermediates) {
            let child = x509::parse(child)?;
            let issuer = x509::canonical(child.issuer());
            let spelt = child.issuer().as_raw();
            for ((ca, name), der) in trusted.iter().zip(&names).zip(self.trust.certificates()) {
                if *name == issuer && ca.subject().as_raw() != spelt {
                    let anchor = webpki::anchor_from_trusted_cert(der).ok()?.to_owned();
                    let subject = x509::content(spelt)?.to_vec().into();
                    roots.roots.push(TrustAnchor { subject, ..anchor });
                }
            }
        }
        (!roots.is_empty()).then(|| verifier_of(roots, &self.provider).ok()).flatten()
    }

    /// Notes a text about why a chain is refused.
    fn note(
        &self,
        error: &Error,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) {
        note::refused(|| {
            let chain = std::iter::once(leaf).chain(intermediates).collect();
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
            RefusedChain { chain, trust: &self.trust, name: &self.name, now }.explain(error)
        });
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _sni: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = if self.trust.certificates().iter().any(|trusted| trusted == leaf) {
            self.verify_pinned(leaf, now)
        } else {
            self.verify_chain(leaf, intermediates, now)
        };
        verified
            .map(|()| ServerCertVerified::assertion())
            .inspect_err(|error| self.note(error, leaf, intermediates, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signature)
            .inspect_err(|error| self.note(error, certificate, &[], UnixTime::now()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signature)
            .inspect_err(|error| self.note(error, certificate, &[], UnixTime::now()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Creates webpki's verifier of chains with these roots. Fails if there are none.
fn verifier_of(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

/// True if a certificate can be read and its keyUsage lets it sign others.
fn may_sign(der: &CertificateDer<'_>) -> bool {
    x509::parse(der).is_some_and(|ca| x509::may_sign(&ca))
}

fn unix(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed test is what it is for
mod tests {
    use super::*;

    #[test]
    fn fault_14_a_certificate_that_cannot_be_read_may_not_sign() {
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::new([]).unwrap().self_signed(&key).unwrap();
        assert!(may_sign(ca.der()));
        let longer = CertificateDer::from([&ca.der()[..], &[0]].concat());
        assert!(!may_sign(&longer), "bytes behind its end");
        assert!(!may_sign(&CertificateDer::from(&ca.der()[..40])), "cut short");
    }
}
