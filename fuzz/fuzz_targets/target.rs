//! A fuzz target that takes any bytes as a client's, cut anywhere: only targets are escaped, only where hyper's `Uri`
//! refuses them unchanged, and never a byte behind a request line.
//!
//! The first byte of an input is the length of the segments that the rest is cut into.

#![no_main]

#[path = "../../src/listener/escape/tests/way.rs"]
mod way;

use http::uri::PathAndQuery;
use libfuzzer_sys::{Corpus, fuzz_target};
use warmline::listener::escape::{Escape, LineFindings, NewestRequest};
use way::{Hyper, Way};

/// A model of hyper that frames each body as its head says.
#[derive(Default)]
struct Framing {
    /// The number of bytes that were read; the next request begins behind them.
    read: usize,
}

impl Hyper for Framing {
    fn read(&mut self, came: &[u8], mut judged: NewestRequest) -> NewestRequest {
        while let Some(head) = head(came.get(self.read..).unwrap_or_default()) {
            let body = body(&came[self.read..self.read + head]);
            self.read =
                body.map_or(usize::MAX, |body| (self.read + head).saturating_add(body as usize));
            judged = NewestRequest { count: judged.count + 1, body, done: false };
        }
        judged
    }
}

/// Returns the length of the head at the beginning of these bytes, if all of it is there.
fn head(bytes: &[u8]) -> Option<usize> {
    let begin = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let line = begin + bytes[begin..].iter().position(|byte| *byte == b'\n')? + 1;
    let mut at = line;
    loop {
        let length = bytes[at..].iter().position(|byte| *byte == b'\n')? + 1;
        let blank = matches!(&bytes[at..at + length], b"\n" | b"\r\n");
        at += length;
        if blank {
            return Some(at);
        }
    }
}

/// Returns the length of a request's body; `None` if it comes in chunks.
fn body(head: &[u8]) -> Option<u64> {
    let (mut lengths, mut chunks) = (vec![0], false);
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = str::from_utf8(line[colon + 1..].trim_ascii()).unwrap_or_default();
        chunks |= line[..colon].eq_ignore_ascii_case(b"transfer-encoding");
        if line[..colon].eq_ignore_ascii_case(b"content-length") {
            lengths.extend(value.parse::<u64>());
        }
    }
    lengths.into_iter().max().filter(|_| !chunks)
}

fn through<'a>(segments: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut way = Way::new(Framing::default());
    segments.for_each(|segment| way.send(segment));
    way.came
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let [cut, bytes @ ..] = input else { return Corpus::Reject };
    let came = through(std::iter::once(bytes));
    let pieces = through(bytes.chunks(usize::from(*cut).max(1)));
    // A character that is not complete is not handed over yet, however it was cut.
    assert_eq!(pieces.escape_ascii().to_string(), came.escape_ascii().to_string());
    check(bytes, &came);
    Corpus::Keep
});

/// Walks through both sides, request by request, and panics at a difference that is not an escape.
fn check(mut sent: &[u8], mut came: &[u8]) {
    while let (Some(sent_head), Some(came_head)) = (head(sent), head(came)) {
        check_head(&sent[..sent_head], &came[..came_head]);
        let body = body(&sent[..sent_head]).map_or(usize::MAX, |body| body as usize);
        (sent, came) = (&sent[sent_head..], &came[came_head..]);
        let end = body.min(sent.len());
        assert_eq!(sent[..end], came[..end.min(came.len())], "a body");
        (sent, came) = (&sent[end..], &came[end..]);
    }
}

fn check_head(sent: &[u8], came: &[u8]) {
    let ((sent_line, sent_fields), (came_line, came_fields)) = (line(sent), line(came));
    assert_eq!(sent_fields, came_fields, "fields");
    assert_eq!(unescaped(came_line, sent_line), sent_line, "a byte was lost or made up");
    let (sent_target, came_target) = (target(sent_line), target(came_line));
    let Some((sent_target, came_target)) = sent_target.zip(came_target) else {
        return;
    };
    if PathAndQuery::try_from(sent_target).is_ok() {
        assert_eq!(sent_target, came_target, "{}", sent_target.escape_ascii());
    }
    let escapable = |byte: &u8| *byte > b' ' && *byte != 0x7f && *byte != b'#';
    if sent_target.starts_with(b"/") && sent_target.iter().all(escapable) {
        assert!(PathAndQuery::try_from(came_target).is_ok(), "{}", came_target.escape_ascii());
    }
}

/// Splits a head behind its first line; empty lines before that are left out.
fn line(head: &[u8]) -> (&[u8], &[u8]) {
    let begin = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(head.len());
    let end = head[begin..]
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(head.len(), |at| begin + at + 1);
    (&head[begin..end], &head[end..])
}

fn target(line: &[u8]) -> Option<&[u8]> {
    line.split(|byte| *byte == b' ').nth(1)
}

/// Returns the line that came, with each escape undone that replaced the byte at its place in the line that was sent.
fn unescaped(came: &[u8], sent: &[u8]) -> Vec<u8> {
    let (mut rest, mut bytes) = (came, Vec::new());
    for byte in sent {
        let escape = format!("%{byte:02X}");
        let length = match rest {
            [first, ..] if first == byte => 1,
            _ if rest.starts_with(escape.as_bytes()) => escape.len(),
            _ => break,
        };
        bytes.push(*byte);
        rest = &rest[length..];
    }
    bytes.extend_from_slice(rest);
    bytes
}
