//! Warmline's private key: read whatever its label says, or refused with the name of its kind.

mod pss;

use std::{fmt, sync::Arc};

use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::SigningKey,
};
use x509_parser::{
    asn1_rs::Tag,
    der_parser::{der::DerObject, parse_der},
    prelude::FromDer as _,
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

/// A private key that can sign.
pub(super) struct Key {
    pub(super) der: PrivateKeyDer<'static>,
    pub(super) signing: Arc<dyn SigningKey>,
    /// The kind, for people: `ECDSA P-256`.
    pub(super) kind: String,
    /// The content of its public key, as certificates carry it.
    public: Vec<u8>,
    /// True if the key makes PSS signatures alone.
    is_pss: bool,
}

/// The reason why a private key cannot sign here; the text follows "its private key is".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFault {
    /// The bytes are not a private key.
    Unreadable,
    /// The key is RSA of an unsuitable size, in bits.
    RsaSize(usize),
    /// The key is RSA for PSS signatures alone, with parameters that TLS has no number for.
    RsaPss,
    /// The key is on an elliptic curve that is not supported, of this name.
    Curve(String),
    /// The key is on an elliptic curve that is given by numbers instead of a name.
    ExplicitCurve,
    /// The key is of another kind, of this name.
    Other(&'static str),
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ISSUE: &str = "have the certificate issued for ECDSA P-256, or RSA of 2048 bits";
        match self {
            Self::Unreadable => f.write_str(
                "damaged, or of a kind that is not known here (openssl pkey -in KEY -out NEW writes it as PKCS#8)",
            ),
            Self::RsaSize(bits) => {
                write!(f, "RSA of {bits} bits, and 2048 to 8192 are taken ({ISSUE})")
            }
            Self::RsaPss => {
                write!(f, "for RSA-PSS with parameters that TLS does not know; SHA-256, SHA-384 or SHA-512 with a salt as long are \
                     taken ({ISSUE})")
            }
            Self::Curve(name) => {
                write!(f, "on the curve {name}, and P-256, P-384 and P-521 are taken ({ISSUE})")
            }
            Self::ExplicitCurve => f.write_str(
                "on a curve that is written out in numbers (openssl ec -in KEY -param_enc named_curve -out NEW names it)",
            ),
            Self::Other(name) => write!(f, "of the kind {name}, which cannot sign here ({ISSUE})"),
        }
    }
}

impl Key {
    /// Reads a key by its structure, or else by its label: there are files with PKCS#1 or SEC1 under the label of
    /// PKCS#8, and the other way round. Fails with the reason why the key cannot sign here.
    pub(super) fn read(labelled: &PrivateKeyDer<'static>) -> Result<Self, KeyFault> {
        let bytes = labelled.secret_der();
        let forms = [
            PrivateKeyDer::try_from(bytes).ok().map(|key| key.clone_key()),
            Some(labelled.clone_key()),
            plain_ed25519(bytes),
        ];
        let mut usable = forms.into_iter().flatten().filter_map(|der| {
            let signing = any_supported_type(&der).ok().or_else(|| pss::key(bytes))?;
            let spki = signing.public_key()?.to_vec();
            let (_, public) = SubjectPublicKeyInfo::from_der(&spki).ok()?;
            let is_pss = pss::parameters(bytes).is_some();
            let kind =
                format!("{}{}", kind(&public), if is_pss { " (PSS, TLS 1.3 only)" } else { "" });
            let public = public.subject_public_key.data.to_vec();
            Some(Self { der, signing, kind, public, is_pss })
        });
        usable.next().ok_or_else(|| fault(bytes))
    }

    /// True if a certificate with this public key belongs to this private key. Only the keys are compared, as some
    /// certificates leave out the empty parameters of RSA.
    pub(super) fn belongs_to(&self, public: &SubjectPublicKeyInfo<'_>) -> bool {
        *public.subject_public_key.data == *self.public
            && (public.algorithm.algorithm.to_id_string() == pss::OID) == self.is_pss
    }
}

/// Returns the kind of a public key, for people.
fn kind(key: &SubjectPublicKeyInfo<'_>) -> String {
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        Ok(PublicKey::EC(point)) => format!(
            "ECDSA P-{}",
            match point.key_size() {
                // The size is in whole bytes.
                528 => 521,
                size => size,
            }
        ),
        _ => "Ed25519".into(),
    }
}

/// Rewrites an Ed25519 key in the first form of PKCS#8, without a public key: the second form has several spellings, of
/// which not all are read. `None` for every other key.
fn plain_ed25519(bytes: &[u8]) -> Option<PrivateKeyDer<'static>> {
    const SEED: usize = 32;
    const HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let Structure::Pkcs8 { algorithm, secret, .. } = structure(bytes)? else { return None };
    // Old programs left out the inner wrapping.
    let seed = if secret.len() == SEED { secret } else { secret.strip_prefix(&[4, 0x20])? };
    (algorithm == "1.3.101.112" && seed.len() == SEED)
        .then(|| PrivatePkcs8KeyDer::from([&HEAD[..], seed].concat()).into())
}

/// The outer structure of a private key.
enum Structure<'a> {
    /// The structure of PKCS#8: the algorithm, the beginning of its parameters, and the key itself.
    Pkcs8 { algorithm: String, curve: Curve, secret: &'a [u8] },
    /// The structure of PKCS#1, with the size of the modulus.
    Pkcs1 { bits: usize },
    /// The structure of SEC1.
    Sec1 { curve: Curve },
}

/// The curve of an EC key.
enum Curve {
    Named(String),
    Explicit,
    None,
}

/// Reads the outer structure of a private key in DER, without its label; `None` if the bytes are of none of the three.
fn structure(bytes: &[u8]) -> Option<Structure<'_>> {
    let (_, outer) = parse_der(bytes).ok()?;
    let [_version, second, others @ ..] = &outer.as_sequence().ok()?[..] else { return None };
    if let Ok(algorithm) = second.as_sequence() {
        return Some(Structure::Pkcs8 {
            algorithm: algorithm.first()?.as_oid().ok()?.to_id_string(),
            curve: curve(algorithm.get(1)),
            secret: others.first()?.as_slice().ok()?,
        });
    }
    if second.header.tag() == Tag::Integer {
        let modulus = second.as_slice().ok()?;
        let zeroes = modulus.iter().take_while(|byte| **byte == 0).count();
        return Some(Structure::Pkcs1 { bits: (modulus.len() - zeroes) * 8 });
    }
    let parameters = others.iter().find(|part| part.header.tag() == Tag(0));
    let parameters = parameters.and_then(|tagged| parse_der(tagged.as_slice().ok()?).ok());
    Some(Structure::Sec1 { curve: curve(parameters.as_ref().map(|(_, parameters)| parameters)) })
}

/// Returns the curve that these parameters of an EC key give; [`Curve::None`] without parameters.
fn curve(parameters: Option<&DerObject<'_>>) -> Curve {
    match parameters {
        Some(parameters) => match parameters.as_oid() {
            Ok(oid) => Curve::Named(curve_name(&oid.to_id_string())),
            Err(_) => Curve::Explicit,
        },
        None => Curve::None,
    }
}

/// Returns the name of a curve that is not supported; its number if the name is not known here.
fn curve_name(oid: &str) -> String {
    match oid {
        "1.2.840.10045.3.1.1" => "P-192",
        "1.3.132.0.33" => "P-224",
        "1.3.132.0.10" => "secp256k1",
        "1.3.132.0.31" => "secp192k1",
        "1.3.132.0.32" => "secp224k1",
        "1.3.132.0.1" => "sect163k1",
        "1.3.132.0.26" => "sect233k1",
        "1.3.132.0.27" => "sect233r1",
        "1.3.132.0.16" => "sect283k1",
        "1.3.132.0.17" => "sect283r1",
        "1.3.132.0.36" => "sect409k1",
        "1.3.132.0.37" => "sect409r1",
        "1.3.132.0.38" => "sect571k1",
        "1.3.132.0.39" => "sect571r1",
        "1.3.36.3.3.2.8.1.1.3" => "brainpoolP192r1",
        "1.3.36.3.3.2.8.1.1.5" => "brainpoolP224r1",
        "1.3.36.3.3.2.8.1.1.7" => "brainpoolP256r1",
        "1.3.36.3.3.2.8.1.1.9" => "brainpoolP320r1",
        "1.3.36.3.3.2.8.1.1.11" => "brainpoolP384r1",
        "1.3.36.3.3.2.8.1.1.13" => "brainpoolP512r1",
        "1.2.156.10197.1.301" => "SM2",
        other => other,
    }
    .into()
}

/// Returns the reason why a key that rustls refused cannot sign here; [`KeyFault::Unreadable`] if its kind and size
/// would do, or cannot be told.
fn fault(bytes: &[u8]) -> KeyFault {
    match structure(bytes) {
        None => KeyFault::Unreadable,
        Some(Structure::Pkcs1 { bits }) => rsa_fault(bits),
        Some(Structure::Sec1 { curve }) => curve_fault(curve),
        Some(Structure::Pkcs8 { algorithm, curve, secret }) => match &algorithm[..] {
            "1.2.840.113549.1.1.1" => match structure(secret) {
                Some(Structure::Pkcs1 { bits }) => rsa_fault(bits),
                _ => KeyFault::Unreadable,
            },
            pss::OID => match structure(secret) {
                Some(Structure::Pkcs1 { bits }) if (2048..=8192).contains(&bits) => {
                    KeyFault::RsaPss
                }
                Some(Structure::Pkcs1 { bits }) => rsa_fault(bits),
                _ => KeyFault::Unreadable,
            },
            "1.2.840.10045.2.1" => curve_fault(curve),
            "1.3.101.113" => KeyFault::Other("Ed448"),
            "1.3.101.110" => KeyFault::Other("X25519"),
            "1.3.101.111" => KeyFault::Other("X448"),
            "1.2.840.10040.4.1" => KeyFault::Other("DSA"),
            "1.2.840.113549.1.3.1" => KeyFault::Other("Diffie-Hellman"),
            _ => KeyFault::Unreadable,
        },
    }
}

fn rsa_fault(bits: usize) -> KeyFault {
    if (2048..=8192).contains(&bits) { KeyFault::Unreadable } else { KeyFault::RsaSize(bits) }
}

/// Returns the reason why a key on this curve was refused; on a curve that is supported, the key itself must be
/// damaged.
fn curve_fault(curve: Curve) -> KeyFault {
    const OURS: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];
    match curve {
        Curve::Named(name) if OURS.contains(&&name[..]) => KeyFault::Unreadable,
        Curve::Named(name) => KeyFault::Curve(name),
        Curve::Explicit => KeyFault::ExplicitCurve,
        Curve::None => KeyFault::Unreadable,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed test is what it is for
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
    use rustls::{
        SignatureScheme,
        pki_types::{PrivatePkcs1KeyDer, PrivateSec1KeyDer},
    };

    use super::*;

    /// Encodes a DER value with a length below 65,536.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap();
        let [high, low] = length.to_be_bytes();
        let head: &[u8] = if length < 128 { &[tag, low] } else { &[tag, 0x82, high, low] };
        [head, content].concat()
    }

    fn sequence(parts: &[&[u8]]) -> Vec<u8> {
        der(0x30, &parts.concat())
    }

    /// Wraps a key in PKCS#8.
    fn pkcs8(version: u8, algorithm: &[u8], key: &[u8], more: &[u8]) -> Vec<u8> {
        sequence(&[&[2, 1, version], &der(0x30, algorithm), &der(4, key), more])
    }

    const ED25519: &[u8] = &[6, 3, 0x2b, 0x65, 0x70];

    /// Returns the key inside of PKCS#8.
    fn inner(key: &KeyPair) -> Vec<u8> {
        match structure(key.serialized_der()) {
            Some(Structure::Pkcs8 { secret, .. }) => secret.to_vec(),
            _ => panic!("rcgen writes PKCS#8"),
        }
    }

    fn kind_of(key: &PrivateKeyDer<'static>) -> Result<String, KeyFault> {
        Key::read(key).map(|key| key.kind)
    }

    fn labelled(bytes: &[u8]) -> [PrivateKeyDer<'static>; 3] {
        let bytes = bytes.to_vec();
        [
            PrivatePkcs8KeyDer::from(bytes.clone()).into(),
            PrivatePkcs1KeyDer::from(bytes.clone()).into(),
            PrivateSec1KeyDer::from(bytes).into(),
        ]
    }

    #[test]
    fn fault_14_a_key_is_read_by_its_structure_whatever_its_label_says() {
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let ecdsa = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        for (key, kind) in [(&rsa, "RSA 2048"), (&ecdsa, "ECDSA P-256")] {
            for bytes in [key.serialize_der(), inner(key)] {
                for labelled in labelled(&bytes) {
                    assert_eq!(kind_of(&labelled).as_deref(), Ok(kind));
                }
            }
        }
    }

    #[test]
    fn fault_14_every_old_form_of_an_ed25519_key_is_the_same_key() {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let seed = &inner(&key)[2..];
        let public = key.public_key_raw();
        let bits = [&[0], public].concat();
        let wrapped = der(4, seed);
        for bytes in [
            pkcs8(0, ED25519, &wrapped, &[]),
            pkcs8(1, ED25519, &wrapped, &der(0x81, &bits)),
            pkcs8(1, ED25519, &wrapped, &der(0xa1, &der(3, &bits))),
            pkcs8(0, ED25519, &wrapped, &der(0xa0, &[])),
            pkcs8(0, ED25519, seed, &[]),
        ] {
            let read = Key::read(&PrivatePkcs8KeyDer::from(bytes).into());
            let read = read.unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!((&read.kind[..], &read.public[..]), ("Ed25519", public));
        }
    }

    /// Makes an RSA-PSS key from an RSA key, with these parameters.
    fn pss_key(rsa: &KeyPair, parameters: &[u8]) -> PrivateKeyDer<'static> {
        const PSS: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
        PrivatePkcs8KeyDer::from(pkcs8(0, &[PSS, parameters].concat(), &inner(rsa), &[])).into()
    }

    #[test]
    fn fault_14_an_rsa_pss_key_signs_as_its_certificate_wants() {
        // The value of RSASSA-PSS-params with SHA-256 in both places and a salt of 32 bytes, as OpenSSL writes it.
        const SHA256: &[u8] = &[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0];
        const MGF1: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8];
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let hash = der(0xa0, &der(0x30, SHA256));
        let mask = der(0xa1, &der(0x30, &[MGF1, &der(0x30, SHA256)].concat()));
        let limited = |salt: u8| der(0x30, &[&hash[..], &mask, &[0xa2, 3, 2, 1, salt]].concat());
        let [pss_sha256, pss_sha384] = [0x0809, 0x080a].map(SignatureScheme::from);
        let plain = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
        for (parameters, takes_sha384) in [(vec![], true), (limited(32), false)] {
            let key = Key::read(&pss_key(&rsa, &parameters)).unwrap();
            assert_eq!(key.kind, "RSA 2048 (PSS, TLS 1.3 only)");
            assert!(
                key.signing.choose_scheme(&plain).is_none(),
                "those are for other certificates"
            );
            assert_eq!(key.signing.choose_scheme(&[pss_sha384]).is_some(), takes_sha384);
            let signer = key.signing.choose_scheme(&[plain[0], pss_sha256]).unwrap();
            assert_eq!(signer.scheme(), pss_sha256);
            let signature = signer.sign(b"message").unwrap();
            let verified = webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA256_LEGACY_KEY.verify_signature(
                &key.public,
                b"message",
                &signature,
            );
            assert!(verified.is_ok(), "the signature is one of PSS");
        }
        let fault = Key::read(&pss_key(&rsa, &limited(64))).err();
        assert_eq!(fault, Some(KeyFault::RsaPss), "a longer salt than TLS has");
    }

    #[test]
    fn fault_14_a_key_that_cannot_sign_is_told_by_its_kind() {
        const RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        const PSS: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
        const EC: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
        const SECP256K1: &[u8] = &[6, 5, 0x2b, 0x81, 4, 0, 10];
        let short =
            sequence(&[&[2, 1, 0], &der(2, &[&[0], &[0xff; 128][..]].concat()), &[2, 1, 3]]);
        let scalar = der(4, &[1; 32]);
        let sec1 = |curve: &[u8]| sequence(&[&[2, 1, 1], &scalar, &der(0xa0, curve)]);
        let explicit = der(0x30, &[2, 1, 1]);
        for (bytes, says) in [
            (short.clone(), "RSA of 1024 bits"),
            (pkcs8(0, RSA, &short, &[]), "RSA of 1024 bits"),
            (pkcs8(0, PSS, &short, &[]), "RSA of 1024 bits"),
            (pkcs8(0, &[EC, SECP256K1].concat(), &sec1(SECP256K1), &[]), "on the curve secp256k1"),
            (sec1(SECP256K1), "on the curve secp256k1"),
            (sec1(&[6, 5, 0x2b, 0x81, 4, 0, 26]), "on the curve sect233k1"),
            (pkcs8(0, &[EC, &explicit].concat(), &sec1(&explicit), &[]), "param_enc named_curve"),
            (sec1(&explicit), "param_enc named_curve"),
            (pkcs8(0, &[6, 3, 0x2b, 0x65, 0x71], &der(4, &[1; 57]), &[]), "of the kind Ed448"),
            (pkcs8(0, &[6, 3, 0x2b, 0x65, 0x6e], &der(4, &[1; 32]), &[]), "of the kind X25519"),
            (vec![0x30, 0], "damaged"),
        ] {
            for labelled in labelled(&bytes) {
                let fault = kind_of(&labelled).unwrap_err().to_string();
                assert!(fault.contains(says), "{says}: {fault}");
            }
        }
    }
}
