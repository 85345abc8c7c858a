//! What reaches the application: whatever the upstream sent, Warmline's answers have one framing each.

use crate::{
    input::Input,
    received::{field, lines, number},
    world,
};

/// Panics if an answer can be read in two ways, or if bytes of another exchange are in it.
pub fn check(answered: &[u8], input: &Input) {
    let asked = find(&input.request, world::SANE.as_bytes()).is_some();
    let marked = asked || find(&input.response, world::MARK).is_some();
    assert!(marked || find(answered, world::MARK).is_none(), "another exchange's answer");
    // Behind an answer to HEAD there is no body, and which answer that is cannot be told without parsing the requests.
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
    /// None: to the connection's end.
    length: Option<usize>,
    chunked: bool,
}

impl Answer {
    /// None if not all of its head is there.
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

    /// Where it ends, if it is all there.
    fn end(&self, bytes: &[u8]) -> Option<usize> {
        if self.is_informational() || matches!(self.status, 204 | 304) {
            return Some(self.head);
        }
        let body = &bytes[self.head..];
        let length = if self.chunked { chunks_end(body)? } else { self.length? };
        (length <= body.len()).then(|| self.head + length)
    }
}

/// The length of a chunked body and its trailers; panics at a chunk that is not as hyper writes it.
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
