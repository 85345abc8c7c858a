//! The escaping, as `%XX`, of exactly those bytes in a request line that hyper's `Uri` refuses, before hyper reads
//! them.
//!
//! Go, Java, `curl -g` and urllib write JSON and Latin-1 into a URL unescaped, and servers accept that; hyper refuses
//! such a request and keeps none of its bytes. [`Escape`] follows a client's bytes from request line to request line,
//! however they are cut into segments. It changes no byte behind a request line: the next line begins behind the body,
//! whose length hyper reports, or behind the head if there is none. Where that is not known, nothing is changed.

use bytes::{Buf as _, BytesMut};

use crate::head::EmptyLineMatch;

/// The newest request that hyper has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestRequest {
    /// The number of requests that hyper has read so far.
    pub count: u64,
    /// The length of that request's body; `None` if the body comes in chunks.
    pub body: Option<u64>,
    /// True if that request is answered, and hyper waits for another.
    pub done: bool,
}

/// The findings in a request line that has passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineFindings {
    /// The number of bytes that were escaped.
    pub escaped: u32,
    /// The position of a `#` in the request line, counted from 1; 0 without one.
    pub fragment: u32,
    /// True if the request is OPTIONS of a URL without a path: hyper's `Uri` does not tell that from one with `/`.
    pub whole_server: bool,
    /// A byte that no host contains, and its position in the request line, counted from 1; hyper refuses the request.
    pub refused: Option<(u8, u32)>,
}

/// The state of one client connection's bytes on their way to hyper.
#[derive(Debug, Default)]
pub struct Escape {
    part: MessagePart,
    /// Bytes that cannot go to hyper unchanged, or not yet.
    kept: Option<Box<WithheldBytes>>,
    /// The findings in the newest request line that was not plain, until they are taken.
    noted: Option<LineFindings>,
}

/// The part of a message that the next byte belongs to.
#[derive(Debug, Default)]
enum MessagePart {
    /// At the beginning of a request line, or of an empty line before it.
    #[default]
    Start,
    /// Behind a CR at the beginning of a line; hyper gets the CR only if it does not end an empty line.
    StartCr,
    /// Within a request line.
    Line(Box<RequestLineEscape>),
    /// Behind the request line, within the fields.
    Fields(EmptyLineMatch),
    /// Behind a whole head whose body's length hyper has not reported: `before` requests came before it, and `beyond`
    /// bytes behind it were handed over, which end in the state `blank`.
    Head { before: u64, beyond: u64, blank: EmptyLineMatch },
    /// Within a body, of which this number of bytes is still to come.
    Body(u64),
    /// Unknown: behind chunks. An empty line after which hyper waits for a request makes the part known again.
    Unknown(EmptyLineMatch),
}

#[derive(Debug, Default)]
struct WithheldBytes {
    /// Bytes that hyper can have.
    ready: BytesMut,
    /// Bytes that were not examined yet.
    raw: BytesMut,
}

impl Escape {
    /// True if hyper may have these bytes unchanged, which are followed then; if not, they must be passed to
    /// [`Escape::keep`].
    pub fn passes(&mut self, bytes: &[u8], judged: NewestRequest) -> bool {
        self.settle(judged);
        match self.part {
            MessagePart::Start => match plain_line(bytes) {
                Some(line) => self.passes_fields(bytes, line, EmptyLineMatch::Lf, judged),
                None => false,
            },
            MessagePart::Fields(blank) => self.passes_fields(bytes, 0, blank, judged),
            MessagePart::Body(left) if bytes.len() as u64 <= left => {
                self.part = in_body(left - bytes.len() as u64);
                true
            }
            MessagePart::Unknown(blank) => {
                self.part = MessagePart::Unknown(blank.after_all(bytes));
                true
            }
            MessagePart::StartCr
            | MessagePart::Line(_)
            | MessagePart::Head { .. }
            | MessagePart::Body(_) => false,
        }
    }

    /// Keeps bytes that did not pass, to be handed out by [`Escape::give`].
    pub fn keep(&mut self, bytes: &[u8]) {
        self.kept.get_or_insert_default().raw.extend_from_slice(bytes);
    }

    /// True if kept bytes must be given to hyper before anything else.
    pub fn has_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Gives hyper at most `most` of the kept bytes through `put`; possibly none, as the last of them may have to wait
    /// for the next.
    pub fn give(&mut self, most: usize, judged: NewestRequest, put: impl FnOnce(&[u8])) {
        let Some(mut kept) = self.kept.take() else { return };
        // Behind a whole head hyper must first tell the length of the body.
        while !(kept.raw.is_empty()
            || matches!(self.part, MessagePart::Head { .. }) && !kept.ready.is_empty())
        {
            self.advance(&mut kept, judged);
        }
        let count = kept.ready.len().min(most);
        put(&kept.ready[..count]);
        kept.ready.advance(count);
        if !(kept.ready.is_empty() && kept.raw.is_empty()) {
            self.kept = Some(kept);
        }
    }

    /// Returns, once, the findings in the newest request line that was not plain; `None` if there was none since the
    /// last call.
    pub fn take_noted(&mut self) -> Option<LineFindings> {
        self.noted.take()
    }

    /// Learns from hyper the length of the newest request's body.
    fn settle(&mut self, judged: NewestRequest) {
        if let MessagePart::Head { before, beyond, blank } = self.part {
            let body = judged.body.filter(|_| judged.count == before + 1);
            self.part = match body.and_then(|body| body.checked_sub(beyond)) {
                Some(left) => in_body(left),
                None => MessagePart::Unknown(blank),
            };
        }
        // The bytes that hyper holds behind the last body end with an empty line, so that they hold no part of a head.
        if judged.done && matches!(self.part, MessagePart::Unknown(EmptyLineMatch::Complete)) {
            self.part = MessagePart::Start;
        }
    }

    /// True if these bytes can pass: fields, after `line` bytes of the request line (0 if that came before). Follows
    /// them to the end of the segment.
    fn passes_fields(
        &mut self,
        bytes: &[u8],
        line: usize,
        blank: EmptyLineMatch,
        judged: NewestRequest,
    ) -> bool {
        let Some(length) = blank.find_end(&bytes[line..]) else {
            self.part = MessagePart::Fields(blank.after_all(&bytes[line..]));
            return true;
        };
        let (head, rest) = bytes.split_at(line + length);
        // The rest may be the next request: hyper must first tell the length of this one's body.
        let passes = rest.is_empty() || line > 0 && names_body(head, rest.len() as u64);
        if passes {
            let (beyond, blank) = (rest.len() as u64, EmptyLineMatch::Complete.after_all(rest));
            self.part = MessagePart::Head { before: judged.count, beyond, blank };
        }
        passes
    }

    /// Makes more of the kept bytes ready for hyper.
    fn advance(&mut self, kept: &mut WithheldBytes, judged: NewestRequest) {
        self.settle(judged);
        let WithheldBytes { ready, raw } = kept;
        let count = match &mut self.part {
            MessagePart::Start | MessagePart::StartCr => return self.begin_line(kept),
            MessagePart::Line(line) => {
                let taken = line.feed(raw, ready);
                raw.advance(taken);
                if line.is_over() {
                    self.noted = Some(line.noted);
                    self.part = MessagePart::Fields(EmptyLineMatch::Lf);
                }
                return;
            }
            MessagePart::Fields(blank) => {
                let blank = *blank;
                let end = blank.find_end(raw);
                self.part = match end {
                    Some(_) => MessagePart::Head {
                        before: judged.count,
                        beyond: 0,
                        blank: EmptyLineMatch::Complete,
                    },
                    None => MessagePart::Fields(blank.after_all(raw)),
                };
                end.unwrap_or(raw.len())
            }
            MessagePart::Body(left) => {
                let count = raw.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                self.part = in_body(*left - count as u64);
                count
            }
            MessagePart::Unknown(blank) => {
                *blank = blank.after_all(raw);
                raw.len()
            }
            MessagePart::Head { .. } => 0,
        };
        ready.extend_from_slice(&raw[..count]);
        raw.advance(count);
    }

    /// Removes the empty lines before a request line (RFC 9112 section 2.2). hyper would skip them too, but hold them
    /// until then.
    fn begin_line(&mut self, kept: &mut WithheldBytes) {
        let behind_cr = matches!(self.part, MessagePart::StartCr);
        match kept.raw[0] {
            b'\n' => self.part = MessagePart::Start,
            b'\r' if !behind_cr => self.part = MessagePart::StartCr,
            _ => {
                if behind_cr {
                    kept.ready.extend_from_slice(b"\r");
                }
                self.part = MessagePart::Line(Box::new(RequestLineEscape::new()));
                return;
            }
        }
        kept.raw.advance(1);
    }
}

fn in_body(left: u64) -> MessagePart {
    if left == 0 { MessagePart::Start } else { MessagePart::Body(left) }
}

/// Returns the length of the request line at the beginning of these bytes, if all of it is there and plain.
fn plain_line(bytes: &[u8]) -> Option<usize> {
    let end = memchr::memchr(b'\n', bytes)? + 1;
    // The target of OPTIONS must be examined; and empty lines may come before the line.
    let plain = !matches!(bytes[0], b'\r' | b'\n' | b'O')
        && bytes[..end].iter().all(|byte| PLAIN[usize::from(*byte)]);
    plain.then_some(end)
}

/// True if this head announces a body that accounts for the `beyond` bytes behind it.
fn names_body(head: &[u8], beyond: u64) -> bool {
    let lines = head.split(|byte| *byte == b'\n');
    lines.filter_map(|line| Some(line.split_at(memchr::memchr(b':', line)?))).any(
        |(name, value)| match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let digits = value[1..].trim_ascii();
                let length = str::from_utf8(digits).ok().and_then(|text| text.parse::<u64>().ok());
                length.is_some_and(|length| length >= beyond)
            }
            17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
            _ => false,
        },
    )
}

/// A request line on its way to hyper.
#[derive(Debug)]
struct RequestLineEscape {
    part: LinePart,
    /// True while the method may be OPTIONS.
    options: bool,
    /// The number of bytes so far, without empty lines before the line.
    place: u32,
    /// The first bytes of a UTF-8 character whose last bytes are still to come.
    begun: BytesMut,
    noted: LineFindings,
}

/// The part of a request line that a byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinePart {
    /// Before the line's first byte.
    Before,
    Method,
    /// At the target's first byte.
    Target,
    /// Within a scheme, behind this number of bytes of `://`.
    Scheme(u8),
    Authority,
    Path,
    Query,
    Fragment,
    /// Within a target of another form, which hyper judges.
    Other,
    /// Behind the target.
    Version,
    /// Behind the line.
    Over,
}

const OPTIONS: &[u8] = b"OPTIONS ";

impl RequestLineEscape {
    fn new() -> Self {
        let noted = LineFindings::default();
        Self { part: LinePart::Before, options: true, place: 0, begun: BytesMut::new(), noted }
    }

    fn is_over(&self) -> bool {
        self.part == LinePart::Over
    }

    /// Appends to `out` what hyper is to read, up to the line's end at most, and returns the number of bytes taken.
    fn feed(&mut self, bytes: &[u8], out: &mut BytesMut) -> usize {
        let mut taken = 0;
        for byte in bytes {
            if self.is_over() {
                break;
            }
            self.take(*byte, out);
            taken += 1;
        }
        taken
    }

    /// Takes the next byte of the line: appends to `out` the byte, or its escape, or nothing while it may be the
    /// beginning of a UTF-8 character; notes what is odd about it.
    fn take(&mut self, byte: u8, out: &mut BytesMut) {
        if self.part == LinePart::Before && matches!(byte, b'\r' | b'\n') {
            return out.extend_from_slice(&[byte]);
        }
        self.place = self.place.saturating_add(1);
        let part = self.part;
        self.part = part.after(byte);
        if part == LinePart::Authority && self.part == part && !AUTHORITY[usize::from(byte)] {
            self.noted.refused.get_or_insert((byte, self.place));
        }
        if matches!(part, LinePart::Before | LinePart::Method) {
            self.options &= OPTIONS.get(self.place as usize - 1) == Some(&byte);
        }
        if part == LinePart::Authority && self.part == LinePart::Version {
            self.noted.whole_server = self.options;
        }
        if self.part == LinePart::Fragment && part != self.part {
            self.noted.fragment = self.place;
        }
        if matches!(part, LinePart::Path | LinePart::Query) && !byte.is_ascii() {
            return self.take_high(byte, out);
        }
        self.escape_begun(out);
        match part {
            LinePart::Path if PATH_REFUSES.contains(&byte) => self.escape(byte, out),
            LinePart::Query if QUERY_REFUSES.contains(&byte) => self.escape(byte, out),
            _ => out.extend_from_slice(&[byte]),
        }
    }

    /// Passes UTF-8 characters, and escapes other bytes beyond ASCII; keeps the bytes of a character that is not whole
    /// yet.
    fn take_high(&mut self, byte: u8, out: &mut BytesMut) {
        self.begun.extend_from_slice(&[byte]);
        match str::from_utf8(&self.begun).map_err(|error| error.error_len()) {
            Ok(_) => out.extend_from_slice(&std::mem::take(&mut self.begun)),
            Err(None) => {}
            Err(Some(wrong)) => {
                let bytes = std::mem::take(&mut self.begun);
                bytes[..wrong].iter().for_each(|byte| self.escape(*byte, out));
                bytes[wrong..].iter().for_each(|byte| self.take_high(*byte, out));
            }
        }
    }

    /// Escapes the bytes of a character that was begun and not completed.
    fn escape_begun(&mut self, out: &mut BytesMut) {
        if !self.begun.is_empty() {
            let bytes = std::mem::take(&mut self.begun);
            bytes.iter().for_each(|byte| self.escape(*byte, out));
        }
    }

    /// Appends a byte as `%XX`, and counts it.
    fn escape(&mut self, byte: u8, out: &mut BytesMut) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
        out.extend_from_slice(&[b'%', HEX[high], HEX[low]]);
        self.noted.escaped = self.noted.escaped.saturating_add(1);
    }
}

impl LinePart {
    /// Returns the part that the byte after this one belongs to.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (_, b'\n') | (Self::Over, _) => Self::Over,
            (Self::Before | Self::Method, b' ') => Self::Target,
            (Self::Before | Self::Method, _) => Self::Method,
            (Self::Version, _) | (_, b' ') => Self::Version,
            (Self::Target | Self::Authority | Self::Path, b'/') => Self::Path,
            (Self::Target, byte) if byte.is_ascii_alphabetic() => Self::Scheme(0),
            (Self::Scheme(0), b':') => Self::Scheme(1),
            (Self::Scheme(1), b'/') => Self::Scheme(2),
            (Self::Scheme(2), b'/') => Self::Authority,
            (Self::Authority | Self::Path, b'?') => Self::Query,
            (Self::Authority | Self::Path | Self::Query, b'#') => Self::Fragment,
            (Self::Scheme(0), b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
            | (Self::Authority | Self::Path | Self::Query | Self::Fragment, _) => self,
            (Self::Target | Self::Scheme(_) | Self::Other, _) => Self::Other,
        }
    }
}

/// The bytes between `!` and `~` that hyper's `Uri` refuses in a path; a test compares both lists with the crate.
const PATH_REFUSES: &[u8] = b"<>`";
const QUERY_REFUSES: &[u8] = b"\"<>";

/// The bytes that an authority may contain.
const AUTHORITY: [bool; 256] = table(b"!$&'()*+,-.:;=@[]_~%");
/// The bytes that need no escaping anywhere in a request line.
const PLAIN: [bool; 256] = table(b"!$&'()*+,-.:;=@[]_~%/? \r\n");

/// Returns a table of letters, digits and these bytes.
const fn table(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests;
