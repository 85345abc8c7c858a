//! The layout of an input: a byte of choices, the client's bytes, two zero bytes, the upstream's bytes.

/// The most bytes of an input: an answer of this size leaves the origin in one segment, so that bytes behind a complete
/// response have come before Warmline can take the connection for idle.
const LONGEST: usize = 4096;
const SEPARATOR: &[u8] = &[0, 0];

/// A second response behind the first: a request that gets it got an answer that belongs to no request.
const STRAY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray";

/// An input, taken apart.
pub struct Input {
    choices: u8,
    /// The bytes that the client writes.
    pub request: Vec<u8>,
    /// The bytes with which the upstream answers each request's head.
    pub response: Vec<u8>,
}

/// The origin's act once it has answered.
#[derive(Clone, Copy)]
pub enum Ending {
    /// Leaves the connection open.
    Open,
    /// Sends `close_notify` and FIN.
    Polite,
    /// Sends FIN alone.
    Truncated,
    /// Sends RST.
    Reset,
}

impl Input {
    /// Takes an input apart; `None` if it has no bytes to send, or too many.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (choices, rest) = bytes.split_first().filter(|_| bytes.len() <= LONGEST)?;
        let separator = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR)?;
        let (request, response) = (&rest[..separator], &rest[separator + SEPARATOR.len()..]);
        if request.is_empty() {
            return None;
        }
        let mut response = response.to_vec();
        if choices & 4 != 0 {
            response.extend_from_slice(STRAY);
        }
        Some(Self { choices: *choices, request: request.into(), response })
    }

    /// Returns the origin's ending: bits 0 and 1 of the choices. Bit 2 adds [`STRAY`] to the answer.
    pub fn ending(&self) -> Ending {
        match self.choices & 3 {
            0 => Ending::Open,
            1 => Ending::Polite,
            2 => Ending::Truncated,
            _ => Ending::Reset,
        }
    }

    /// True if the answer comes in small TLS records: bit 3.
    pub fn small_records(&self) -> bool {
        self.choices & 8 != 0
    }

    /// True if the client's FIN follows its bytes at once: bit 4.
    pub fn finishes_at_once(&self) -> bool {
        self.choices & 16 != 0
    }

    /// True if the client writes in two pieces: bit 5.
    pub fn two_pieces(&self) -> bool {
        self.choices & 32 != 0
    }

    /// True if the client waits for Warmline's time limits: bits 6 and 7, both set.
    pub fn is_patient(&self) -> bool {
        self.choices & 192 == 192
    }
}
