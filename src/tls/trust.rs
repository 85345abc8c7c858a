//! The certificates that are trusted: a PEM bundle, or the machine's own roots.

use std::time::SystemTime;

use rustls::{RootCertStore, pki_types::CertificateDer};
use rustls_native_certs::ErrorKind;

use super::{
    pem::{self, PemError},
    x509,
};
use crate::telemetry::Moment;

/// The certificates that are trusted: at least one, and all of them readable. Values are equal if their bytes and their
/// origin are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    certificates: Vec<CertificateDer<'static>>,
    /// True if the certificates are the machine's own roots.
    system: bool,
    /// The line of a private key in the same file, which is not used.
    key: Option<usize>,
    /// The earliest end of a certificate; `None` for the machine's own roots.
    first_end: Option<SystemTime>,
    /// A text about those of the machine's own roots that cannot be read.
    left_out: Option<String>,
}

/// The reason why a trust bundle cannot be used. No text quotes the file's content, except for subjects.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TrustError {
    /// The text is not usable PEM.
    #[error("{0}")]
    File(PemError),
    /// The text holds no `-----BEGIN CERTIFICATE-----`.
    #[error(
        "it holds no certificate (a PEM bundle of CA certificates, or the server's own, is wanted)"
    )]
    Empty,
    /// A certificate cannot be read.
    #[error(
        "line {line}: {certificate} is not an X.509 certificate that can be trusted: its encoding is broken or a part of it is \
         missing (copy the file once more, whole, or have it issued again)"
    )]
    Malformed {
        /// The certificate's number, counted from 1 in the order of the file, and its subject if that can be read.
        certificate: String,
        /// The line of the file that the certificate begins in.
        line: usize,
    },
    /// The machine's own roots cannot be read.
    #[error("the system's roots cannot be read: {0} (set `trust` to a PEM bundle)")]
    System(String),
}

impl Trust {
    /// Reads a PEM bundle: CA certificates, or the server's own self-signed one. Fails if there is none, or if one of
    /// them cannot be read. A private key among them is noted ([`Trust::stray_key`]) and not used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustError> {
        let contents = pem::read(pem).map_err(TrustError::File)?;
        let key = contents.keys.first().map(|(_, line)| *line);
        let mut certificates = Vec::new();
        for ((certificate, line), number) in contents.certificates.into_iter().zip(1..) {
            if readable(&certificate).is_err() {
                let certificate = x509::named(number, &certificate);
                return Err(TrustError::Malformed { certificate, line });
            }
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(TrustError::Empty);
        }
        let first_end = certificates.iter().filter_map(end).min();
        Ok(Self { certificates, system: false, key, first_end, left_out: None })
    }

    /// Reads the machine's own roots; unreadable ones are left out, of which [`Trust::left_out`] tells. Fails if none
    /// remains.
    pub fn system() -> Result<Self, TrustError> {
        let found = rustls_native_certs::load_native_certs();
        Self::of_system(found.certs, &found.errors)
    }

    /// Keeps those of the machine's own roots that can be read, and a text about the others; `errors` tell of files.
    /// Fails if no certificate remains.
    fn of_system(
        found: Vec<CertificateDer<'static>>,
        errors: &[rustls_native_certs::Error],
    ) -> Result<Self, TrustError> {
        let count = found.len();
        let certificates: Vec<_> =
            found.into_iter().filter(|certificate| readable(certificate).is_ok()).collect();
        let malformed = count - certificates.len();
        let first = errors.first().map(reason);
        if certificates.is_empty() {
            return Err(TrustError::System(first.unwrap_or_else(|| "there are none".into())));
        }
        let first = first.unwrap_or_else(|| "a certificate's encoding is broken".into());
        let left_out = match errors.len() + malformed {
            0 => None,
            1 => {
                Some(format!("1 file or certificate cannot be read, and is not believed: {first}"))
            }
            number => Some(format!(
                "{number} files or certificates cannot be read, and are not believed; the first: {first}"
            )),
        };
        Ok(Self { certificates, system: true, key: None, first_end: None, left_out })
    }

    /// Returns a text that says how many of the machine's own roots cannot be read, and why the first of them cannot;
    /// `None` if all can.
    #[must_use]
    pub fn left_out(&self) -> Option<&str> {
        self.left_out.as_deref()
    }

    /// True if the certificates are the machine's own roots, which others renew.
    #[must_use]
    pub const fn is_system(&self) -> bool {
        self.system
    }

    /// Creates an empty value for certificates that were not read, as their files are elsewhere: nothing is trusted.
    #[must_use]
    pub const fn not_read() -> Self {
        Self { certificates: Vec::new(), system: false, key: None, first_end: None, left_out: None }
    }

    /// Returns the line of a private key in the same file: it is of no use there, and readable by more people than need
    /// it. `None` if the file holds no key.
    #[must_use]
    pub const fn stray_key(&self) -> Option<usize> {
        self.key
    }

    /// Returns the earliest end of a certificate; `None` for the machine's own roots, which others renew, and if no
    /// certificate has a date that can be read.
    #[must_use]
    pub const fn first_end(&self) -> Option<SystemTime> {
        self.first_end
    }

    /// Describes the certificates that have expired at `now`, each by its number and subject, with the end and the
    /// consequence: CAs are still trusted, a server that shows the certificate itself is refused.
    #[must_use]
    pub fn expired(&self, now: SystemTime) -> Vec<String> {
        // With many upstreams, many certificates are checked at each reload: most need no closer look.
        if self.first_end.is_none_or(|end| x509::seconds(end) >= x509::seconds(now)) {
            return Vec::new();
        }
        let expired = |(der, number): (&CertificateDer<'_>, usize)| {
            let certificate = x509::parse(der)?;
            let not_after = certificate.validity().not_after;
            let is_over = not_after.timestamp() < x509::seconds(now);
            let named = x509::named(number, der);
            let follows = if certificate.is_ca() {
                "it is believed all the same, but not as a server's own certificate: take it out once no upstream needs it"
            } else {
                "a server that shows it is refused: put the server's new certificate in its place"
            };
            is_over.then(|| format!("{named} expired on {}; {follows}", Moment::from(not_after)))
        };
        self.certificates.iter().zip(1..).filter_map(expired).collect()
    }

    /// Returns the names of the certificates that are no CA's, and that somebody else issued.
    #[must_use]
    pub fn issued_leaves(&self) -> Vec<String> {
        let issued = |(der, number): (&CertificateDer<'_>, usize)| {
            let leaf = x509::parse(der)?;
            let issued = !leaf.is_ca() && !x509::same_name(leaf.subject(), leaf.issuer());
            issued.then(|| x509::named(number, der))
        };
        if self.system {
            return Vec::new();
        }
        self.certificates.iter().zip(1..).filter_map(issued).collect()
    }

    /// Returns the certificates, in the order of their file; never empty, unless they were not read.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

/// Returns the end of a certificate's validity; `None` if it cannot be read, which certificates that serve as trust are
/// allowed.
fn end(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    Some(Moment::from(x509::parse(certificate)?.validity().not_after).0)
}

/// Returns a plain text for why a part of the machine's own roots cannot be read.
fn reason(error: &rustls_native_certs::Error) -> String {
    match &error.kind {
        ErrorKind::Io { inner, path } => format!("{}: {inner}", path.display()),
        ErrorKind::Pem(_) => "a file is damaged: its PEM is cut short or no base64".into(),
        _ => error.to_string(),
    }
}

/// Fails unless a certificate can serve as a trust anchor.
fn readable(certificate: &CertificateDer<'static>) -> Result<(), rustls::Error> {
    RootCertStore::empty().add(certificate.clone())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed test is what it is for
mod tests {
    use std::io;

    use super::*;

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(["a.example".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap()
            .pem()
    }

    #[test]
    fn a_bundle_keeps_every_certificate_in_order_and_equality_is_by_bytes() {
        let (a, b) = (certificate(), certificate());
        let trust = Trust::from_pem(format!("first\n{a}\nsecond\n{b}").as_bytes()).unwrap();
        assert_eq!(trust.certificates().len(), 2);
        assert_eq!(trust, Trust::from_pem(format!("{a}{b}").as_bytes()).unwrap());
        assert_ne!(trust, Trust::from_pem(format!("{b}{a}").as_bytes()).unwrap());
    }

    #[test]
    fn a_text_without_certificates_is_refused() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for text in ["", "hello", key.as_str()] {
            assert_eq!(Trust::from_pem(text.as_bytes()), Err(TrustError::Empty));
        }
    }

    #[test]
    fn fault_05_roots_of_the_system_that_cannot_be_read_are_told() {
        let good = || Trust::from_pem(certificate().as_bytes()).unwrap().certificates().to_vec();
        let broken = || CertificateDer::from(vec![0x30, 0]);
        let errors = || -> Vec<rustls_native_certs::Error> {
            let (inner, path) = (io::ErrorKind::PermissionDenied.into(), "/roots/a.pem".into());
            let pem = rustls::pki_types::pem::Error::NoItemsFound;
            [ErrorKind::Io { inner, path }, ErrorKind::Pem(pem)]
                .map(|kind| rustls_native_certs::Error { context: "context", kind })
                .into()
        };
        assert_eq!(Trust::of_system(good(), &[]).unwrap().left_out(), None);
        let trust = Trust::of_system(good(), &errors()).unwrap();
        let words = "2 files or certificates cannot be read, and are not believed; the first: /roots/a.pem: permission denied";
        assert_eq!(trust.left_out(), Some(words));
        let trust = Trust::of_system(good(), &errors()[1..]).unwrap();
        assert!(trust.left_out().unwrap().contains("a file is damaged"));
        let trust = Trust::of_system([good(), vec![broken()]].concat(), &[]).unwrap();
        assert_eq!(trust.certificates().len(), 1);
        assert!(trust.left_out().unwrap().contains("encoding is broken"));
        let none = Trust::of_system(vec![broken()], &errors()).unwrap_err().to_string();
        assert!(none.contains("/roots/a.pem: permission denied"), "{none}");
    }

    #[test]
    fn fault_05_a_key_among_trusted_certificates_is_noted_with_its_line() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let certificate = certificate();
        let trust = Trust::from_pem(format!("{certificate}{key}").as_bytes()).unwrap();
        assert_eq!(trust.stray_key(), Some(certificate.lines().count() + 1));
        assert_eq!(Trust::from_pem(certificate.as_bytes()).unwrap().stray_key(), None);
    }

    #[test]
    fn a_broken_certificate_is_refused_by_its_line_without_quoting_the_file() {
        let good = certificate();
        let line = good.lines().count() + 2;
        let broken = good.replacen("MII", "???", 1);
        let error = Trust::from_pem(format!("{good}{broken}").as_bytes()).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("line {line}: this is not base64")),
            "{error}"
        );
        let broken = format!("{good}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----");
        let error = Trust::from_pem(broken.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("line {}: certificate 2 is not", line - 1)), "{error}");
        let error = Trust::from_pem(b"-----BEGIN CERTIFICATE-----\nsecret").unwrap_err();
        assert!(error.to_string().contains("no END line"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
