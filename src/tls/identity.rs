//! Our certificate chain and its private key, read from PEM.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, Validity, X509Certificate};

use super::trust::reason;
use crate::telemetry::Moment;

/// Our certificate chain and its key; they match, and `Debug` shows no key. Equal when their bytes
/// are.
pub struct Identity {
    certified: Arc<CertifiedKey>,
    key: PrivateKeyDer<'static>,
    /// When the leaf is valid.
    validity: Validity,
}

/// Why a certificate and key cannot be used. No text quotes the files' content, but for the dates.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// The certificate file holds none.
    #[error(
        "it holds no certificate (the client certificate first, then its chain, in PEM, is wanted)"
    )]
    NoCertificate,
    /// A certificate cannot be read.
    #[error("certificate {number} cannot be read: {reason}")]
    MalformedCertificate {
        /// Counted from 1, in the order of the file.
        number: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The key file holds none.
    #[error("it holds no private key (PKCS#8, PKCS#1 or SEC1, in PEM, not encrypted, is wanted)")]
    NoKey,
    /// The key file holds more than one.
    #[error("it holds {0} private keys (exactly one is wanted)")]
    ManyKeys(usize),
    /// The key needs a pass phrase.
    #[error(
        "its private key is encrypted, and a sidecar has nobody to ask for the pass phrase (write \
         it decrypted: openssl pkey -in ENCRYPTED -out KEY)"
    )]
    EncryptedKey,
    /// The key cannot be read.
    #[error("its private key cannot be read: {0}")]
    MalformedKey(&'static str),
    /// The key is of a kind that cannot sign here.
    #[error(
        "its private key is of no supported kind (RSA of 2048 bits and more, ECDSA P-256, P-384, \
         P-521, Ed25519)"
    )]
    UnsupportedKey,
    /// The key belongs to another certificate.
    #[error(
        "the private key does not belong to the certificate: their public keys differ (give the \
         key that the certificate was issued for)"
    )]
    Mismatch,
    /// The certificate's time is over.
    #[error("the client certificate expired: its notAfter is {not_after} (renew it)")]
    Expired {
        /// The end of its time.
        not_after: String,
    },
    /// The certificate's time has not come.
    #[error(
        "the client certificate is not valid yet: its notBefore is {not_before} (or this \
         machine's clock is wrong)"
    )]
    NotYetValid {
        /// The start of its time.
        not_before: String,
    },
}

/// Which of the two files an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// The certificate chain.
    Certificate,
    /// The private key.
    Key,
    /// Each is fine alone.
    Both,
}

impl IdentityError {
    /// Which of the two files this is about.
    #[must_use]
    pub const fn concern(&self) -> Concern {
        match self {
            Self::NoCertificate
            | Self::MalformedCertificate { .. }
            | Self::Expired { .. }
            | Self::NotYetValid { .. } => Concern::Certificate,
            Self::NoKey
            | Self::ManyKeys(_)
            | Self::EncryptedKey
            | Self::MalformedKey(_)
            | Self::UnsupportedKey => Concern::Key,
            Self::Mismatch => Concern::Both,
        }
    }
}

impl Identity {
    /// A certificate file (leaf first, then its chain) and a key file, both PEM.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let mut chain = read_chain(certificates)?;
        let key = read_key(key)?;
        let signing = any_supported_type(&key).map_err(|_| IdentityError::UnsupportedKey)?;
        let public = signing.public_key().ok_or(IdentityError::UnsupportedKey)?;
        let validity = leaf_first(&mut chain, &public)?;
        Ok(Self { certified: Arc::new(CertifiedKey::new(chain, signing)), key, validity })
    }

    /// One PEM file with key and chain, in any order.
    pub fn from_bundle(bundle: &[u8]) -> Result<Self, IdentityError> {
        Self::from_pem(bundle, bundle)
    }

    /// The chain, our own certificate first; never empty.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// Chain and key as rustls wants them.
    #[must_use]
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The first moment at which our own certificate is valid.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        Moment::from(self.validity.not_before).0
    }

    /// The last moment at which our own certificate is valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        Moment::from(self.validity.not_after).0
    }

    /// [`Identity::not_after`] for people: `2026-05-01 12:00:00 UTC`.
    #[must_use]
    pub fn not_after_text(&self) -> String {
        Moment::from(self.validity.not_after).to_string()
    }

    /// Whether our own certificate is valid at `now` (RFC 5280 section 4.1.2.5).
    pub fn check_validity(&self, now: SystemTime) -> Result<(), IdentityError> {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let seconds = i64::try_from(since).unwrap_or(i64::MAX);
        let Validity { not_before, not_after } = &self.validity;
        if seconds < not_before.timestamp() {
            return Err(IdentityError::NotYetValid {
                not_before: Moment::from(*not_before).to_string(),
            });
        }
        if seconds > not_after.timestamp() {
            return Err(IdentityError::Expired { not_after: Moment::from(*not_after).to_string() });
        }
        Ok(())
    }
}

/// Every certificate of a PEM text.
fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .zip(1..)
        .map(|(section, number)| {
            let malformed =
                |error| IdentityError::MalformedCertificate { number, reason: reason(&error) };
            section.map_err(malformed)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() { Err(IdentityError::NoCertificate) } else { Ok(chain) }
}

/// The one private key of a PEM text.
fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, IdentityError> {
    if is_encrypted(pem) {
        return Err(IdentityError::EncryptedKey);
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| IdentityError::MalformedKey(reason(&error)))?;
    match (keys.pop(), keys.len()) {
        (None, _) => Err(IdentityError::NoKey),
        (Some(key), 0) => Ok(key),
        (Some(_), others) => Err(IdentityError::ManyKeys(others + 1)),
    }
}

/// PKCS#8 says it in the section's name, PKCS#1 and SEC1 in a header line (RFC 1421 section
/// 4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    pem.split(|byte| matches!(byte, b'\n' | b'\r')).any(|line| {
        line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || (line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED"))
    })
}

/// Moves the certificate of this public key to the front, where TLS wants it (a bundle may have any
/// order), and says when it is valid.
///
/// `CertifiedKey::keys_match` compares the same bytes, but refuses certificates of X.509 version 1,
/// which `openssl x509 -req` makes; whether those are good enough is the server's to say.
fn leaf_first(
    chain: &mut [CertificateDer<'static>],
    public: &[u8],
) -> Result<Validity, IdentityError> {
    for (index, number) in (0..chain.len()).zip(1..) {
        let Ok((_, certificate)) = X509Certificate::from_der(&chain[index]) else {
            let reason = "it is no X.509 certificate";
            return Err(IdentityError::MalformedCertificate { number, reason });
        };
        if certificate.public_key().raw == public {
            let validity = certificate.validity().clone();
            chain[..=index].rotate_right(1);
            return Ok(validity);
        }
    }
    Err(IdentityError::Mismatch)
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.chain() == other.chain() && self.key.secret_der() == other.key.secret_der()
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certificates", &self.chain().len())
            .field("not_after", &self.not_after_text())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed test is what it is for
mod tests {
    use std::time::Duration;

    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
        PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
    };

    use super::*;

    fn certificate(key: &KeyPair) -> String {
        let mut params = CertificateParams::new(["client.example".into()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        params.self_signed(key).unwrap().pem()
    }

    /// The key inside a PKCS#8 envelope (RFC 5208), which is PKCS#1 for RSA and SEC1 for ECDSA.
    fn inner(key: &KeyPair, label: &str) -> String {
        let (_, envelope) = x509_parser::der_parser::parse_der(key.serialized_der()).unwrap();
        let octets = envelope.as_sequence().unwrap()[2].as_slice().unwrap();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64(octets))
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let group = chunk.iter().fold(0, |group, byte| group << 8 | usize::from(*byte))
                << (8 * (3 - chunk.len()));
            let digit = |place: usize| char::from(DIGITS[group >> (6 * (3 - place)) & 63]);
            text.extend((0..4).map(|place| if place <= chunk.len() { digit(place) } else { '=' }));
        }
        text
    }

    fn error(certificates: &str, key: &str) -> IdentityError {
        Identity::from_pem(certificates.as_bytes(), key.as_bytes()).unwrap_err()
    }

    #[test]
    fn every_form_of_a_key_is_read_and_matches_its_certificate() {
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let [p256, p384, ed25519] =
            [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519]
                .map(|algorithm| KeyPair::generate_for(algorithm).unwrap());
        let cases = [
            (&rsa, rsa.serialize_pem()),
            (&rsa, inner(&rsa, "RSA PRIVATE KEY")),
            (&p256, p256.serialize_pem()),
            (&p256, inner(&p256, "EC PRIVATE KEY")),
            (&p384, p384.serialize_pem()),
            (&ed25519, ed25519.serialize_pem()),
        ];
        for (key, text) in cases {
            let label = text.lines().next().unwrap().to_owned();
            let identity = Identity::from_pem(certificate(key).as_bytes(), text.as_bytes());
            let identity = identity.unwrap_or_else(|error| panic!("{label}: {error}"));
            assert_eq!(identity.certified_key().keys_match(), Ok(()), "{label}");
            assert_eq!(identity.chain().len(), 1);
        }
    }

    #[test]
    fn a_bundle_may_have_any_order_and_our_own_certificate_comes_first() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (leaf, issuer, secret) = (certificate(&key), certificate(&other), key.serialize_pem());
        let plain =
            Identity::from_pem(format!("{leaf}{issuer}").as_bytes(), secret.as_bytes()).unwrap();
        for bundle in [
            format!("{secret}{leaf}{issuer}"),
            format!("{leaf}{issuer}{secret}"),
            format!("{issuer}{secret}{leaf}"),
            format!("comment\r\n{}", format!("{leaf}{secret}{issuer}").replace('\n', "\r\n")),
        ] {
            assert_eq!(Identity::from_bundle(bundle.as_bytes()).unwrap(), plain);
        }
    }

    #[test]
    fn identities_are_equal_by_their_bytes() {
        let (a, b) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (chain, other) = (certificate(&a), certificate(&a));
        let identity = |chain: &str, key: &KeyPair| {
            Identity::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
        };
        assert_eq!(identity(&chain, &a), identity(&chain, &a));
        assert_ne!(
            identity(&chain, &a),
            identity(&other, &a),
            "another certificate for the same key"
        );
        assert_ne!(identity(&chain, &a), identity(&certificate(&b), &b));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason_and_the_part_it_concerns() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (chain, secret) = (certificate(&key), key.serialize_pem());
        let legacy =
            secret.replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1);
        let broken_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let broken_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let both = format!("{secret}{}", other.serialize_pem());
        let no_x509 = "it is no X.509 certificate";
        for (certificates, key, expected, concern) in [
            ("", secret.as_str(), IdentityError::NoCertificate, Concern::Certificate),
            (&secret, &secret, IdentityError::NoCertificate, Concern::Certificate),
            (&chain, "", IdentityError::NoKey, Concern::Key),
            (&chain, &chain, IdentityError::NoKey, Concern::Key),
            (&chain, &both, IdentityError::ManyKeys(2), Concern::Key),
            (
                &chain,
                &secret.replace("PRIVATE", "ENCRYPTED PRIVATE"),
                IdentityError::EncryptedKey,
                Concern::Key,
            ),
            (&chain, &legacy, IdentityError::EncryptedKey, Concern::Key),
            (&chain, broken_key, IdentityError::UnsupportedKey, Concern::Key),
            (
                &chain,
                &secret.replace("MI", "??"),
                IdentityError::MalformedKey("a PEM section is not base64"),
                Concern::Key,
            ),
            (&chain, &other.serialize_pem(), IdentityError::Mismatch, Concern::Both),
            (
                broken_certificate,
                &secret,
                IdentityError::MalformedCertificate { number: 1, reason: no_x509 },
                Concern::Certificate,
            ),
        ] {
            let error = error(certificates, key);
            assert_eq!(error, expected);
            assert_eq!(error.concern(), concern, "{error}");
        }
    }

    #[test]
    fn a_certificate_is_valid_from_its_first_second_to_its_last() {
        let key = KeyPair::generate().unwrap();
        let identity =
            Identity::from_pem(certificate(&key).as_bytes(), key.serialize_pem().as_bytes())
                .unwrap();
        let (first, last) = (1_577_836_800, 1_893_456_000);
        let at = |seconds| identity.check_validity(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(first), Ok(()));
        assert_eq!(at(last), Ok(()));
        assert_eq!(
            at(first - 1),
            Err(IdentityError::NotYetValid { not_before: "2020-01-01 00:00:00 UTC".into() })
        );
        assert_eq!(
            at(last + 1),
            Err(IdentityError::Expired { not_after: "2030-01-01 00:00:00 UTC".into() })
        );
        assert_eq!(identity.not_after(), UNIX_EPOCH + Duration::from_secs(last));
    }

    #[test]
    fn debug_output_shows_no_key() {
        let key = KeyPair::generate().unwrap();
        let identity =
            Identity::from_pem(certificate(&key).as_bytes(), key.serialize_pem().as_bytes())
                .unwrap();
        assert_eq!(
            format!("{identity:?}"),
            "Identity { certificates: 1, not_after: \"2030-01-01 00:00:00 UTC\", .. }"
        );
    }
}
