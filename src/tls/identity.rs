//! stub

/// Our certificate chain and its key; they match, and `Debug` shows no key.
#[derive(PartialEq, Eq)]
pub struct Identity {}

/// Why a certificate and key cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// The certificate file holds none.
    #[error(
        "it holds no certificate (the client certificate first, then its chain, in PEM, is wanted)"
    )]
    NoCertificate,
    /// The key file holds none.
    #[error("it holds no private key (PKCS#8, PKCS#1 or SEC1, in PEM, not encrypted, is wanted)")]
    NoKey,
}

impl Identity {
    /// A certificate file (leaf first, then its chain) and a key file, both PEM.
    pub fn from_pem(_certificates: &[u8], _key: &[u8]) -> Result<Self, IdentityError> {
        Err(IdentityError::NoKey)
    }

    /// One PEM file with key and chain, in any order.
    pub fn from_bundle(bundle: &[u8]) -> Result<Self, IdentityError> {
        Self::from_pem(bundle, bundle)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}
