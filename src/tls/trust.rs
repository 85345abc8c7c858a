//! Which certificates are believed: a PEM bundle, or the machine's own roots.

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject as _},
    },
};

/// Which certificates are believed: at least one, each of them readable. Equal when their bytes
/// and their origin are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    certificates: Vec<CertificateDer<'static>>,
    /// They are the machine's own roots.
    system: bool,
}

/// Why a trust bundle cannot be used. No text quotes the file's content.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TrustError {
    /// The text holds no `-----BEGIN CERTIFICATE-----`.
    #[error(
        "it holds no certificate (a PEM bundle of CA certificates, or the server's own, is wanted)"
    )]
    Empty,
    /// A certificate cannot be read.
    #[error("certificate {number} cannot be read: {reason}")]
    Malformed {
        /// Counted from 1, in the order of the file.
        number: usize,
        /// The parser's words.
        reason: String,
    },
    /// The machine's own roots cannot be read.
    #[error("the system's roots cannot be read: {0} (set `trust` to a PEM bundle)")]
    System(String),
}

impl Trust {
    /// Reads a PEM bundle: CA certificates, or the server's own self-signed one.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustError> {
        let mut certificates = Vec::new();
        for (section, number) in CertificateDer::pem_slice_iter(pem).zip(1..) {
            let malformed = |reason: String| TrustError::Malformed { number, reason };
            let certificate = section.map_err(|error| malformed(reason(&error).into()))?;
            readable(&certificate).map_err(|error| malformed(error.to_string()))?;
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(TrustError::Empty);
        }
        Ok(Self { certificates, system: false })
    }

    /// The machine's own roots; those that cannot be read are left out, and at least one must
    /// remain.
    pub fn system() -> Result<Self, TrustError> {
        let found = rustls_native_certs::load_native_certs();
        let certificates: Vec<_> =
            found.certs.into_iter().filter(|certificate| readable(certificate).is_ok()).collect();
        if certificates.is_empty() {
            let reason = found.errors.first().map_or("there are none".into(), ToString::to_string);
            return Err(TrustError::System(reason));
        }
        Ok(Self { certificates, system: true })
    }

    /// Whether they are the machine's own roots, which others renew.
    #[must_use]
    pub const fn is_system(&self) -> bool {
        self.system
    }

    /// The certificates, in the order of their file; never empty.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

/// Whether a certificate can serve as a trust anchor.
fn readable(certificate: &CertificateDer<'static>) -> Result<(), rustls::Error> {
    RootCertStore::empty().add(certificate.clone())
}

/// What is wrong with a PEM text, without quoting it: the parser's own words hold the broken line,
/// which in a file of keys may be a secret.
pub(super) fn reason(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a PEM section's BEGIN line is broken",
        pem::Error::Base64Decode(_) => "a PEM section is not base64",
        _ => "it is no well-formed PEM",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed test is what it is for
mod tests {
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
    fn a_broken_certificate_is_refused_by_its_number_without_quoting_the_file() {
        let good = certificate();
        let broken = good.replacen("MII", "???", 1);
        let error = Trust::from_pem(format!("{good}{broken}").as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "certificate 2 cannot be read: a PEM section is not base64");
        let error =
            Trust::from_pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----");
        assert!(matches!(error, Err(TrustError::Malformed { number: 1, .. })), "{error:?}");
        let error = Trust::from_pem(b"-----BEGIN CERTIFICATE-----\nsecret").unwrap_err();
        assert_eq!(
            error.to_string(),
            "certificate 1 cannot be read: a PEM section has no END line"
        );
    }
}
