//! An input's layout: a byte of choices, the application's bytes, two zero bytes, the upstream's bytes.

/// The longest input: an answer of this size leaves the origin in one segment, so that whatever lies behind a complete
/// response is there before Warmline can take the connection for idle.
const LONGEST: usize = 4096;
const SEPARATOR: &[u8] = &[0, 0];

/// Another response behind the first: whoever gets it next got what nobody asked for.
const STRAY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray";

/// One input, taken apart.
pub struct Input {
    choices: u8,
    /// What the application writes.
    pub request: Vec<u8>,
    /// What the upstream answers to each request's head.
    pub response: Vec<u8>,
}

/// What the origin does once it has answered.
#[derive(Clone, Copy)]
pub enum Ending {
    /// The connection stays open.
    Open,
    /// `close_notify` and FIN.
    Polite,
    /// FIN alone.
    Truncated,
    /// RST.
    Reset,
}

impl Input {
    /// None if there is nothing to send, or too much.
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

    /// Bits 0 and 1: the origin's ending. Bit 2 adds [`STRAY`].
    pub fn ending(&self) -> Ending {
        match self.choices & 3 {
            0 => Ending::Open,
            1 => Ending::Polite,
            2 => Ending::Truncated,
            _ => Ending::Reset,
        }
    }

    /// Bit 3: the answer comes in small TLS records.
    pub fn small_records(&self) -> bool {
        self.choices & 8 != 0
    }

    /// Bit 4: the application's FIN follows its bytes at once.
    pub fn finishes_at_once(&self) -> bool {
        self.choices & 16 != 0
    }

    /// Bit 5: the application writes in two pieces.
    pub fn two_pieces(&self) -> bool {
        self.choices & 32 != 0
    }

    /// Bits 6 and 7, both: the application waits for Warmline's time limits.
    pub fn is_patient(&self) -> bool {
        self.choices & 192 == 192
    }
}
