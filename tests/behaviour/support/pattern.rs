//! Content for bodies of any size that depends on the offset, so that a lost, doubled or foreign byte is found.

use std::sync::LazyLock;

/// The pattern's period: a prime, so that no buffer size divides it.
const PERIOD: usize = 65_521;

/// Two periods of the pattern, so that a slice of one period can begin anywhere.
static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    let period: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
    period.repeat(2)
});

/// Returns the content from this offset on, at most `limit` bytes and at most one period.
pub fn slice(offset: u64, limit: u64) -> &'static [u8] {
    let start = (offset % PERIOD as u64) as usize;
    &BLOCK[start..start + limit.min(PERIOD as u64) as usize]
}

/// Returns the first `length` bytes.
pub fn bytes(length: u64) -> Vec<u8> {
    let mut all = Vec::new();
    while (all.len() as u64) < length {
        let offset = all.len() as u64;
        all.extend_from_slice(slice(offset, length - offset));
    }
    all
}

/// A reader that compares content, piece by piece, with the pattern.
#[derive(Debug, Default)]
pub struct Reader {
    /// The number of bytes so far.
    pub length: u64,
    /// The offset of the piece with the first wrong byte, if any was wrong.
    pub wrong_at: Option<u64>,
}

impl Reader {
    /// Compares the next piece.
    pub fn take(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let expected = slice(self.length, piece.len() as u64);
            let (now, later) = piece.split_at(expected.len());
            if now != expected && self.wrong_at.is_none() {
                self.wrong_at = Some(self.length);
            }
            self.length += now.len() as u64;
            piece = later;
        }
    }
}
