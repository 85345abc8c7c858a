//! The replacement of control bytes in a response's field values by spaces, as hyper refuses them; `HAProxy` and nginx
//! pass such bytes unchanged.
//!
//! RFC 9110 section 5.5 lets a recipient keep such bytes "within a safe context", which hyper's types are not. NUL, and
//! CR or LF alone, are left for hyper to refuse; so are faults in a name, and all fields that frame the message or end
//! at this hop: those mean exactly what they say.

use crate::head::{EmptyLineMatch, HeadScan};

/// The fields whose values are never changed.
const STRICT: &[&[u8]] = &[
    b"connection",
    b"content-length",
    b"keep-alive",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

/// A place in the lines of a head, kept from one read to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinePlace {
    /// In the status line, or in a value that is not changed.
    Strict,
    /// In a field's name. `like` has a bit for each name of [`STRICT`] that begins as this one does, `length` is the
    /// number of bytes so far.
    Name { like: u8, length: u8 },
    /// In a value whose control bytes are replaced.
    Value,
}

impl LinePlace {
    /// The beginning of a line, before a field's name.
    const START: Self = Self::Name { like: u8::MAX, length: 0 };
    /// A length beyond that of each name in [`STRICT`].
    const LONG: u8 = 0x1f;

    /// Replaces the next byte by a space if that is needed and allowed; returns the place behind it.
    pub(super) fn clean(self, byte: &mut u8) -> Self {
        let line = self.after(*byte);
        if line == Self::Value && is_odd(*byte) {
            *byte = b' ';
        }
        line
    }

    /// Returns the place behind this byte.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (_, b'\n') => Self::START,
            (Self::Name { like, length }, b':') => {
                let is_whole = |name: &[u8]| name.len() == usize::from(length);
                if keep(like, is_whole) == 0 { Self::Value } else { Self::Strict }
            }
            (Self::Name { like, length }, byte) => {
                let goes_on = |name: &[u8]| {
                    name.get(usize::from(length)).is_some_and(|b| byte.eq_ignore_ascii_case(b))
                };
                Self::Name { like: keep(like, goes_on), length: Self::LONG.min(length + 1) }
            }
            (line, _) => line,
        }
    }

    /// Returns the place behind these bytes, of which only the last line counts.
    fn after_all(self, bytes: &[u8]) -> Self {
        let (line, last) = match memchr::memrchr(b'\n', bytes) {
            Some(lf) => (Self::START, &bytes[lf + 1..]),
            None => (self, bytes),
        };
        last.iter().fold(line, |line, byte| line.after(*byte))
    }

    /// Packs the place into a number, to be kept in an atomic.
    pub(super) fn to_bits(self) -> u16 {
        match self {
            Self::Strict => 0,
            Self::Value => 1,
            Self::Name { like, length } => 2 | u16::from(length) << 3 | u16::from(like) << 8,
        }
    }

    /// Unpacks the place from its number.
    pub(super) fn from_bits(bits: u16) -> Self {
        let [like, low] = bits.to_be_bytes();
        match low & 7 {
            0 => Self::Strict,
            1 => Self::Value,
            _ => Self::Name { like, length: low >> 3 },
        }
    }
}

/// Returns those bits of `like` whose names in [`STRICT`] satisfy the test.
fn keep(like: u8, test: impl Fn(&[u8]) -> bool) -> u8 {
    let passes = |(index, name): (usize, &&[u8])| u8::from(test(name)) << index;
    like & STRICT.iter().enumerate().map(passes).sum::<u8>()
}

/// Cleans a head up to its end, however it is cut into pieces: replaces its odd bytes in `bytes` by spaces. `blank` and
/// `line` say how the bytes before these end; the result says how these end. Bytes behind the head are left as they
/// are.
pub(super) fn clean(
    bytes: &mut [u8],
    blank: EmptyLineMatch,
    line: LinePlace,
) -> (EmptyLineMatch, LinePlace) {
    let HeadScan { end, controls } = blank.scan(bytes);
    let length = end.unwrap_or(bytes.len());
    let head = &mut bytes[..length];
    let odd = controls && head.iter().any(|byte| is_odd(*byte));
    match end {
        Some(_) if !odd => (EmptyLineMatch::Complete, LinePlace::START),
        Some(_) => (EmptyLineMatch::Complete, clean_lines(head, line)),
        None => (
            blank.after_all(head),
            if odd { clean_lines(head, line) } else { line.after_all(head) },
        ),
    }
}

/// True for a control byte that has no meaning in a head.
fn is_odd(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, 0 | b'\t' | b'\r' | b'\n')
}

#[cold]
fn clean_lines(head: &mut [u8], line: LinePlace) -> LinePlace {
    head.iter_mut().fold(line, LinePlace::clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cleans bytes in pieces of this size, from behind the first digit of the status on, as the meter does.
    fn cleaned(bytes: &[u8], size: usize) -> (Vec<u8>, EmptyLineMatch) {
        let mut bytes = bytes.to_vec();
        let (mut blank, mut line) = (EmptyLineMatch::None, LinePlace::Strict);
        for piece in bytes.chunks_mut(size) {
            if blank != EmptyLineMatch::Complete {
                (blank, line) = clean(piece, blank, LinePlace::from_bits(line.to_bits()));
            }
        }
        (bytes, blank)
    }

    fn text(bytes: &[u8], size: usize) -> String {
        cleaned(bytes, size).0.escape_ascii().to_string()
    }

    #[test]
    fn fault_16_control_bytes_in_a_value_become_spaces_and_all_else_stays_however_the_head_is_cut()
    {
        for (field, clean) in [
            ("x-a: 1\x01\x1f2\x7f", "x-a: 1  2 "),
            ("x-a: \t\u{e4}\"2", "x-a: \t\u{e4}\"2"),
            ("x-a: 1\x002", "x-a: 1\x002"),
            ("x-a: 1\r2", "x-a: 1\r2"),
            ("x\x01a: 1", "x\x01a: 1"),
            ("Content-Length: 5\x01", "Content-Length: 5\x01"),
            ("Transfer-Encoding: chunked\x7f", "Transfer-Encoding: chunked\x7f"),
            ("te: \x01", "te: \x01"),
            ("t: \x01:\x02", "t:  : "),
            ("tee: \x01", "tee:  "),
            ("Transfer-Encodings: \x01", "Transfer-Encodings:  "),
            (
                "x-long-name-that-begins-like-none-of-them-at-all: \x01",
                "x-long-name-that-begins-like-none-of-them-at-all:  ",
            ),
            ("no\x01colon", "no\x01colon"),
        ] {
            let head =
                |field: &str| format!("00 O\x01K\r\nx: y\r\n{field}\r\nz: \r\n\r\n\x01x: \x01");
            let right = head(clean).as_bytes().escape_ascii().to_string();
            for size in (1..=head(field).len()).chain([1000]) {
                assert_eq!(text(head(field).as_bytes(), size), right, "in pieces of {size}");
            }
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
                assert_eq!(blank, EmptyLineMatch::Complete, "{size}");
            }
        }
    }
}
