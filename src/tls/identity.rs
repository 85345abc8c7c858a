//! Warmline's certificate chain and private key, read from PEM.

use std::{fmt, sync::Arc, time::SystemTime};

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use x509_parser::prelude::{Validity, X509Certificate};

use super::{
    key::{Key, KeyFault},
    pem::{self, Contents, PemError},
    x509,
};
use crate::telemetry::Moment;

/// Warmline's certificate chain and its key; they match, and `Debug` shows no key. Identities are equal if their bytes
/// are.
pub struct Identity {
    certified: Arc<CertifiedKey>,
    key: Key,
    /// The time in which the leaf is valid.
    validity: Validity,
    /// The number of certificates in the file, of which the chain is a part.
    found: usize,
}

/// The reason why a certificate and key cannot be used. No text quotes the files' content, except for subjects and
/// dates.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// The certificate file is not usable PEM.
    #[error("{0}")]
    CertificateFile(PemError),
    /// The key file is not usable PEM.
    #[error("{0}")]
    KeyFile(PemError),
    /// The certificate file holds no certificate.
    #[error(
        "it holds no certificate (the client certificate first, then its chain, in PEM, is wanted)"
    )]
    NoCertificate,
    /// A certificate cannot be read.
    #[error(
        "line {line}: certificate {number} is not an X.509 certificate, or a part of it is missing (copy the file once more, \
         whole)"
    )]
    MalformedCertificate {
        /// The certificate's number, counted from 1, in the order of the file.
        number: usize,
        /// The line of the file that the certificate begins in.
        line: usize,
    },
    /// The certificate file holds a key other than the key file's; the number is its line.
    #[error(
        "line {0}: a private key that is not the one of the key file (take it out; for one file with both write `bundle`)"
    )]
    StrayKey(usize),
    /// The key file holds a certificate that the certificate file lacks; the number is its line.
    #[error(
        "line {0}: a certificate that the certificate file lacks (move it there; for one file with both write `bundle`)"
    )]
    StrayCertificate(usize),
    /// The key file holds no private key.
    #[error("it holds no private key (PKCS#8, PKCS#1 or SEC1, in PEM, not encrypted, is wanted)")]
    NoKey,
    /// The key file holds this number of private keys.
    #[error("it holds {0} private keys (exactly one is wanted)")]
    ManyKeys(usize),
    /// The key is of a kind that cannot sign in TLS here.
    #[error("its private key is {0}")]
    UnsupportedKey(KeyFault),
    /// The key belongs to another certificate.
    #[error(
        "the private key does not belong to the certificate: their public keys differ (give the \
         key that the certificate was issued for)"
    )]
    Mismatch,
    /// The certificate has expired.
    #[error("the client certificate expired: its notAfter is {not_after} (renew it)")]
    Expired {
        /// The end of its validity, as text.
        not_after: String,
    },
    /// The certificate is not valid yet.
    #[error(
        "the client certificate is not valid yet: its notBefore is {not_before} (or this \
         machine's clock is wrong)"
    )]
    NotYetValid {
        /// The beginning of its validity, as text.
        not_before: String,
    },
}

/// The file that an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// The certificate file.
    Certificate,
    /// The key file.
    Key,
    /// Both: each file is fine alone.
    Both,
}

impl IdentityError {
    /// Returns which of the two files the error is about.
    #[must_use]
    pub const fn concern(&self) -> Concern {
        match self {
            Self::CertificateFile(_)
            | Self::NoCertificate
            | Self::MalformedCertificate { .. }
            | Self::StrayKey(_)
            | Self::Expired { .. }
            | Self::NotYetValid { .. } => Concern::Certificate,
            Self::KeyFile(_)
            | Self::StrayCertificate(_)
            | Self::NoKey
            | Self::ManyKeys(_)
            | Self::UnsupportedKey(_) => Concern::Key,
            Self::Mismatch => Concern::Both,
        }
    }
}

impl Identity {
    /// Reads a certificate file and a key file, both PEM; if one file holds both, its text is given twice. Of several
    /// certificates of this key the one is used that is valid `now` and ends last; if none is valid, the one that ends
    /// last, as only [`Identity::check_validity`] judges the dates. Fails if a file is not usable PEM, if a part is
    /// missing or cannot be read, if a file holds a key or certificate that the other lacks, or if no certificate
    /// belongs to the key.
    pub fn from_pem(
        certificates: &[u8],
        key: &[u8],
        now: SystemTime,
    ) -> Result<Self, IdentityError> {
        let chain = pem::read(certificates).map_err(IdentityError::CertificateFile)?;
        let secret = pem::read(key).map_err(IdentityError::KeyFile)?;
        Self::from_contents(&chain, &secret, now)
    }

    /// Makes an identity of the certificates of the first file and the key of the second; fails by the rules of
    /// [`Identity::from_pem`].
    fn from_contents(
        chain: &Contents,
        secret: &Contents,
        now: SystemTime,
    ) -> Result<Self, IdentityError> {
        if chain.certificates.is_empty() {
            return Err(IdentityError::NoCertificate);
        }
        let all = parsed(&chain.certificates)?;
        let key = the_key(secret)?;
        refuse_strays(chain, secret, key)?;
        let key = Key::read(key).map_err(IdentityError::UnsupportedKey)?;
        let own = own(&all, &key, now).ok_or(IdentityError::Mismatch)?;
        let validity = all[own].validity().clone();
        let shown = chain_of(own, &all, now);
        let shown = shown.into_iter().map(|index| chain.certificates[index].0.clone()).collect();
        let certified = Arc::new(CertifiedKey::new(shown, Arc::clone(&key.signing)));
        Ok(Self { certified, key, validity, found: all.len() })
    }

    /// Returns the chain, Warmline's own certificate first; never empty.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Returns the number of certificates in the file: those of the chain, and those that are left out of it.
    #[must_use]
    pub const fn found(&self) -> usize {
        self.found
    }

    /// True if the file holds certificates beside the chain: another one of them may be used at another time.
    #[must_use]
    pub fn is_one_of_several(&self) -> bool {
        self.found > self.chain().len()
    }

    /// Returns the private key.
    #[must_use]
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key.der
    }

    /// Returns the kind of the private key, for people: `ECDSA P-256`, `RSA 2048`.
    #[must_use]
    pub fn key_kind(&self) -> &str {
        &self.key.kind
    }

    /// Returns the subject of Warmline's own certificate, escaped and cut; empty if the certificate cannot be read.
    #[must_use]
    pub fn subject(&self) -> String {
        self.chain()
            .first()
            .and_then(x509::parse)
            .map(|own| x509::subject(&own))
            .unwrap_or_default()
    }

    /// Returns chain and key in the form that rustls takes.
    #[must_use]
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Returns the first moment at which Warmline's own certificate is valid.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        Moment::from(self.validity.not_before).0
    }

    /// Returns the last moment at which Warmline's own certificate is valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        Moment::from(self.validity.not_after).0
    }

    /// Returns [`Identity::not_after`] for people: `2026-05-01 12:00:00 UTC`.
    #[must_use]
    pub fn not_after_text(&self) -> String {
        Moment::from(self.validity.not_after).to_string()
    }

    /// Fails unless Warmline's own certificate is valid at `now` (RFC 5280 section 4.1.2.5).
    pub fn check_validity(&self, now: SystemTime) -> Result<(), IdentityError> {
        let Validity { not_before, not_after } = &self.validity;
        if x509::is_valid(&self.validity, now) {
            Ok(())
        } else if x509::seconds(now) < not_before.timestamp() {
            Err(IdentityError::NotYetValid { not_before: Moment::from(*not_before).to_string() })
        } else {
            Err(IdentityError::Expired { not_after: Moment::from(*not_after).to_string() })
        }
    }
}

/// Returns the only private key of a file; the same key twice counts once. Fails if there is no key, or a second one.
fn the_key(contents: &Contents) -> Result<&PrivateKeyDer<'static>, IdentityError> {
    match &contents.keys[..] {
        [] => Err(IdentityError::NoKey),
        [(key, _), more @ ..]
            if more.iter().all(|(other, _)| other.secret_der() == key.secret_der()) =>
        {
            Ok(key)
        }
        keys => Err(IdentityError::ManyKeys(keys.len())),
    }
}

/// Fails if there is a key in the certificate file, or a certificate in the key file, that the other file lacks: it
/// would be ignored without notice.
fn refuse_strays(
    chain: &Contents,
    secret: &Contents,
    key: &PrivateKeyDer<'static>,
) -> Result<(), IdentityError> {
    let is_other =
        |(other, _): &&(PrivateKeyDer<'_>, usize)| other.secret_der() != key.secret_der();
    if let Some((_, line)) = chain.keys.iter().find(is_other) {
        return Err(IdentityError::StrayKey(*line));
    }
    let mut certificates = chain.certificates.iter();
    let is_lost =
        |(lost, _): &&(CertificateDer<'_>, usize)| !certificates.any(|(der, _)| der == lost);
    match secret.certificates.iter().find(is_lost) {
        Some((_, line)) => Err(IdentityError::StrayCertificate(*line)),
        None => Ok(()),
    }
}

/// Parses each certificate of a file; fails at the first that cannot be read, with its number and line.
fn parsed<'a>(
    certificates: &'a [(CertificateDer<'_>, usize)],
) -> Result<Vec<X509Certificate<'a>>, IdentityError> {
    let parse = |((der, line), number): (&'a (CertificateDer<'_>, usize), usize)| {
        let malformed = IdentityError::MalformedCertificate { number, line: *line };
        x509::parse(der).ok_or(malformed)
    };
    certificates.iter().zip(1..).map(parse).collect()
}

/// Returns the index of Warmline's own certificate: of those with its public key the one that is valid `now` and ends
/// last, or if none is valid, the one that ends last. `None` if no certificate has that key.
///
/// The comparison of rustls, `CertifiedKey::keys_match`, is the same, but refuses certificates of X.509 version 1,
/// which the command `openssl x509` makes; the server decides whether those are good enough.
fn own(all: &[X509Certificate<'_>], key: &Key, now: SystemTime) -> Option<usize> {
    let ours = |index: &usize| key.belongs_to(all[*index].public_key());
    best((0..all.len()).filter(ours), all, now)
}

/// Returns the index of the candidate that is valid `now` and ends last, or if none is valid, of the one that ends
/// last; of equal ones the first. `None` if there is no candidate.
fn best(
    candidates: impl DoubleEndedIterator<Item = usize>,
    all: &[X509Certificate<'_>],
    now: SystemTime,
) -> Option<usize> {
    let rank = |index: &usize| {
        let validity = all[*index].validity();
        (x509::is_valid(validity, now), validity.not_after.timestamp())
    };
    candidates.rev().max_by_key(rank)
}

/// Returns the indices of the chain in order: Warmline's own certificate, its issuer, the issuer of that one, as far as
/// the file has them.
fn chain_of(own: usize, all: &[X509Certificate<'_>], now: SystemTime) -> Vec<usize> {
    let mut chain = vec![own];
    let mut last = own;
    // A root is its own issuer, as is every other certificate of its name and key.
    while !x509::is_issuer(&all[last], &all[last]) {
        let issues =
            |index: &usize| !chain.contains(index) && x509::is_issuer(&all[*index], &all[last]);
        match best((0..all.len()).filter(issues), all, now) {
            Some(next) => chain.push(next),
            None => break,
        }
        last = chain[chain.len() - 1];
    }
    chain
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.chain() == other.chain() && self.key().secret_der() == other.key().secret_der()
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
    use std::time::{Duration, UNIX_EPOCH};

    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
        PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
    };

    use super::*;
    use crate::tls::pem::{Flaw, tests::base64};

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_780_000_000)
    }

    fn certificate(key: &KeyPair) -> String {
        let mut params = CertificateParams::new(["client.example".into()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        params.self_signed(key).unwrap().pem()
    }

    /// Returns the key inside a PKCS#8 envelope (RFC 5208), which is PKCS#1 for RSA and SEC1 for ECDSA.
    fn inner(key: &KeyPair, label: &str) -> String {
        let (_, envelope) = x509_parser::der_parser::parse_der(key.serialized_der()).unwrap();
        let octets = envelope.as_sequence().unwrap()[2].as_slice().unwrap();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64(octets))
    }

    fn error(certificates: &str, key: &str) -> IdentityError {
        Identity::from_pem(certificates.as_bytes(), key.as_bytes(), now()).unwrap_err()
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
            let identity = Identity::from_pem(certificate(key).as_bytes(), text.as_bytes(), now());
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
            Identity::from_pem(format!("{leaf}{issuer}").as_bytes(), secret.as_bytes(), now())
                .unwrap();
        for bundle in [
            format!("{secret}{leaf}{issuer}"),
            format!("{leaf}{issuer}{secret}"),
            format!("{issuer}{secret}{leaf}"),
            format!("comment\r\n{}", format!("{leaf}{secret}{issuer}").replace('\n', "\r\n")),
        ] {
            assert_eq!(
                Identity::from_pem(bundle.as_bytes(), bundle.as_bytes(), now()).unwrap(),
                plain
            );
        }
    }

    #[test]
    fn identities_are_equal_by_their_bytes() {
        let (a, b) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (chain, other) = (certificate(&a), certificate(&a));
        let identity = |chain: &str, key: &KeyPair| {
            Identity::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes(), now()).unwrap()
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
    fn unusable_credentials_are_refused_with_the_reason_and_the_part_concerned() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (chain, secret) = (certificate(&key), key.serialize_pem());
        let legacy =
            secret.replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1);
        let broken_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let broken_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let both = format!("{secret}{}", other.serialize_pem());
        let encrypted = |line| PemError { line, flaw: Flaw::EncryptedKey };
        for (certificates, key, expected, concern) in [
            ("", secret.as_str(), IdentityError::NoCertificate, Concern::Certificate),
            (&secret, &secret, IdentityError::NoCertificate, Concern::Certificate),
            (&chain, "", IdentityError::NoKey, Concern::Key),
            (&chain, &chain, IdentityError::NoKey, Concern::Key),
            (&chain, &both, IdentityError::ManyKeys(2), Concern::Key),
            (
                &chain,
                &secret.replace("PRIVATE", "ENCRYPTED PRIVATE"),
                IdentityError::KeyFile(encrypted(1)),
                Concern::Key,
            ),
            (&chain, &legacy, IdentityError::KeyFile(encrypted(2)), Concern::Key),
            (&chain, broken_key, IdentityError::UnsupportedKey(KeyFault::Unreadable), Concern::Key),
            (
                &chain,
                &secret.replace("MI", "??"),
                IdentityError::KeyFile(PemError { line: 2, flaw: Flaw::NoBase64 }),
                Concern::Key,
            ),
            (&chain, &other.serialize_pem(), IdentityError::Mismatch, Concern::Both),
            (
                broken_certificate,
                &secret,
                IdentityError::MalformedCertificate { number: 1, line: 1 },
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
            Identity::from_pem(certificate(&key).as_bytes(), key.serialize_pem().as_bytes(), now())
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

    /// Issues a certificate for these years and this key, signed by its issuer or by itself.
    fn issued(
        name: &str,
        key: &KeyPair,
        issuer: Option<(&str, &KeyPair)>,
        years: (i32, i32),
    ) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let certificate = match issuer {
            None => params.self_signed(key),
            Some((issuer_name, issuer_key)) => {
                let mut issuer = CertificateParams::default();
                issuer.distinguished_name.push(rcgen::DnType::CommonName, issuer_name);
                params.signed_by(key, &rcgen::Issuer::new(issuer, issuer_key))
            }
        };
        certificate.unwrap().pem()
    }

    #[test]
    fn fault_05_of_several_certificates_of_our_key_the_one_that_is_valid_now_and_ends_last_is_shown()
     {
        let key = KeyPair::generate().unwrap();
        let of = |years| issued("client", &key, None, years);
        let (expired, short, long, future) =
            (of((2020, 2024)), of((2025, 2027)), of((2025, 2029)), of((2028, 2040)));
        let shown = |files: &[&String]| {
            let text: String = files.iter().map(|file| file.as_str()).collect();
            let identity =
                Identity::from_pem(text.as_bytes(), key.serialize_pem().as_bytes(), now()).unwrap();
            assert_eq!((identity.chain().len(), identity.found()), (1, files.len()));
            identity.not_after_text()
        };
        assert_eq!(shown(&[&expired, &short, &long, &future]), "2029-01-01 00:00:00 UTC");
        assert_eq!(shown(&[&future, &long, &short, &expired]), "2029-01-01 00:00:00 UTC");
        assert_eq!(shown(&[&expired, &short]), "2027-01-01 00:00:00 UTC");
        assert_eq!(
            shown(&[&expired, &future]),
            "2040-01-01 00:00:00 UTC",
            "none is valid: told later"
        );
    }

    #[test]
    fn fault_05_the_chain_is_leaf_issuer_issuer_and_the_rest_is_left_out() {
        let [leaf, middle, root, other] = std::array::from_fn(|_| KeyPair::generate().unwrap());
        let years = (2025, 2030);
        let leaf_pem = issued("leaf", &leaf, Some(("middle", &middle)), years);
        let middle_pem = issued("middle", &middle, Some(("root", &root)), years);
        let root_pem = issued("root", &root, None, years);
        let stranger = issued("stranger", &other, None, years);
        let namesake = issued("middle", &other, Some(("root", &root)), (2025, 2040));
        let short = issued("middle", &middle, Some(("root", &root)), (2025, 2027));
        let secret = leaf.serialize_pem();
        let chain = |parts: &[&String]| {
            let text: String = parts.iter().map(|part| part.as_str()).collect();
            Identity::from_pem(text.as_bytes(), secret.as_bytes(), now()).unwrap()
        };
        let right = chain(&[&leaf_pem, &middle_pem, &root_pem]);
        assert_eq!(right.chain().len(), 3);
        for parts in [
            [&root_pem, &middle_pem, &leaf_pem, &stranger],
            [&stranger, &root_pem, &leaf_pem, &middle_pem],
            [&namesake, &middle_pem, &root_pem, &leaf_pem],
            [&short, &leaf_pem, &root_pem, &middle_pem],
        ] {
            let read = chain(&parts);
            assert_eq!((read.chain(), read.found()), (right.chain(), 4));
        }
        assert_eq!(chain(&[&root_pem, &leaf_pem]).chain().len(), 1, "its issuer is not there");
    }

    #[test]
    fn fault_05_no_key_and_no_certificate_is_lost_in_the_other_file() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (chain, secret) = (certificate(&key), key.serialize_pem());
        let lines = |text: &str| text.lines().count();
        let stray = error(&format!("{chain}{}", other.serialize_pem()), &secret);
        assert_eq!(stray, IdentityError::StrayKey(lines(&chain) + 1));
        let stray = error(&chain, &format!("{secret}{}", certificate(&other)));
        assert_eq!(stray, IdentityError::StrayCertificate(lines(&secret) + 1));
        let both = format!("{chain}{secret}");
        let twice = format!("{secret}{chain}{secret}");
        for (certificates, key) in
            [(&both, &secret), (&chain, &both), (&both, &both), (&twice, &twice), (&chain, &twice)]
        {
            assert!(Identity::from_pem(certificates.as_bytes(), key.as_bytes(), now()).is_ok());
        }
    }

    #[test]
    fn debug_output_shows_no_key() {
        let key = KeyPair::generate().unwrap();
        let identity =
            Identity::from_pem(certificate(&key).as_bytes(), key.serialize_pem().as_bytes(), now())
                .unwrap();
        assert_eq!(
            format!("{identity:?}"),
            "Identity { certificates: 1, not_after: \"2030-01-01 00:00:00 UTC\", .. }"
        );
    }
}
