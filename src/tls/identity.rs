//! Our certificate chain and its private key, read from PEM.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_parser::prelude::{ASN1Time, FromDer as _, Validity, X509Certificate};

use super::trust::reason;

/// Our certificate chain and its key; they match, and `Debug` shows no key. Equal when their bytes are.
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
        "its private key is encrypted, and a sidecar has nobody to ask for the pass phrase (write it decrypted: \
         openssl pkey -in ENCRYPTED -out KEY)"
    )]
    EncryptedKey,
    /// The key cannot be read.
    #[error("its private key cannot be read: {0}")]
    MalformedKey(&'static str),
    /// The key is of a kind that cannot sign here.
    #[error(
        "its private key is of no supported kind (RSA of 2048 bits and more, ECDSA P-256, P-384, P-521, Ed25519)"
    )]
    UnsupportedKey,
    /// The key belongs to another certificate.
    #[error(
        "the private key does not belong to the certificate: their public keys differ (give the key that the \
         certificate was issued for)"
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
        "the client certificate is not valid yet: its notBefore is {not_before} (or this machine's clock is wrong)"
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

    /// The last moment at which our own certificate is valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        let seconds = u64::try_from(self.validity.not_after.timestamp()).unwrap_or(0);
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Whether our own certificate is valid at `now` (RFC 5280 section 4.1.2.5).
    pub fn check_validity(&self, now: SystemTime) -> Result<(), IdentityError> {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let seconds = i64::try_from(since).unwrap_or(i64::MAX);
        let Validity { not_before, not_after } = &self.validity;
        if seconds < not_before.timestamp() {
            return Err(IdentityError::NotYetValid { not_before: moment(*not_before) });
        }
        if seconds > not_after.timestamp() {
            return Err(IdentityError::Expired { not_after: moment(*not_after) });
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

/// PKCS#8 says it in the section's name, PKCS#1 and SEC1 in a header line (RFC 1421 section 4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    pem.split(|byte| matches!(byte, b'\n' | b'\r')).any(|line| {
        line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || (line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED"))
    })
}

/// Moves the certificate of this public key to the front, where TLS wants it (a bundle may have any order), and
/// says when it is valid.
///
/// `CertifiedKey::keys_match` compares the same bytes, but refuses certificates of X.509 version 1, which
/// `openssl x509 -req` makes; whether those are good enough is the server's to say.
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

/// `2026-05-01 12:00:00 UTC`.
fn moment(time: ASN1Time) -> String {
    let utc = time.to_datetime();
    let (hour, minute, second) = utc.to_hms();
    let (year, month, day) = (utc.year(), u8::from(utc.month()), utc.day());
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
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
            .field("not_after", &moment(self.validity.not_after))
            .finish_non_exhaustive()
    }
}
