//! Verification of the upstream's certificate: always, and always against a name (design, section 8; RFC 9525).
//!
//! Chains are webpki's business. Ours are the name, which may differ from the SNI, the server's own certificate as
//! its trust, and words that tell what to do.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_parser::{
    prelude::{FromDer, GeneralName, X509Certificate},
    time::ASN1Time,
};

use super::Trust;
use crate::label;

label! {
    /// Why an upstream's certificate was refused.
    pub enum VerifyFailure {
        /// It does not carry the name.
        Name = "name",
        /// Its time is over.
        Expired = "expired",
        /// Its time has not come.
        NotYetValid = "not-yet-valid",
        /// Its chain does not end in the trust.
        Untrusted = "untrusted",
        /// It is not for servers, or malformed, or beyond webpki's budget.
        Unsuitable = "unsuitable",
    }
}

impl VerifyFailure {
    /// The kind of a refusal, if the error is one.
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
            CertificateError::Other(other) if other.0.is::<WrongName>() => Self::Name,
            _ => Self::Unsuitable,
        })
    }
}

/// Verifies that a chain ends in the trust and that its leaf carries one name, whatever the SNI was.
#[derive(Debug)]
pub struct Verifier {
    chains: Arc<WebPkiServerVerifier>,
    trust: Arc<Trust>,
    name: ServerName<'static>,
}

impl Verifier {
    pub(super) fn new(
        trust: Arc<Trust>,
        name: ServerName<'static>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in trust.certificates() {
            roots.add(certificate.clone())?;
        }
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { chains, trust, name })
    }

    /// Whether a chain, its leaf first, would be accepted now.
    #[must_use]
    pub fn believes(&self, chain: &[CertificateDer<'_>]) -> bool {
        self.believes_at(chain, UnixTime::now())
    }

    /// Whether a chain, its leaf first, would be accepted then.
    pub(super) fn believes_at(&self, chain: &[CertificateDer<'_>], at: UnixTime) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        self.verify_server_cert(leaf, intermediates, &self.name, &[], at).is_ok()
    }

    /// The leaf itself is in the trust: nothing vouches for it but the user, and its time, use and name still count.
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

    fn explain(&self, error: Error, leaf: &CertificateDer<'_>) -> Error {
        match error {
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => {
                let wrong = WrongName::new(&self.name, leaf);
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong))))
            }
            other => other,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _sni: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = if self.trust.certificates().iter().any(|trusted| trusted == leaf) {
            self.verify_pinned(leaf, now)
        } else {
            let chain = self.chains.verify_server_cert(leaf, intermediates, &self.name, ocsp, now);
            chain.map(drop)
        };
        verified
            .map(|()| ServerCertVerified::assertion())
            .map_err(|error| self.explain(error, leaf))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

fn unix(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

/// A point in time as people write it, of seconds since 1970: `Jan  1 00:00:00 2020 +00:00`.
pub fn date(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map_or_else(|_| "?".into(), |time| time.to_string())
}

/// A certificate that does not carry the name, with the names that it has, and the remedy.
#[derive(Debug)]
struct WrongName {
    wanted: String,
    /// Its subject alternative names, the first few.
    carried: Vec<String>,
    common_name: Option<String>,
}

/// How many of a certificate's names are told: enough to see the mistake, too few to flood a log.
const NAMES_TOLD: usize = 8;

impl WrongName {
    fn new(wanted: &ServerName<'_>, leaf: &CertificateDer<'_>) -> Self {
        let wanted = wanted.to_str().into_owned();
        let Ok((_, parsed)) = X509Certificate::from_der(leaf) else {
            return Self { wanted, carried: Vec::new(), common_name: None };
        };
        let names = parsed.subject_alternative_name().ok().flatten();
        let carried = names.map_or_else(Vec::new, |names| {
            names.value.general_names.iter().take(NAMES_TOLD).map(describe).collect()
        });
        let common_name = parsed.subject().iter_common_name().next();
        let common_name = common_name.and_then(|name| name.as_str().ok()).map(printable);
        Self { wanted, carried, common_name }
    }
}

fn describe(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => printable(name),
        GeneralName::IPAddress([a, b, c, d]) => format!("{a}.{b}.{c}.{d}"),
        GeneralName::IPAddress(bytes) => match <[u8; 16]>::try_from(*bytes) {
            Ok(bytes) => std::net::Ipv6Addr::from(bytes).to_string(),
            Err(_) => "an IP address of a wrong length".into(),
        },
        GeneralName::RFC822Name(name) => format!("e-mail {}", printable(name)),
        GeneralName::URI(name) => format!("URI {}", printable(name)),
        _ => "a name of another kind".into(),
    }
}

/// The upstream's text in ours: nothing that a terminal or a log could take for more than text.
fn printable(text: &str) -> String {
    text.chars().take(255).flat_map(char::escape_default).collect()
}

impl fmt::Display for WrongName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate is not for {:?}: ", self.wanted)?;
        match (&self.carried[..], &self.common_name) {
            ([], Some(name)) => write!(
                f,
                "it names {name:?} in its common name (CN) only, which has not counted since RFC 6125; \
                 have it issued with a subject alternative name"
            ),
            ([], None) => {
                write!(f, "it carries no name; have it issued with a subject alternative name")
            }
            (names, _) => write!(
                f,
                "it is for {}; set tls.verifyName to one of these if that is the upstream you mean",
                names.join(", ")
            ),
        }
    }
}

impl std::error::Error for WrongName {}
