//! stub

use rustls::pki_types::CertificateDer;

/// Which certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    certificates: Vec<CertificateDer<'static>>,
}

/// Why a trust bundle cannot be used.
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
    pub fn from_pem(_pem: &[u8]) -> Result<Self, TrustError> {
        Err(TrustError::Empty)
    }

    /// The machine's own roots.
    pub fn system() -> Result<Self, TrustError> {
        Err(TrustError::System("stub".into()))
    }
}
