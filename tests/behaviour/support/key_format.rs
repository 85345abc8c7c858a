//! The formats of a private key in a PEM file. rcgen writes PKCS#8 alone; the others are cut out of that.

/// The format of a private key in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFormat {
    /// PKCS#8: `PRIVATE KEY`, RFC 5958.
    Pkcs8,
    /// PKCS#1: `RSA PRIVATE KEY`, RFC 8017.
    Pkcs1,
    /// SEC 1: `EC PRIVATE KEY`, RFC 5915.
    Sec1,
}

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;
const EXPLICIT_0: u8 = 0xa0;

/// Returns a PKCS#8 key in PEM, converted to this format.
pub fn to_pem(pkcs8: &[u8], format: KeyFormat) -> String {
    match format {
        KeyFormat::Pkcs8 => pem("PRIVATE KEY", pkcs8),
        KeyFormat::Pkcs1 => pem("RSA PRIVATE KEY", inner_key(pkcs8).1),
        KeyFormat::Sec1 => pem("EC PRIVATE KEY", &sec1(pkcs8)),
    }
}

/// Returns one PEM section with this label.
pub fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        text += &base64(line);
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

/// Returns the key in SEC 1 with the curve named inside, as `openssl ecparam -genkey` writes it; PKCS#8 names the curve
/// outside.
fn sec1(pkcs8: &[u8]) -> Vec<u8> {
    let (curve, key) = inner_key(pkcs8);
    let (content, _) = element(key, SEQUENCE);
    let version_and_scalar = content.len() - after(after(content)).len();
    let (head, tail) = content.split_at(version_and_scalar);
    let named = encode(EXPLICIT_0, curve);
    let with_curve = if tail.first() == Some(&EXPLICIT_0) { after(tail) } else { tail };
    encode(SEQUENCE, &[head, &named, with_curve].concat())
}

/// Returns two parts of a PKCS#8 key: the algorithm's parameters (NULL for RSA), and the key inside.
fn inner_key(pkcs8: &[u8]) -> (&[u8], &[u8]) {
    let (content, _) = element(pkcs8, SEQUENCE);
    let (algorithm, rest) = element(after(content), SEQUENCE);
    (after(algorithm), element(rest, OCTET_STRING).0)
}

/// Returns the content of the first DER element, which must have this tag, and the bytes that follow the element.
fn element(der: &[u8], tag: u8) -> (&[u8], &[u8]) {
    assert_eq!(der[0], tag, "an unexpected DER element");
    split(der)
}

/// Returns the bytes that follow the first DER element.
fn after(der: &[u8]) -> &[u8] {
    split(der).1
}

fn split(der: &[u8]) -> (&[u8], &[u8]) {
    let (header, length) = match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        long => {
            let bytes = usize::from(long & 0x7f);
            let length = der[2..2 + bytes].iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
            (2 + bytes, length)
        }
    };
    (&der[header..header + length], &der[header + length..])
}

fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("an elliptic curve's key is short");
    let header = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
    [&header, content].concat()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
