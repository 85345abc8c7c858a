//! Helpers for certificates: their names as texts that a log may contain, and the test whether one issued another.

use std::time::SystemTime;

use rustls::{crypto::aws_lc_rs, pki_types::CertificateDer};
use x509_parser::{
    asn1_rs::{Any, Tag, ToDer as _},
    prelude::{FromDer as _, Validity, X509Certificate},
    x509::{AlgorithmIdentifier, AttributeTypeAndValue, X509Name},
};

/// The longest text of a subject: enough to recognise a certificate by, too short to flood a log.
const SUBJECT: usize = 120;

/// Parses a certificate; `None` if the bytes are not an X.509 certificate.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    rest.is_empty().then_some(certificate)
}

/// Returns a certificate's name for people: `certificate 2 (CN=Issuing CA 3, O=Example)`. Numbers count from 1.
pub(super) fn named(number: usize, der: &CertificateDer<'_>) -> String {
    match parse(der) {
        Some(certificate) => format!("certificate {number} ({})", subject(&certificate)),
        None => format!("certificate {number}"),
    }
}

/// Returns the subject of a certificate as text, escaped and cut.
pub(super) fn subject(certificate: &X509Certificate<'_>) -> String {
    name_text(certificate.subject())
}

/// Returns a name as text, escaped and cut, as another party wrote it.
pub(super) fn name_text(name: &X509Name<'_>) -> String {
    let text = name.to_string();
    match printable(&text, SUBJECT) {
        text if text.is_empty() => "no subject".into(),
        text => text,
    }
}

/// Escapes and cuts a text that another party wrote, so that terminals and logs take it for text alone. Letters and digits of
/// every script stay, and apostrophes, which names of companies have.
pub(super) fn printable(text: &str, longest: usize) -> String {
    let plain = |c: char| c == '\'' || c.is_alphanumeric();
    let shown = |c: char| if plain(c) { c.to_string() } else { c.escape_default().to_string() };
    text.chars().take(longest).map(shown).collect()
}

/// True if a certificate is valid at `now` (RFC 5280 section 4.1.2.5).
pub(super) fn is_valid(validity: &Validity, now: SystemTime) -> bool {
    let now = seconds(now);
    (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
}

/// Returns a point in time as whole seconds since 1970; 0 for an earlier one.
pub(super) fn seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// True if `issuer` may have issued `certificate`: the names are the same, and the signature is that of the issuer's
/// key, if its algorithm can be verified here.
pub(super) fn is_issuer(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    same_name(issuer.subject(), certificate.issuer())
        && signed_by(certificate, issuer).unwrap_or(true)
}

/// Verifies a signature; `None` if its algorithm cannot be verified here.
fn signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> Option<bool> {
    let key = issuer.public_key();
    let (made, meant) = (encoded(&certificate.signature_algorithm)?, encoded(&key.algorithm)?);
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let mut fitting = algorithms
        .all
        .iter()
        .filter(|algorithm| {
            *algorithm.signature_alg_id() == *made && *algorithm.public_key_alg_id() == *meant
        })
        .peekable();
    fitting.peek()?;
    let (message, signature) = (&certificate.tbs_certificate, &certificate.signature_value.data);
    Some(fitting.any(|algorithm| {
        algorithm
            .verify_signature(&key.subject_public_key.data, message.as_ref(), signature)
            .is_ok()
    }))
}

/// Returns the content of an algorithm's identifier, as rustls compares it; `None` if it cannot be encoded.
fn encoded(algorithm: &AlgorithmIdentifier<'_>) -> Option<Vec<u8>> {
    let mut der = algorithm.algorithm.to_der_vec().ok()?;
    if let Some(parameters) = &algorithm.parameters {
        der.extend(parameters.to_der_vec().ok()?);
    }
    Some(der)
}

/// True if two names are the same by RFC 5280 section 7.1: the types of their strings, upper and lower case and the
/// number of blanks do not count. Everything else in them is compared by its bytes.
pub(super) fn same_name(a: &X509Name<'_>, b: &X509Name<'_>) -> bool {
    a.as_raw() == b.as_raw() || canonical(a) == canonical(b)
}

/// Returns a name in the single spelling by which names are compared.
pub(super) fn canonical(name: &X509Name<'_>) -> Vec<Vec<(String, Vec<u8>)>> {
    let canonical = |attribute: &AttributeTypeAndValue<'_>| {
        (attribute.attr_type().to_id_string(), spelt(attribute.attr_value()))
    };
    name.iter_rdn()
        .map(|rdn| {
            let mut set: Vec<_> = rdn.iter().map(canonical).collect();
            set.sort();
            set
        })
        .collect()
}

/// Returns a value of a name without its string type, in lower case, with single blanks.
fn spelt(value: &Any<'_>) -> Vec<u8> {
    let units = |size: usize| {
        value
            .data
            .chunks(size)
            .map(|unit| unit.iter().fold(0, |unit, byte| unit << 8 | u32::from(*byte)))
    };
    let text: Option<String> = match value.tag() {
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::VisibleString
        | Tag::NumericString => str::from_utf8(value.data).ok().map(Into::into),
        Tag::T61String => Some(value.data.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => units(2).map(char::from_u32).collect(),
        Tag::UniversalString => units(4).map(char::from_u32).collect(),
        _ => None,
    };
    match text {
        Some(text) => {
            text.split_ascii_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase().into()
        }
        // The tag is included: other types are never equal to a string.
        None => [&[0][..], &value.tag().0.to_be_bytes(), value.data].concat(),
    }
}

/// True unless a certificate has a keyUsage without keyCertSign (RFC 5280 section 4.2.1.3), or one that cannot be read.
pub(super) fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    match certificate.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        // A keyUsage that cannot be read allows nothing.
        Err(_) => false,
    }
}

/// Returns the content of a DER value, without tag and length; `None` if the bytes are not DER.
pub(super) fn content(der: &[u8]) -> Option<&[u8]> {
    let (_, value) = Any::from_der(der).ok()?;
    Some(value.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_14_text_of_others_is_legible_and_never_more_than_text() {
        for (text, shown) in [
            ("C=US, O=Let's Encrypt, CN=R11", "C=US, O=Let's Encrypt, CN=R11"),
            ("O=Müller GmbH, CN=日本", "O=Müller GmbH, CN=日本"),
            ("a\nb\u{1b}[2J\u{202e}c\"\\", "a\\nb\\u{1b}[2J\\u{202e}c\\\"\\\\"),
        ] {
            assert_eq!(printable(text, 100), shown);
        }
        assert_eq!(printable("abc", 2), "ab");
    }
}
