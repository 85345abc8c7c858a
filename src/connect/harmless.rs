//! Puts spaces for the control bytes in a response's field values that hyper refuses; `HAProxy` and nginx pass
//! the bytes themselves.
//!
//! RFC 9110 section 5.5 lets a recipient keep them "within a safe context", which hyper's types are not. NUL, and CR or LF
//! alone, are left to hyper, which refuses them; so is whatever is wrong with a name, and every field that frames the
//! message or ends at this hop: it means what it says or nothing.

use crate::head::Blank;

/// Fields in which nothing is mended.
const STRICT: &[&[u8]] = &[
    b"connection",
    b"content-length",
    b"keep-alive",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

/// Cleans a head up to its end, however it is cut; `blank` says how the bytes before these end, the answer how these do.
/// A value is cleaned where its line begins in the same piece.
pub(super) fn clean(bytes: &mut [u8], blank: Blank) -> Blank {
    let end = blank.end_in(bytes);
    let after = if end.is_some() { Blank::Whole } else { blank.behind(bytes) };
    let length = end.unwrap_or(bytes.len());
    let head = &mut bytes[..length];
    // Without a branch for each byte, so that the compiler looks at many at once.
    if head.iter().fold(false, |odd, byte| odd | is_odd(*byte)) {
        clean_lines(head, blank);
    }
    after
}

/// True for a control byte that means nothing in a head.
fn is_odd(byte: u8) -> bool {
    byte == 0x7f || byte < b' ' && !matches!(byte, 0 | b'\t' | b'\r' | b'\n')
}

#[cold]
fn clean_lines(head: &mut [u8], blank: Blank) {
    // The first piece is the status line, or the end of a line whose name is not known, unless a line has just ended.
    let begun = usize::from(blank != Blank::Lf);
    for line in head.split_mut(|byte| *byte == b'\n').skip(begun) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at_mut(colon);
        if STRICT.iter().any(|strict| name.eq_ignore_ascii_case(strict)) {
            continue;
        }
        value.iter_mut().filter(|byte| is_odd(**byte)).for_each(|byte| *byte = b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behind the first digit of the status, as the meter hands it over, in pieces of this size.
    fn cleaned(bytes: &[u8], size: usize) -> (Vec<u8>, Blank) {
        let mut bytes = bytes.to_vec();
        let mut blank = Blank::No;
        for piece in bytes.chunks_mut(size) {
            if blank != Blank::Whole {
                blank = clean(piece, blank);
            }
        }
        (bytes, blank)
    }

    fn text(bytes: &[u8]) -> String {
        cleaned(bytes, 1000).0.escape_ascii().to_string()
    }

    #[test]
    fn fault_16_control_bytes_in_a_value_become_spaces_and_all_else_stays() {
        for (field, clean) in [
            ("x-a: 1\x01\x1f2\x7f", "x-a: 1  2 "),
            ("x-a: \t\u{e4}\"2", "x-a: \t\u{e4}\"2"),
            ("x-a: 1\x002", "x-a: 1\x002"),
            ("x-a: 1\r2", "x-a: 1\r2"),
            ("x\x01a: 1", "x\x01a: 1"),
            ("Content-Length: 5\x01", "Content-Length: 5\x01"),
            ("Transfer-Encoding: chunked\x7f", "Transfer-Encoding: chunked\x7f"),
            ("no\x01colon", "no\x01colon"),
        ] {
            let head =
                |field: &str| format!("00 O\x01K\r\nx: y\r\n{field}\r\nz: \r\n\r\n\x01x: \x01");
            assert_eq!(
                text(head(field).as_bytes()),
                head(clean).as_bytes().escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn fault_16_content_is_never_touched_however_the_head_is_cut() {
        for end in ["\r\n\r\n", "\n\n", "\n\r\n"] {
            let head = format!("00 OK\r\nx: y{end}");
            let content = b"a: \x01\r\n\r\nb: \x02\n\n\x7f";
            let bytes = [head.as_bytes(), content].concat();
            for size in 1..=bytes.len() {
                let (cleaned, blank) = cleaned(&bytes, size);
                assert_eq!(cleaned, bytes, "{size}");
                assert_eq!(blank, Blank::Whole, "{size}");
            }
        }
    }
}
