//! HTTP/1.1 messages as both ends of the tests read them: strictly, since the tests judge what Warmline writes.

use std::fmt;

/// A start line and the fields.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The first line, without its end.
    pub start: String,
    /// The fields: names as sent, values without surrounding blanks.
    pub fields: Vec<(String, String)>,
}

/// The rule by which a body ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After this number of bytes.
    Length(u64),
    /// After the last chunk and the trailers.
    Chunked,
    /// At the connection's end.
    UntilClose,
}

/// A message that breaks the rules of HTTP/1.1, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Head {
    /// Takes a head off the front of `buffer`; returns `None` if it is not complete yet.
    pub fn take(buffer: &mut Vec<u8>) -> Result<Option<Self>, Malformed> {
        let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return Ok(None);
        };
        let bytes: Vec<u8> = buffer.drain(..end + 4).collect();
        let text = String::from_utf8(bytes[..end].to_vec());
        Self::parse(&text.map_err(|_| Malformed("a head that is not UTF-8".into()))?).map(Some)
    }

    /// Returns the value of this field; panics if the field came twice.
    pub fn field(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() < 2, "{name} came {} times: {values:?}", values.len());
        values.first().copied()
    }

    /// Returns all values of this field, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let same = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// Returns the framing that the fields declare, or an error if they contradict each other.
    pub fn declared_framing(&self) -> Result<Option<Framing>, Malformed> {
        match (
            self.values("transfer-encoding").as_slice(),
            self.values("content-length").as_slice(),
        ) {
            ([], []) => Ok(None),
            (["chunked"], []) => Ok(Some(Framing::Chunked)),
            ([], [length]) => match length.parse() {
                Ok(bytes) => Ok(Some(Framing::Length(bytes))),
                Err(_) => Err(Malformed(format!("the length {length:?}"))),
            },
            (encodings, lengths) => Err(Malformed(format!(
                "contradictory framing: transfer-encoding {encodings:?}, content-length {lengths:?}"
            ))),
        }
    }

    fn parse(text: &str) -> Result<Self, Malformed> {
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_string();
        let fields = lines.map(field).collect::<Result<_, _>>()?;
        Ok(Self { start, fields })
    }
}

fn field(line: &str) -> Result<(String, String), Malformed> {
    let malformed = || Malformed(format!("the field line {line:?}"));
    let (name, value) = line.split_once(':').ok_or_else(malformed)?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) || value.contains(['\0', '\r', '\n']) {
        return Err(malformed());
    }
    Ok((name.to_string(), value.trim_matches([' ', '\t']).to_string()))
}

/// The reader of one body, which takes the connection's bytes piece by piece.
#[derive(Debug)]
pub struct Body {
    state: State,
    /// The trailer fields, once the body is complete.
    pub trailers: Vec<(String, String)>,
    line: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Plain(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Complete,
}

impl Body {
    /// Makes a reader for a body with this framing.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Complete,
            Framing::Length(bytes) => State::Plain(bytes),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, trailers: Vec::new(), line: Vec::new() }
    }

    /// True if the whole body was read.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// True if the connection's end is the body's proper end.
    pub fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Takes the body's bytes off the front of `buffer` and hands the content to the sink.
    pub fn read(
        &mut self,
        buffer: &mut Vec<u8>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Malformed> {
        let mut taken = 0;
        while taken < buffer.len() && !self.is_complete() {
            taken += self.step(&buffer[taken..], sink)?;
        }
        buffer.drain(..taken);
        Ok(())
    }

    /// Reads at least one byte; returns the number of bytes taken.
    fn step(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<usize, Malformed> {
        match self.state {
            State::Plain(left) => {
                let taken = content(bytes, left, sink);
                self.state =
                    if taken == left { State::Complete } else { State::Plain(left - taken) };
                Ok(taken as usize)
            }
            State::ChunkData(left) => {
                let taken = content(bytes, left, sink);
                self.state =
                    if taken == left { State::ChunkEnd } else { State::ChunkData(left - taken) };
                Ok(taken as usize)
            }
            State::UntilClose => {
                sink(bytes);
                Ok(bytes.len())
            }
            State::ChunkSize | State::ChunkEnd | State::Trailers => self.line_byte(bytes[0]),
            State::Complete => Ok(0),
        }
    }

    fn line_byte(&mut self, byte: u8) -> Result<usize, Malformed> {
        self.line.push(byte);
        if byte == b'\n' {
            let line = std::mem::take(&mut self.line);
            let text = line.strip_suffix(b"\r\n").and_then(|text| std::str::from_utf8(text).ok());
            let malformed = || Malformed(format!("the chunk line {:?}", line.escape_ascii()));
            self.state = self.end_of_line(text.ok_or_else(malformed)?)?;
        }
        Ok(1)
    }

    fn end_of_line(&mut self, text: &str) -> Result<State, Malformed> {
        match self.state {
            State::ChunkEnd if text.is_empty() => Ok(State::ChunkSize),
            State::Trailers if text.is_empty() => Ok(State::Complete),
            State::Trailers => {
                self.trailers.push(field(text)?);
                Ok(State::Trailers)
            }
            State::ChunkSize => match u64::from_str_radix(text, 16) {
                Ok(0) => Ok(State::Trailers),
                Ok(size) if !text.starts_with('+') => Ok(State::ChunkData(size)),
                _ => Err(Malformed(format!("the chunk size {text:?}"))),
            },
            state => Err(Malformed(format!("{text:?} in {state:?}"))),
        }
    }
}

fn content(bytes: &[u8], left: u64, sink: &mut dyn FnMut(&[u8])) -> u64 {
    let taken = left.min(bytes.len() as u64);
    sink(&bytes[..taken as usize]);
    taken
}
