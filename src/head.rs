//! The end of a message's head, and a description for people of the first byte in it that breaks the rules (RFC 9112
//! sections 2 to 5).
//!
//! hyper's parser says only that there is such a byte. The rules here are the parser's: hyper refused whatever is found
//! here.

use std::fmt::Write as _;

/// The most bytes that are shown of a field's name or line.
const SHOWN: usize = 40;

/// The part of an empty line that the bytes so far end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EmptyLineMatch {
    /// No part of an empty line.
    None,
    /// The end of the line before.
    Lf,
    /// The end of the line before, and a CR.
    LfCr,
    /// A whole empty line.
    Complete,
}

impl EmptyLineMatch {
    /// Returns the state behind this byte.
    #[must_use]
    pub(crate) fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::None, b'\n') => Self::Lf,
            (_, b'\n') => Self::Complete,
            (Self::Lf | Self::Complete, b'\r') => Self::LfCr,
            _ => Self::None,
        }
    }

    /// Returns the state behind these bytes, of which only the last few count.
    #[must_use]
    pub(crate) fn after_all(self, bytes: &[u8]) -> Self {
        let (blank, last) = match bytes.last_chunk::<3>() {
            Some(last) => (Self::None, &last[..]),
            None => (self, bytes),
        };
        last.iter().fold(blank, |blank, byte| blank.after(*byte))
    }

    /// Returns the length of these bytes up to the end of the first empty line, if there is one.
    #[must_use]
    pub(crate) fn find_end(self, bytes: &[u8]) -> Option<usize> {
        self.scan(bytes).end
    }

    /// Looks for the first empty line, and for control bytes before it.
    #[must_use]
    pub(crate) fn scan(self, bytes: &[u8]) -> HeadScan {
        let (mut blank, mut controls) = (self, false);
        for (index, byte) in bytes.iter().enumerate() {
            if blank == Self::None {
                let rest = HeadScan::in_line(&bytes[index..]);
                let end = rest.end.map(|end| index + end);
                return HeadScan { end, controls: controls || rest.controls };
            }
            (blank, controls) = (blank.after(*byte), controls || is_control(*byte));
            if blank == Self::Complete {
                return HeadScan { end: Some(index + 1), controls };
            }
        }
        HeadScan { end: None, controls }
    }
}

/// The result of [`EmptyLineMatch::scan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadScan {
    /// The length up to the end of the first empty line; `None` if there is no such line.
    pub end: Option<usize>,
    /// True if a control byte other than CR and LF may be in these bytes up to there, or a few bytes further.
    pub controls: bool,
}

/// The number of bytes that the processor compares at once.
const CHUNK: usize = 32;

impl HeadScan {
    /// Looks through bytes that begin within a line.
    fn in_line(bytes: &[u8]) -> Self {
        let (mut from, mut controls) = (0, false);
        while let Some(chunk) = bytes[from..].first_chunk::<{ CHUNK + 1 }>() {
            let (may_end, has_controls) = look_at_chunk(chunk);
            controls |= has_controls;
            if may_end {
                break;
            }
            from += CHUNK;
        }
        let end = end_of_lines(&bytes[from..]).map(|end| from + end);
        let left = &bytes[from..end.unwrap_or(bytes.len())];
        Self { end, controls: controls || left.iter().any(|byte| is_control(*byte)) }
    }
}

/// Looks at a chunk and the byte behind it: the first result is true if an empty line may begin in it, the second if it
/// has control bytes other than CR and LF.
#[allow(
    clippy::needless_bitwise_bool,
    reason = "a branch for each byte would take eight times as long"
)]
fn look_at_chunk(chunk: &[u8; CHUNK + 1]) -> (bool, bool) {
    chunk.iter().zip(&chunk[1..]).fold((false, false), |(may_end, controls), (byte, next)| {
        let ends = (*byte == b'\n') & ((*next == b'\r') | (*next == b'\n'));
        let control = (*byte < b' ') & (*byte != b'\r') & (*byte != b'\n');
        (may_end | ends, controls | control | (*byte == 0x7f))
    })
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n')
}

/// Returns the length up to the end of the first empty line of bytes that begin within a line; `None` if there is no
/// empty line.
fn end_of_lines(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find_map(|lf| match bytes[lf + 1..] {
        [b'\n', ..] => Some(lf + 2),
        [b'\r', b'\n', ..] => Some(lf + 3),
        _ => None,
    })
}

/// True if a TLS record begins here: a client speaks `https` to a port for `http`.
#[must_use]
pub(crate) fn is_tls_record(bytes: &[u8]) -> bool {
    matches!(bytes, [20..=23, 3, 0..=4, ..])
}

/// Describes the first fault in the head of a request, or in its beginning; `None` if there is none.
#[must_use]
pub(crate) fn fault_of_request(head: &[u8]) -> Option<String> {
    let (line, fields) = first_line(head);
    fault_of_request_line(line).or_else(|| fault_of_fields(fields))
}

/// Describes the first fault in the head of a response, or in its beginning; `None` if there is none.
#[must_use]
pub(crate) fn fault_of_response(head: &[u8]) -> Option<String> {
    let (line, fields) = first_line(head);
    fault_of_status_line(line).or_else(|| fault_of_fields(fields))
}

/// Returns a plainer text for an error of hyper's parser about a head whose bytes it has not kept; `None` for other
/// errors.
#[must_use]
pub(crate) fn fault_in_words(parser: &str) -> Option<&'static str> {
    match parser {
        "invalid content-length parsed" => {
            Some("Content-Length is not a decimal number below 2^64, or two of them differ")
        }
        "invalid transfer-encoding parsed" => {
            Some("Transfer-Encoding does not end in \"chunked\", so the body has no end")
        }
        "unexpected transfer-encoding parsed" => {
            Some("Transfer-Encoding in HTTP/1.0, which has none")
        }
        _ => None,
    }
}

/// Returns bytes as a quoted text for people, printable and cut to 40 bytes.
#[must_use]
pub(crate) fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN)];
    let more = if bytes.len() > SHOWN { "..." } else { "" };
    format!("\"{}{more}\"", cut.escape_ascii())
}

/// Returns a byte as a text for people: the character if it is printable, else its number.
#[must_use]
pub(crate) fn shown_byte(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        format!("{:?}", char::from(byte))
    } else {
        format!("0x{byte:02X}")
    }
}

/// Splits a head behind its first line; empty lines before that are left out.
fn first_line(head: &[u8]) -> (&[u8], &[u8]) {
    let begin = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(head.len());
    next_line(&head[begin..])
}

/// Splits bytes behind the end of their first line.
fn next_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1))
}

/// Describes the first fault in a request line, or in its beginning; `None` if there is none.
fn fault_of_request_line(line: &[u8]) -> Option<String> {
    let target = match line.iter().position(|byte| !is_token(*byte)) {
        Some(end) if end > 0 && line[end] == b' ' => end + 1,
        Some(end) => return Some(in_line(line, end, "request line", "in the method")),
        None => return None,
    };
    let in_target = |byte: &u8| byte.is_ascii_graphic() || !byte.is_ascii();
    let version = match line[target..].iter().position(|byte| !in_target(byte)) {
        Some(length) if length > 0 && line[target + length] == b' ' => target + length + 1,
        Some(0) => return Some(in_line(line, target, "request line", "in place of the target")),
        Some(length) => {
            let ends = ends_line(&line[target + length..]);
            let why = if ends { "the line ends without HTTP/1.1" } else { "in the target" };
            return Some(in_line(line, target + length, "request line", why));
        }
        None => return None,
    };
    if let Err(error) = str::from_utf8(&line[target..version]) {
        let at = target + error.valid_up_to();
        return Some(in_line(line, at, "request line", "in the target"));
    }
    let rule = "behind the target comes HTTP/1.1, and a space within a target is written %20";
    fault_of_version(line, version, "request line", rule, b"")
}

/// Describes the first fault in a status line, or in its beginning; `None` if there is none.
fn fault_of_status_line(line: &[u8]) -> Option<String> {
    if let Some(fault) = fault_of_version(line, 0, "status line", "it begins with HTTP/1.1", b" ") {
        return Some(fault);
    }
    let rule = "behind HTTP/1.1 come a space and three digits";
    let place = |index: usize| in_line(line, index, "status line", rule);
    for (index, byte) in line.iter().enumerate().skip("HTTP/1.1 ".len()) {
        match index {
            9..=11 if !byte.is_ascii_digit() => return Some(place(index)),
            12 if !matches!(byte, b' ' | b'\r' | b'\n') => return Some(place(index)),
            12.. if !in_value(*byte) && !ends_line(&line[index..]) => {
                return Some(in_line(line, index, "status line", "in the reason"));
            }
            _ => {}
        }
    }
    None
}

/// Describes the fault of a line that must have `HTTP/1.0` or `HTTP/1.1` at this index, followed by `then` or the
/// line's end; `None` if there is none. `what` names the line, and `rule` says what is right there.
fn fault_of_version(
    line: &[u8],
    from: usize,
    what: &str,
    rule: &str,
    then: &[u8],
) -> Option<String> {
    let rest = &line[from..];
    let wrong = rest.iter().zip(b"HTTP/1.").position(|(byte, right)| byte != right);
    let wrong = wrong.or_else(|| match rest.get(7..)? {
        [] => None,
        [b'0' | b'1', end @ ..] => {
            let fits =
                end.is_empty() || ends_line(end) || (!then.is_empty() && end.starts_with(then));
            (!fits).then_some(8)
        }
        _ => Some(7),
    });
    wrong.map(|at| in_line(line, from + at, what, rule))
}

fn in_line(line: &[u8], at: usize, what: &str, why: &str) -> String {
    format!("the byte {} at place {} of the {what} ({why})", shown_byte(line[at]), at + 1)
}

/// Describes the first fault in the fields of a head, up to the empty line; `None` if there is none.
fn fault_of_fields(mut rest: &[u8]) -> Option<String> {
    let mut before: Option<&[u8]> = None;
    while !rest.is_empty() && !ends_line(rest) {
        let (line, others) = next_line(rest);
        if let Some(fault) = fault_of_field(line, before) {
            return Some(fault);
        }
        before = Some(line);
        rest = others;
    }
    None
}

/// Describes the first fault of one field's line; `None` if there is none. `line` includes its line end; without one it
/// is the beginning of a line, of which only what is wrong already counts. A blank at the beginning is always a fault,
/// told as a continuation of `before`, which is the field's line before it, `None` for the first. Values are not shown.
fn fault_of_field(line: &[u8], before: Option<&[u8]>) -> Option<String> {
    let end = line.iter().position(|byte| !is_token(*byte))?;
    if line[end] != b':' {
        return Some(fault_of_name(line, end, before));
    }
    let name = &line[..end];
    if name.is_empty() {
        return Some(
            "a line of the header that begins with a colon: a field without a name".into(),
        );
    }
    let value = &line[end + 1..];
    let wrong = (0..value.len()).find(|at| !in_value(value[*at]) && !ends_line(&value[*at..]))?;
    let mut fault = format!("the byte {}", shown_byte(value[wrong]));
    let blanks = value.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let _ =
        write!(fault, " at place {} of the value of the field {}", wrong + 1 - blanks, shown(name));
    Some(fault)
}

/// Describes the fault of a field's name that ends at this index without a colon. The rest of the line is not shown, as
/// it may be a password.
fn fault_of_name(line: &[u8], end: usize, before: Option<&[u8]>) -> String {
    let (name, rest) = line.split_at(end);
    match (rest[0], before.map(name_of)) {
        (b' ' | b'\t', Some(before)) if name.is_empty() => {
            format!("the value of the field {} goes on in another line", shown(before))
        }
        (b' ' | b'\t', None) if name.is_empty() => "a blank before the first field's name".into(),
        (byte, _) if rest.contains(&b':') => format!(
            "the byte {} at place {} of the name of a field that begins with {}",
            shown_byte(byte),
            end + 1,
            shown(name)
        ),
        _ => format!("a line of the header without a colon, which begins with {}", shown(name)),
    }
}

fn name_of(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b':').next().unwrap_or_default()
}

/// True if the line ends here; a lone CR counts at the end of the bytes, as an LF may follow.
fn ends_line(rest: &[u8]) -> bool {
    matches!(rest, [b'\n', ..] | [b'\r', b'\n', ..] | [b'\r'])
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn in_value(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_and_its_control_bytes_are_found_whatever_its_lines_end_in() {
        let by_byte = |mut blank: EmptyLineMatch, bytes: &[u8]| {
            let mut ends = bytes.iter().map(|byte| {
                blank = blank.after(*byte);
                blank == EmptyLineMatch::Complete
            });
            ends.position(|whole| whole).map(|index| index + 1)
        };
        let mut random = fastrand::Rng::with_seed(16);
        for _ in 0..20_000 {
            let length = random.usize(..120);
            let crlf = random.bool();
            let rare = random.usize(1..60);
            let bytes: Vec<u8> = (0..length)
                .flat_map(|_| match random.usize(..rare) {
                    0 if crlf => b"\r\n".to_vec(),
                    0 => vec![random.choice(*b"\r\n").unwrap_or_default()],
                    1 => vec![random.choice(*b"\x00\t\x1f\x7f\x80\xff ~").unwrap_or_default()],
                    _ => vec![b'a'],
                })
                .collect();
            for blank in [EmptyLineMatch::None, EmptyLineMatch::Lf, EmptyLineMatch::LfCr] {
                let (found, shown) = (blank.scan(&bytes), bytes.escape_ascii());
                assert_eq!(found.end, by_byte(blank, &bytes), "{blank:?} {shown}");
                let end = found.end.unwrap_or(bytes.len());
                let near = &bytes[..bytes.len().min(end + CHUNK)];
                let controls = |bytes: &[u8]| bytes.iter().any(|byte| is_control(*byte));
                assert!(found.controls || !controls(&bytes[..end]), "{blank:?} {shown}");
                assert!(!found.controls || controls(near), "{blank:?} {shown}");
            }
        }
    }

    #[test]
    fn fault_11_a_request_that_is_none_is_told_by_its_first_wrong_byte_and_that_bytes_place() {
        for (head, told) in [
            ("G\x01T /", "the byte 0x01 at place 2 of the request line (in the method)"),
            ("GET\t/any", "the byte 0x09 at place 4 of the request line (in the method)"),
            ("\r\n{\"a\":1}", "the byte '{' at place 1 of the request line (in the method)"),
            ("GET  /any", "the byte ' ' at place 5 of the request line (in place of the target)"),
            ("GET /a\x7fb", "the byte 0x7F at place 7 of the request line (in the target)"),
            (
                "GET /any\r\n",
                "the byte 0x0D at place 9 of the request line (the line ends without HTTP/1.1)",
            ),
            (
                "GET /an y HTTP/1.1",
                "the byte 'y' at place 9 of the request line (behind the target comes",
            ),
            ("GET /any HTTP/1.2\r\n", "the byte '2' at place 17 of the request line (behind"),
            ("GET /any HTTP/1.1 \r\n", "place 18 of the request line (behind"),
            (
                "GET / HTTP/1.1\r\nno colon\r\n",
                "a line of the header without a colon, which begins with \"no\"",
            ),
            (
                "GET / HTTP/1.1\r\nAuthorization Basic secret:secret\r\n",
                "begins with \"Authorization\"",
            ),
            ("GET / HTTP/1.1\r\nAuthorization Bearer secret\r\n", "begins with \"Authorization\""),
            ("GET / HTTP/1.1\r\n: 1\r\n", "a line of the header that begins with a colon"),
            (
                "GET / HTTP/1.1\r\nHost : a\r\n",
                "the byte 0x20 at place 5 of the name of a field that begins with \"Host\"",
            ),
            (
                "GET / HTTP/1.1\r\nx(a): 1\r\n",
                "the byte '(' at place 2 of the name of a field that begins with \"x\"",
            ),
            ("GET / HTTP/1.1\r\n x: 1\r\n", "a blank before the first field's name"),
            (
                "GET / HTTP/1.1\r\nx: 1\r\n 2\r\n",
                "the value of the field \"x\" goes on in another line",
            ),
            (
                "GET / HTTP/1.1\r\na: b\r\nx-a:  1\x002",
                "the byte 0x00 at place 2 of the value of the field \"x-a\"",
            ),
            (
                "GET / HTTP/1.1\r\nx-a: 1\r2\r\n",
                "the byte 0x0D at place 2 of the value of the field \"x-a\"",
            ),
        ] {
            let fault = fault_of_request(head.as_bytes()).unwrap_or_default();
            let told = told.replace("byte ' '", "byte 0x20");
            assert!(!fault.contains("secret"), "{fault}");
            assert!(fault.contains(&told), "{head:?}: {fault}");
        }
    }

    #[test]
    fn fault_16_a_response_that_is_none_is_told_by_the_field_and_the_byte() {
        for (head, told) in [
            (
                "HTTP/1.1 200 OK\r\nx-a: 1\x002\r\n",
                "0x00 at place 2 of the value of the field \"x-a\"",
            ),
            (
                "HTTP/1.1 200\r\nx a: 1\r\n",
                "0x20 at place 2 of the name of a field that begins with \"x\"",
            ),
            ("HTTP/1.1 2OO OK\r\n", "'O' at place 11 of the status line (behind HTTP/1.1 come"),
            ("HTTP/1.2 200 OK\r\n", "'2' at place 8 of the status line (it begins with HTTP/1.1)"),
            ("ICY 200 OK\r\n", "'I' at place 1 of the status line"),
            ("HTTP/1.1 200 \x01\r\n", "0x01 at place 14 of the status line (in the reason)"),
        ] {
            let fault = fault_of_response(head.as_bytes()).unwrap_or_default();
            assert!(fault.contains(told), "{head:?}: {fault}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nx-{}: \x7f\r\n", "y".repeat(300));
        let fault = fault_of_response(long.as_bytes()).expect("a fault");
        assert!(fault.len() < 120 && fault.contains("yyy...\""), "{fault}");
    }

    #[test]
    fn fault_11_a_good_head_and_the_beginning_of_one_have_no_fault() {
        let heads = [
            "GET /a?b={\u{e4}} HTTP/1.1\r\nHost: a\r\nx:\ty \u{e4}\r\nempty:\r\n\r\n\x01body",
            "\n\nPOST http://a.example/ HTTP/1.0\nHost: a\n\n",
        ];
        for head in heads {
            for end in 0..=head.len() {
                let beginning = &head.as_bytes()[..end];
                let cut_character = str::from_utf8(beginning).is_err() && end < 25;
                let fault = fault_of_request(beginning).filter(|_| !cut_character);
                assert_eq!(fault, None, "{}", beginning.escape_ascii());
            }
        }
        let head = "HTTP/1.1 299 Quite \u{e4}\r\nx: y\r\n\r\n\0";
        for end in 0..=head.len() {
            assert_eq!(fault_of_response(&head.as_bytes()[..end]), None, "{end}");
        }
    }

    #[test]
    fn fault_11_only_a_tls_record_is_taken_for_one() {
        assert!(is_tls_record(b"\x16\x03\x01\x02\x00\x01"));
        for bytes in [&b"\x16\x02\x01"[..], b"\x01\x02", b"GET", b"", b"\x80\x2e\x01"] {
            assert!(!is_tls_record(bytes), "{}", bytes.escape_ascii());
        }
    }
}
