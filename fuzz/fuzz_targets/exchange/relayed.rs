//! Checks of what reaches the client: whatever the upstream sent, each answer of Warmline's has one framing.

use crate::{
    input::Input,
    received::{field, lines, number},
    world,
};

/// Panics if an answer can be read in two ways, or contains bytes of another exchange.
pub fn check(answered: &[u8], input: &Input) {
    let asked = find(&input.request, world::SANE.as_bytes()).is_some();
    let marked = asked || find(&input.response, world::MARK).is_some();
    assert!(marked || find(answered, world::MARK).is_none(), "another exchange's answer");
    // An answer to HEAD has no body, and only a parse of the requests would tell which answer that is.
    let follow = find(&input.request, b"HEAD").is_none();
    let mut rest = answered;
    while let Some(answer) = Answer::at_start_of(rest) {
        let Some(end) = answer.end(rest).filter(|_| follow || answer.is_informational()) else {
            return;
        };
        rest = &rest[end..];
    }
}

struct Answer {
    status: usize,
    head: usize,
    /// The length of the body; `None` if it ends with the connection.
    length: Option<usize>,
    chunked: bool,
}

impl Answer {
    /// Reads the head at the beginning of these bytes; `None` if not all of it is there.
    fn at_start_of(bytes: &[u8]) -> Option<Self> {
        let head = find(bytes, b"\r\n\r\n")? + 4;
        let mut lines = lines(&bytes[..head - 4]);
        let status_line = lines.next().expect("split gives one piece at least");
        let status =
            status_line.strip_prefix(b"HTTP/1.1 ").or(status_line.strip_prefix(b"HTTP/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)).map(number);
        let status = status.unwrap_or_else(|| panic!("status {}", status_line.escape_ascii()));
        let (mut lengths, mut codings) = (Vec::new(), 0);
        for (name, value) in lines.map(field) {
            match name.as_str() {
                "content-length" => lengths.push(number(value)),
                "transfer-encoding" => {
                    assert!(value.eq_ignore_ascii_case(b"chunked"), "{}", value.escape_ascii());
                    codings += 1;
                }
                _ => {}
            }
        }
        assert!(lengths.len() + codings <= 1, "an answer is framed in two ways");
        Some(Self { status, head, length: lengths.first().copied(), chunked: codings == 1 })
    }

    fn is_informational(&self) -> bool {
        self.status < 200
    }

    /// Returns the length of the answer, if all of it is there.
    fn end(&self, bytes: &[u8]) -> Option<usize> {
        if self.is_informational() || matches!(self.status, 204 | 304) {
            return Some(self.head);
        }
        let body = &bytes[self.head..];
        let length = if self.chunked { chunks_end(body)? } else { self.length? };
        (length <= body.len()).then(|| self.head + length)
    }
}

/// Returns the length of a chunked body with its trailers; panics at a chunk that is not as hyper writes it.
fn chunks_end(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = find(&body[at..], b"\r\n")?;
        let size = str::from_utf8(&body[at..at + line]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.unwrap_or_else(|| panic!("size {}", body[at..at + line].escape_ascii()));
        at += line + 2;
        if size == 0 {
            return trailers_end(&body[at..]).map(|length| at + length);
        }
        at = at.checked_add(size + 2).filter(|at| *at <= body.len())?;
        assert_eq!(&body[at - 2..at], b"\r\n", "a chunk's end");
    }
}

fn trailers_end(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    let end = find(bytes, b"\r\n\r\n")?;
    for (name, _) in lines(&bytes[..end]).map(field) {
        let frames = matches!(name.as_str(), "content-length" | "transfer-encoding" | "host");
        assert!(!frames, "{name} as a trailer");
    }
    Some(end + 4)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
