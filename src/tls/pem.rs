//! A reader of PEM. Every certificate and key that the program reads passes through it, and no part of a text is
//! ignored without notice: a line that looks like the begin or end of a section and is none makes it refuse the text.
//!
//! Variants with only one possible meaning are read: CRLF and CR line ends, a byte order mark, indentation, `X509
//! CERTIFICATE`, and two files that were joined without a line break between them. Text between sections is comment.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// The sections of a PEM text that the program can use, in their order.
#[derive(Debug, Default)]
pub struct Contents {
    /// The certificates, each with the line that it begins in.
    pub certificates: Vec<(CertificateDer<'static>, usize)>,
    /// The private keys, each with the line that it begins in.
    pub keys: Vec<(PrivateKeyDer<'static>, usize)>,
}

/// The reason why a PEM text is refused. No text quotes the content, which may be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {flaw}")]
pub struct PemError {
    /// The line, counted from 1.
    pub line: usize,
    /// The fault in it, with the remedy.
    pub flaw: Flaw,
}

/// A fault in a PEM text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The text is UTF-16, as some editors and shells on Windows write it.
    #[error(
        "this is UTF-16, and PEM is ASCII (iconv -f UTF-16 -t ASCII FILE > NEW, before files are joined)"
    )]
    Utf16,
    /// The content is DER without PEM around it.
    #[error(
        "this is binary, not PEM (before files are joined, a certificate: openssl x509 -inform DER -in FILE -out NEW; a key: openssl pkey \
         -inform DER -in FILE -out NEW; PKCS#12: openssl pkcs12 -in FILE -nodes -out NEW)"
    )]
    Binary,
    /// A line resembles a BEGIN or END line.
    #[error(
        "this looks like a BEGIN or END line and is none (five hyphens, BEGIN or END, the label, five hyphens, and nothing \
         else in the line)"
    )]
    NoMarker,
    /// The content of a section is outside of a section.
    #[error(
        "base64 without the BEGIN line before it (the file lacks that line and perhaps the END line; copy the file once more, \
         whole)"
    )]
    Bare,
    /// The text is a PEM text in base64, as Kubernetes shows Secrets.
    #[error("this is a PEM text in base64 once more (base64 -d < FILE > NEW)")]
    Twice,
    /// A section has no end.
    #[error(
        "the section that begins here has no END line (the file is cut short, or that line is damaged)"
    )]
    NoEnd,
    /// An END line is outside of a section.
    #[error(
        "an END line without its BEGIN line (the file lacks its beginning, or that line is damaged)"
    )]
    NoBegin,
    /// An END line has another label than the section that it ends.
    #[error(
        "this END line has another label than the BEGIN line before it (a part is missing between them)"
    )]
    OtherEnd,
    /// The content of a section is not base64.
    #[error("this is not base64, between a BEGIN and an END line (copy the file once more, whole)")]
    NoBase64,
    /// The content of a section ends too early.
    #[error("the section that begins here is empty or cut short (copy the file once more, whole)")]
    CutShort,
    /// A private key is encrypted.
    #[error(
        "the private key is encrypted, and a sidecar has nobody to ask for the pass phrase (write it decrypted: openssl pkey \
         -in ENCRYPTED -out KEY)"
    )]
    EncryptedKey,
    /// The private key is in the format of `OpenSSH`.
    #[error(
        "a private key in OpenSSH's own format (ssh-keygen -p -m PKCS8 -N '' -f KEY converts it in place)"
    )]
    OpenSsh,
    /// The key is a DSA key.
    #[error(
        "a DSA key, which TLS has no use for any more (have the certificate issued for an ECDSA or RSA key)"
    )]
    Dsa,
    /// The certificate is in a form with settings that only OpenSSL reads.
    #[error(
        "a TRUSTED CERTIFICATE carries settings that only OpenSSL follows (write it without them, one certificate at a time: \
         openssl x509 -in FILE -out NEW)"
    )]
    Trusted,
    /// The certificates are in a PKCS#7 envelope.
    #[error("certificates in a PKCS#7 envelope (openssl pkcs7 -print_certs -in FILE -out NEW)")]
    Pkcs7,
    /// The section is a request for a certificate.
    #[error(
        "a certificate request, not a certificate (give the certificate that the CA made of it)"
    )]
    Request,
    /// The section is a list of revoked certificates.
    #[error(
        "a list of revoked certificates (CRL), which this version does not follow (take it out of the file)"
    )]
    Crl,
    /// The section is a public key.
    #[error(
        "a public key alone, which is of no use here (take it out, or give the certificate or the private key)"
    )]
    PublicKey,
    /// The section has a label that no other case covers.
    #[error(
        "a section whose label is not known here (take it out; CERTIFICATE and PRIVATE KEY are known)"
    )]
    Unknown,
}

/// The kinds of sections that are read.
enum SectionKind {
    Certificate,
    Key,
    /// Parameters, which a key holds too, or which only servers need.
    Parameters,
}

/// A line that begins or ends a section.
#[derive(Clone, Copy)]
enum Marker<'a> {
    Begin(&'a str),
    End(&'a str),
}

/// A section whose end has not come yet.
struct OpenSection<'a> {
    label: &'a str,
    kind: SectionKind,
    line: usize,
    base64: Vec<u8>,
}

/// Reads all sections of a PEM text. Fails at the first line that cannot be read or is of no use here; a text without
/// sections is not a fault.
pub fn read(text: &[u8]) -> Result<Contents, PemError> {
    if let Some(error) = no_text(text) {
        return Err(error);
    }
    let mut reader = PemReader::default();
    for (line, number) in lines(text).zip(1..) {
        reader.take(line, number)?;
    }
    match reader.open {
        Some(open) => Err(PemError { line: open.line, flaw: Flaw::NoEnd }),
        None => Ok(reader.contents),
    }
}

/// A PEM text as far as its lines were taken.
#[derive(Default)]
struct PemReader<'a> {
    contents: Contents,
    open: Option<OpenSection<'a>>,
}

impl<'a> PemReader<'a> {
    /// Takes the line with this number, as content of the open section, as comment, or as one or two markers. Fails
    /// with the line if that is none of the three.
    fn take(&mut self, line: &'a [u8], number: usize) -> Result<(), PemError> {
        let refused = |flaw| PemError { line: number, flaw };
        let markers = markers(line).map_err(refused)?;
        if let [None, None] = markers {
            self.take_content(line).map_err(refused)?;
        }
        markers.into_iter().flatten().try_for_each(|marker| self.take_marker(marker, number))
    }

    /// Adds a line without a marker to the open section; outside of sections it is comment. Fails if it is not base64
    /// inside, or is lost content outside.
    fn take_content(&mut self, line: &[u8]) -> Result<(), Flaw> {
        match &mut self.open {
            Some(open) if line.iter().all(|byte| is_base64(*byte)) => {
                open.base64.extend(line);
                Ok(())
            }
            Some(_) if is_encryption_header(line) => Err(Flaw::EncryptedKey),
            Some(_) => Err(Flaw::NoBase64),
            None => lost_content(line).map_or(Ok(()), Err),
        }
    }

    /// Takes a marker in the line with this number: opens a section, or ends the open one and keeps its content. Fails
    /// if the marker does not fit, or if a section of this label is of no use here.
    fn take_marker(&mut self, marker: Marker<'a>, number: usize) -> Result<(), PemError> {
        let refused = |flaw| PemError { line: number, flaw };
        match (marker, self.open.take()) {
            (Marker::Begin(label), None) => {
                let kind = kind(label).map_err(refused)?;
                self.open = Some(OpenSection { label, kind, line: number, base64: Vec::new() });
                Ok(())
            }
            (Marker::Begin(_), Some(open)) => Err(PemError { line: open.line, flaw: Flaw::NoEnd }),
            (Marker::End(_), None) => Err(refused(Flaw::NoBegin)),
            (Marker::End(label), Some(open)) if label != open.label => Err(refused(Flaw::OtherEnd)),
            (Marker::End(_), Some(open)) => open.decode(&mut self.contents),
        }
    }
}

impl OpenSection<'_> {
    /// Decodes a finished section and adds it to `contents`, parameters excepted. Fails if it is empty or cut short.
    /// rustls' decoder reads a canonical text of the section: for keys in constant time.
    fn decode(self, contents: &mut Contents) -> Result<(), PemError> {
        let Self { label, kind, line, base64 } = self;
        let label = if matches!(kind, SectionKind::Certificate) { "CERTIFICATE" } else { label };
        let framed = |word: &str| format!("-----{word} {label}-----\n").into_bytes();
        let text = [framed("BEGIN"), base64, b"\n".to_vec(), framed("END")].concat();
        let cut_short = |_| PemError { line, flaw: Flaw::CutShort };
        match kind {
            SectionKind::Certificate => {
                let certificate = CertificateDer::from_pem_slice(&text).map_err(cut_short)?;
                if certificate.is_empty() {
                    return Err(PemError { line, flaw: Flaw::CutShort });
                }
                contents.certificates.push((certificate, line));
            }
            SectionKind::Key => {
                let key = PrivateKeyDer::from_pem_slice(&text).map_err(cut_short)?;
                contents.keys.push((key, line));
            }
            SectionKind::Parameters => {}
        }
        Ok(())
    }
}

/// Returns the fault of a content that is UTF-16 or DER, on any line, as files of different encodings may be joined. No
/// text contains a byte 0, and all UTF-16 and DER does. `None` if it may be a text.
fn no_text(text: &[u8]) -> Option<PemError> {
    let first_line = |flaw| Some(PemError { line: 1, flaw });
    match text {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return first_line(Flaw::Utf16),
        // The tag of a DER sequence whose length takes more than a byte: no certificate or key is shorter.
        [0x30, 0x80..=0x84, ..] => return first_line(Flaw::Binary),
        _ => {}
    }
    let zero = text.iter().position(|byte| *byte == 0)?;
    let is_ascii = |unit: &[u8]| unit[0] == 0 && unit.get(1) != Some(&0);
    let is_utf16 = text[zero..].chunks(2).take(4).all(is_ascii);
    let line = lines(&text[..zero]).count();
    Some(PemError { line, flaw: if is_utf16 { Flaw::Utf16 } else { Flaw::Binary } })
}

/// Returns the fault of a line outside of sections that contains a section's content, or a whole PEM text, in base64;
/// `None` for a comment.
fn lost_content(line: &[u8]) -> Option<Flaw> {
    /// The word `-----BEGIN` in base64, behind a number of bytes that is a multiple of three, one more, and two more.
    const TWICE: [&[u8]; 3] = [b"LS0tLS1CRUdJTi", b"0tLS0tQkVHSU4", b"tLS0tLUJFR0lO"];
    /// The first bytes of DER in base64: long sequences, and short keys for ECDSA (SEC1) and Ed25519 (PKCS#8).
    const DER: [&[u8]; 6] = [b"MIA", b"MIG", b"MIH", b"MII", b"MHcCAQ", b"MC4CAQ"];
    /// The shortest run of digits that counts; a shorter one may be a word in a comment.
    const SHORTEST: usize = 40;
    let is_twice = |run: &[u8]| TWICE.iter().any(|begin| contains(run, begin));
    let is_der = |run: &[u8]| run.len() >= SHORTEST && DER.iter().any(|der| run.starts_with(der));
    line.split(|byte| !is_base64(*byte) || byte.is_ascii_whitespace()).find_map(|run| {
        if is_twice(run) { Some(Flaw::Twice) } else { is_der(run).then_some(Flaw::Bare) }
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Splits a text at LF, CRLF or CR; each line is without blanks and byte order marks at its ends.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (line, after) = text.split_at(end.unwrap_or(text.len()));
        rest = match after {
            [b'\r', b'\n', after @ ..] | [_, after @ ..] => Some(after),
            [] => None,
        };
        Some(trimmed(line))
    })
}

fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii();
    line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line).trim_ascii()
}

/// Returns the markers of a line: none, one, or an END with the BEGIN of a file that was joined to it. Fails if the
/// line only resembles a marker.
fn markers(line: &[u8]) -> Result<[Option<Marker<'_>>; 2], Flaw> {
    const JOINED: &str = "----------BEGIN ";
    const HYPHENS: usize = 5;
    let Ok(text) = str::from_utf8(line) else {
        let lossy = String::from_utf8_lossy(line);
        return if looks_like_marker(&lossy) { Err(Flaw::NoMarker) } else { Ok([None; 2]) };
    };
    let (first, second) = match text.find(JOINED).filter(|_| text.starts_with("-----END ")) {
        Some(at) => {
            let (end, begin) = text.split_at(at + HYPHENS);
            (end, Some(begin))
        }
        None => (text, None),
    };
    match (marker(first), second.map(marker)) {
        (Some(first), None) => Ok([Some(first), None]),
        (Some(first), Some(Some(second))) => Ok([Some(first), Some(second)]),
        _ if looks_like_marker(text) => Err(Flaw::NoMarker),
        _ => Ok([None; 2]),
    }
}

/// Reads a line that is a marker and nothing else; `None` for any other line.
fn marker(line: &str) -> Option<Marker<'_>> {
    let inner = line.strip_prefix("-----")?.strip_suffix("-----")?;
    let (word, label) = inner.split_once(' ')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '#' | '.' | '/' | '_');
    if label.trim() != label || label.is_empty() || !label.chars().all(plain) {
        return None;
    }
    match word {
        "BEGIN" => Some(Marker::Begin(label)),
        "END" => Some(Marker::End(label)),
        _ => None,
    }
}

/// The beginnings of labels that people's files have.
const LABELS: [&str; 9] = [
    "CERTIFICATE",
    "TRUSTED CERTIFICATE",
    "X509 C",
    "PRIVATE KEY",
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "PKCS",
    "PUBLIC KEY",
];

/// True if a line resembles a marker: BEGIN or END behind at least four hyphens or dashes, or before a known label, or
/// between rows of another sign.
fn looks_like_marker(line: &str) -> bool {
    let line = line.to_uppercase();
    ["BEGIN", "END"].into_iter().any(|word| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].trim_end();
            let after = &line[at + word.len()..];
            let dashes = before.chars().rev().take_while(|c| is_dash(*c)).count();
            let signs = before.chars().rev().take_while(|c| is_sign(*c)).count();
            let signs_after = line.chars().rev().take_while(|c| is_sign(*c)).count();
            let label = after.trim_start_matches(|c| is_sign(c) || c == ' ');
            let known = LABELS.iter().any(|known| label.starts_with(known));
            let whole_word = !after.starts_with(char::is_alphanumeric);
            dashes >= 4 && whole_word
                || signs >= 4 && signs_after >= 4 && whole_word
                || dashes > 0 && known
                || signs >= 2 && known
                || before.is_empty() && LABELS.contains(&label)
        })
    })
}

/// True for the hyphen and for the characters that word processors replace it by.
fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ad}')
}

/// True for a character that is not part of a word.
fn is_sign(c: char) -> bool {
    !c.is_alphanumeric() && !c.is_whitespace()
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b' ' | b'\t')
}

/// True for the header line by which PKCS#1 and SEC1 keys say that they are encrypted (RFC 1421 section 4.6.1.1).
fn is_encryption_header(line: &[u8]) -> bool {
    line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED")
}

/// Returns the kind of section that a label means. Fails with the remedy if such a section is of no use here.
fn kind(label: &str) -> Result<SectionKind, Flaw> {
    match label {
        "CERTIFICATE" | "X509 CERTIFICATE" => Ok(SectionKind::Certificate),
        "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => Ok(SectionKind::Key),
        "EC PARAMETERS" | "DH PARAMETERS" | "X9.42 DH PARAMETERS" => Ok(SectionKind::Parameters),
        "ENCRYPTED PRIVATE KEY" => Err(Flaw::EncryptedKey),
        "OPENSSH PRIVATE KEY" => Err(Flaw::OpenSsh),
        "DSA PRIVATE KEY" | "DSA PARAMETERS" => Err(Flaw::Dsa),
        "TRUSTED CERTIFICATE" => Err(Flaw::Trusted),
        "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS" => Err(Flaw::Pkcs7),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Err(Flaw::Request),
        "X509 CRL" => Err(Flaw::Crl),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Err(Flaw::PublicKey),
        _ => Err(Flaw::Unknown),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed test is what it is for
pub(super) mod tests {
    use super::*;

    fn key() -> rcgen::KeyPair {
        rcgen::KeyPair::generate().unwrap()
    }

    fn certificate(key: &rcgen::KeyPair) -> String {
        rcgen::CertificateParams::new(["a.example".into()]).unwrap().self_signed(key).unwrap().pem()
    }

    /// Returns the numbers of certificates and keys in a text.
    fn counts(text: &str) -> (usize, usize) {
        let contents = read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        (contents.certificates.len(), contents.keys.len())
    }

    fn refusal(text: &[u8]) -> (usize, Flaw) {
        let error = read(text).expect_err("it is refused");
        (error.line, error.flaw)
    }

    #[test]
    fn fault_05_text_with_one_possible_meaning_is_read_whole() {
        let (a, b) = (certificate(&key()), certificate(&key()));
        let joined = format!("{}{b}", a.trim_end());
        assert!(joined.contains("-----END CERTIFICATE----------BEGIN CERTIFICATE-----"));
        let indented = format!("    {}", format!("{a}{b}").replace('\n', "\t\n    "));
        for text in [
            format!("{a}{b}"),
            joined,
            indented,
            format!("\u{feff}{a}\u{feff}{b}"),
            format!("{a}{b}").replace('\n', "\r\n"),
            format!("{a}{b}").replace('\n', "\r"),
            format!("{a}{b}").replace('\n', "\n\n"),
            format!("{a}{b}").replace("CERTIFICATE-", "#").replace(" #", " X509 CERTIFICATE-"),
            format!("subject=CN = a\nissuer=CN = The Begin and End of all\n{a}# the end\n\n{b}")
                .trim_end()
                .into(),
        ] {
            assert_eq!(counts(&text), (2, 0), "{text}");
            let read = read(text.as_bytes()).unwrap();
            assert_ne!(read.certificates[0].0, read.certificates[1].0);
        }
    }

    #[test]
    fn fault_05_a_key_may_stand_between_certificates_and_behind_its_parameters() {
        let key = key();
        let (certificate, secret) = (certificate(&key), key.serialize_pem());
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let text =
            format!("{parameters}{}{}{certificate}", secret.trim_end(), certificate.trim_end());
        assert_eq!(counts(&text), (2, 1));
    }

    #[test]
    fn fault_05_a_line_that_resembles_a_marker_and_is_none_is_refused_by_its_number() {
        let (a, b) = (certificate(&key()), certificate(&key()));
        let lines = a.lines().count();
        for damaged in [
            "----BEGIN CERTIFICATE-----",
            "-----BEGIN CERTIFICATE----",
            "-----BEGIN CERTIFICATE",
            "-----BEGINCERTIFICATE-----",
            "-----begin certificate-----",
            "----- BEGIN CERTIFICATE -----",
            "\u{2014}\u{2014}BEGIN CERTIFICATE\u{2014}\u{2014}",
            "\u{a0}-----BEGIN CERTIFICATE-----",
            "# -----BEGIN CERTIFICATE-----",
            "BEGIN CERTIFICATE",
            "-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE----- MIIB -----END CERTIFICATE-----",
            "x-----END CERTIFICATE----------BEGIN CERTIFICATE-----",
            "=====BEGIN CERTIFICATE=====",
            "***** BEGIN CERTIFICATE *****",
            "_____BEGIN_CERTIFICATE_____",
            "~~~~~BEGIN THING~~~~~",
            "== begin certificate ==",
        ] {
            let text = format!("{a}{}", b.replacen("-----BEGIN CERTIFICATE-----", damaged, 1));
            assert_eq!(refusal(text.as_bytes()), (lines + 1, Flaw::NoMarker), "{text}");
        }
    }

    #[test]
    fn fault_05_a_section_that_lacks_a_part_is_refused_where_it_begins_or_ends() {
        let (a, b) = (certificate(&key()), key().serialize_pem());
        let (end, begin) = ("-----END CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\n");
        let lines = a.lines().count();
        assert_eq!(refusal(a.replace(end, "").as_bytes()), (1, Flaw::NoEnd));
        assert_eq!(refusal(format!("{}{a}", a.replace(end, "")).as_bytes()), (1, Flaw::NoEnd));
        assert_eq!(
            refusal(format!("{a}{}", a.replace(begin, "")).as_bytes()),
            (lines + 1, Flaw::Bare)
        );
        let tail: Vec<_> = a.lines().skip(2).collect();
        assert_eq!(
            refusal(format!("{a}{}", tail.join("\n")).as_bytes()),
            (2 * lines - 2, Flaw::NoBegin)
        );
        let other = b.replace("END PRIVATE KEY", "END CERTIFICATE");
        assert_eq!(refusal(other.as_bytes()), (b.lines().count(), Flaw::OtherEnd));
        assert_eq!(refusal(a.replacen("MII", "M?I", 1).as_bytes()), (2, Flaw::NoBase64));
        assert_eq!(refusal(format!("{begin}{end}").as_bytes()), (1, Flaw::CutShort));
        assert_eq!(refusal(format!("{begin}MIIBQ\n{end}").as_bytes()), (1, Flaw::CutShort));
    }

    #[test]
    fn fault_05_sections_that_nothing_here_uses_are_refused_each_with_its_remedy() {
        let a = certificate(&key());
        for (label, remedy) in [
            ("TRUSTED CERTIFICATE", "openssl x509"),
            ("PKCS7", "openssl pkcs7 -print_certs"),
            ("CMS", "openssl pkcs7 -print_certs"),
            ("CERTIFICATE REQUEST", "the CA made of it"),
            ("NEW CERTIFICATE REQUEST", "the CA made of it"),
            ("X509 CRL", "CRL"),
            ("ENCRYPTED PRIVATE KEY", "openssl pkey"),
            ("OPENSSH PRIVATE KEY", "ssh-keygen"),
            ("DSA PRIVATE KEY", "ECDSA"),
            ("PUBLIC KEY", "public key alone"),
            ("PGP MESSAGE", "label"),
        ] {
            let text = format!("{a}\n{}", a.replace("CERTIFICATE-", &format!("{label}-")));
            let error = read(text.as_bytes()).expect_err(label).to_string();
            let line = format!("line {}: ", a.lines().count() + 2);
            assert!(error.starts_with(&line) && error.contains(remedy), "{label}: {error}");
        }
        let legacy = key().serialize_pem().replacen(
            '\n',
            "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n",
            1,
        );
        assert_eq!(refusal(legacy.as_bytes()), (2, Flaw::EncryptedKey));
    }

    /// Each kind of damage to one byte of a file, on each line, loses no certificate: both are read, or the file is
    /// refused.
    #[test]
    fn fault_05_no_damage_to_one_byte_loses_a_certificate_in_silence() {
        let whole = format!("{}{}", certificate(&key()), certificate(&key())).into_bytes();
        for at in 0..whole.len() {
            let (before, after) = (&whole[..at], &whole[at + 1..]);
            for damage in [&b""[..], b"x", b"-", b"\n", b" ", b"\xff", &[whole[at], whole[at]]] {
                let text = [before, damage, after].concat();
                let count = read(&text).map(|contents| contents.certificates.len());
                assert!(count.is_err() || count == Ok(2), "{at} {damage:?} {count:?}");
            }
        }
    }

    #[test]
    fn fault_05_text_that_is_not_ascii_is_reported_as_such() {
        let a = certificate(&key());
        let little: Vec<u8> =
            format!("\u{feff}{a}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> =
            format!("\u{feff}{a}").encode_utf16().flat_map(u16::to_be_bytes).collect();
        for utf16 in [&little[..], &big, &little[2..], &big[2..]] {
            assert_eq!(refusal(utf16), (1, Flaw::Utf16));
        }
        let der = read(a.as_bytes()).unwrap().certificates.remove(0).0;
        assert_eq!(refusal(&der), (1, Flaw::Binary));
        assert_eq!(counts(""), (0, 0));
        let latin_1 = [b"# caf\xe9\n", a.as_bytes()].concat();
        assert_eq!(read(&latin_1).unwrap().certificates.len(), 1);
    }

    pub(in crate::tls) fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digits = bytes.chunks(3).flat_map(|chunk| {
            let group = chunk.iter().fold(0, |group, byte| group << 8 | usize::from(*byte));
            let group = group << (8 * (3 - chunk.len()));
            (0..=3).map(move |place| {
                if place <= chunk.len() {
                    char::from(DIGITS[group >> (6 * (3 - place)) & 63])
                } else {
                    '='
                }
            })
        });
        digits.collect()
    }

    /// Each form in which a second file may be written, behind a first in PEM: nothing of it is ignored without notice.
    #[test]
    fn fault_05_a_file_of_another_encoding_behind_a_pem_file_is_refused_by_its_line() {
        let key = key();
        let (a, b, secret) = (certificate(&key), certificate(&key), key.serialize_pem());
        let utf16 = |text: &str, to: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(to).collect()
        };
        let marked = format!("\u{feff}{b}");
        let der = |pem: &str| -> Vec<u8> {
            let contents = read(pem.as_bytes()).unwrap();
            let certificate = contents.certificates.first().map(|(der, _)| der.to_vec());
            certificate.unwrap_or_else(|| contents.keys[0].0.secret_der().to_vec())
        };
        let bare =
            |pem: &str| pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
        let wrapped = |text: &str, width: usize| -> Vec<u8> {
            text.as_bytes().chunks(width).flat_map(|line| [line, b"\n"].concat()).collect()
        };
        let quoted = |text: &str| format!("tls.crt: \"{text}\",\n").into_bytes();
        for (joined, flaw) in [
            (utf16(&b, u16::to_le_bytes), Flaw::Utf16),
            (utf16(&b, u16::to_be_bytes), Flaw::Utf16),
            (utf16(&marked, u16::to_le_bytes), Flaw::Utf16),
            (utf16(&marked, u16::to_be_bytes), Flaw::Utf16),
            (bare(&b).into_bytes(), Flaw::Bare),
            (wrapped(&bare(&b), 64), Flaw::Bare),
            (wrapped(&bare(&secret), 64), Flaw::Bare),
            (quoted(&bare(&b)), Flaw::Bare),
            (base64(b.as_bytes()).into_bytes(), Flaw::Twice),
            (base64(format!("\n{b}").as_bytes()).into_bytes(), Flaw::Twice),
            (base64(format!("#\n{b}").as_bytes()).into_bytes(), Flaw::Twice),
            (wrapped(&base64(b.as_bytes()), 76), Flaw::Twice),
            (quoted(&base64(b.as_bytes())), Flaw::Twice),
        ] {
            let lines = a.lines().count();
            let text = [a.as_bytes(), &joined].concat();
            assert_eq!(refusal(&text), (lines + 1, flaw), "{}", String::from_utf8_lossy(&joined));
            assert_eq!(refusal(&joined), (1, flaw), "{}", String::from_utf8_lossy(&joined));
        }
        for binary in [der(&b), der(&secret)] {
            let (line, flaw) = refusal(&[a.as_bytes(), &binary].concat());
            assert!(line > a.lines().count() && flaw == Flaw::Binary, "{line} {flaw}");
        }
    }

    #[test]
    fn fault_05_fingerprints_and_headings_between_certificates_are_comment() {
        let a = certificate(&key());
        for comment in [
            "SHA1 Fingerprint=2F:2A:08:D9",
            "sha256 d7a7a0fb5d7e2731d771e9484ebcdef71d5f0c3e0a2948782bc83ee0ea699ef4",
            "MIIT, a root",
            "# BEGIN ANSIBLE MANAGED BLOCK",
            "GlobalSign Root CA\n==================",
            "# The end ====",
        ] {
            assert_eq!(counts(&format!("{comment}\n{a}{comment}\n{a}{comment}")), (2, 0));
        }
    }
}
