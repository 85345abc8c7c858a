//! RSA keys that make PSS signatures alone (RFC 4055). TLS has numbers of its own for their signatures,
//! `rsa_pss_pss_*`, which rustls does not know; the signatures themselves are those of `rsa_pss_rsae_*`.

use std::sync::Arc;

use rustls::{
    Error, SignatureAlgorithm, SignatureScheme,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivatePkcs1KeyDer, SubjectPublicKeyInfoDer},
    sign::{Signer, SigningKey},
};
use x509_parser::{
    asn1_rs::{Integer, OctetString, Sequence},
    prelude::FromDer as _,
    signature_algorithm::RsaSsaPssParams,
    x509::AlgorithmIdentifier,
};

/// The object identifier of id-RSASSA-PSS.
pub(super) const OID: &str = "1.2.840.113549.1.1.10";

/// A kind of signature: its number for such keys, the scheme that rustls knows, its hash, and the length of its salt.
struct Pss(u16, SignatureScheme, &'static str, u32);

const ALL: [Pss; 3] = [
    Pss(0x080b, SignatureScheme::RSA_PSS_SHA512, "2.16.840.1.101.3.4.2.3", 64),
    Pss(0x080a, SignatureScheme::RSA_PSS_SHA384, "2.16.840.1.101.3.4.2.2", 48),
    Pss(0x0809, SignatureScheme::RSA_PSS_SHA256, "2.16.840.1.101.3.4.2.1", 32),
];

/// The limits that a key sets to its signatures.
pub(super) enum Limits {
    None,
    /// A single hash, and at least this length of the salt.
    To(String, u32),
}

impl Limits {
    /// True if the limits allow signatures of this kind.
    fn allow(&self, Pss(.., hash, salt): &Pss) -> bool {
        match self {
            Self::None => true,
            Self::To(only, least) => only == hash && least <= salt,
        }
    }
}

/// Returns the limits of a key in PKCS#8; `None` if the key is of another kind.
pub(super) fn parameters(key: &[u8]) -> Option<Limits> {
    Some(parts(key)?.0)
}

/// Reads the limits of a key for PSS alone in PKCS#8, and the RSA key (PKCS#1) inside; `None` if the key is of another
/// kind, or damaged.
fn parts(key: &[u8]) -> Option<(Limits, Vec<u8>)> {
    let (_, outer) = Sequence::from_der(key).ok()?;
    let (rest, _version) = Integer::from_der(&outer.content).ok()?;
    let (rest, algorithm) = AlgorithmIdentifier::from_der(rest).ok()?;
    let (_, secret) = OctetString::from_der(rest).ok()?;
    if algorithm.algorithm.to_id_string() != OID {
        return None;
    }
    let limits = match &algorithm.parameters {
        None => Limits::None,
        Some(parameters) => {
            let parameters = RsaSsaPssParams::try_from(parameters).ok()?;
            Limits::To(parameters.hash_algorithm_oid().to_id_string(), parameters.salt_length())
        }
    };
    Some((limits, secret.as_ref().to_vec()))
}

/// Reads a key of this kind in PKCS#8; `None` if it is of another kind, or may make no signature that TLS has.
pub(super) fn key(key: &[u8]) -> Option<Arc<dyn SigningKey>> {
    let (limits, secret) = parts(key)?;
    let rsa = any_supported_type(&PrivatePkcs1KeyDer::from(secret).into()).ok()?;
    let key = PssKey { rsa, limits };
    ALL.iter().any(|pss| key.limits.allow(pss)).then(|| Arc::new(key) as _)
}

struct PssKey {
    rsa: Arc<dyn SigningKey>,
    limits: Limits,
}

impl SigningKey for PssKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let mut fitting = ALL.iter().filter(|pss| self.limits.allow(pss));
        let Pss(number, known, ..) =
            fitting.find(|Pss(number, ..)| offered.contains(&SignatureScheme::from(*number)))?;
        let signer = self.rsa.choose_scheme(&[*known])?;
        Some(Box::new(PssSigner { signer, scheme: SignatureScheme::from(*number) }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.rsa.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.rsa.algorithm()
    }
}

impl std::fmt::Debug for PssKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PssKey").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct PssSigner {
    signer: Box<dyn Signer>,
    scheme: SignatureScheme,
}

impl Signer for PssSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.signer.sign(message)
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}
