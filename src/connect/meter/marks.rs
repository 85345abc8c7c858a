//! The marks of one exchange: the bytes of its response that have come, and the place up to which its heads were read.

use std::{
    io,
    sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use crate::{
    connect::harmless::{self, LinePlace},
    head::EmptyLineMatch,
    stamp::Stamp,
};

/// The most informational responses that one exchange may bring (RFC 9110 section 15.2 sets no bound).
const INFORMATIONAL: u32 = 16;
/// The offset of the status code's first digit in a status line, behind `HTTP/1.1 `.
const STATUS: u8 = 9;

/// The marks of one exchange.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The number of plain bytes read since the exchange began.
    received: AtomicU64,
    /// The time at which the first of those bytes came.
    first_byte: Stamp,
    /// The number of informational heads.
    informational: AtomicU32,
    /// The place up to which the response's heads were read: a [`HeadPlace`].
    head: AtomicU8,
    /// The place in the lines of the head that is being read: a [`LinePlace`].
    line: AtomicU16,
    /// The number of bytes that had been written under TLS when the exchange began.
    sent_before: AtomicU64,
}

/// A place in the heads of a response, up to the end of its final head.
///
/// Below [`STATUS`] the number is an offset in a status line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HeadPlace(u8);

impl HeadPlace {
    /// The place before a status line.
    const START: Self = Self(0);
    /// The place within a line of an informational head.
    const LINE: Self = Self(10);
    /// The place at the start of a line of an informational head.
    const LINE_START: Self = Self(11);
    /// The place behind a CR at the start of a line of an informational head.
    const EMPTY_LINE: Self = Self(12);
    /// The place behind the first digit of the final status, within the final head; the number of an [`EmptyLineMatch`]
    /// is added to it. Once the head is whole, content follows.
    const FINAL: Self = Self(13);
    /// The place behind the final head.
    const CONTENT: Self = Self(Self::FINAL.0 + EmptyLineMatch::Complete as u8);

    fn of_final_head(blank: EmptyLineMatch) -> Self {
        Self(Self::FINAL.0 + blank as u8)
    }

    /// Returns how the final head ends so far; `None` before that head and behind it.
    fn in_final_head(self) -> Option<EmptyLineMatch> {
        [EmptyLineMatch::None, EmptyLineMatch::Lf, EmptyLineMatch::LfCr]
            .into_iter()
            .find(|blank| Self::of_final_head(*blank) == self)
    }

    /// Returns the place behind this byte, and true if an informational head ended with the byte.
    fn after(self, byte: u8) -> (Self, bool) {
        let next = match (self, byte) {
            (Self::START, b'\r' | b'\n') => Self::START,
            (Self(STATUS), b'1') => Self::LINE,
            (Self(STATUS) | Self::FINAL, _) => Self::FINAL,
            (Self(offset), _) if offset < STATUS => Self(offset + 1),
            (Self::LINE_START | Self::EMPTY_LINE, b'\n') => return (Self::START, true),
            (_, b'\n') => Self::LINE_START,
            (Self::LINE_START, b'\r') => Self::EMPTY_LINE,
            _ => Self::LINE,
        };
        (next, false)
    }
}

impl Marks {
    /// Clears the marks for a new exchange, before which this number of bytes was written under TLS.
    pub(super) fn begin(&self, sent: u64) {
        self.received.store(0, Relaxed);
        self.informational.store(0, Relaxed);
        self.head.store(HeadPlace::START.0, Relaxed);
        self.line.store(LinePlace::Strict.to_bits(), Relaxed);
        self.first_byte.clear();
        self.sent_before.store(sent, Relaxed);
    }

    /// Returns the number of plain bytes read since the exchange began; above zero, the response has begun.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Returns the time at which the first byte of the response came; `None` before that.
    pub(super) fn first_byte(&self) -> Option<Instant> {
        self.first_byte.get()
    }

    /// True if an informational response came.
    pub(super) fn has_informed(&self) -> bool {
        self.informational.load(Relaxed) > 0
    }

    /// True if the next byte would begin a head: nothing came, or only whole informational responses.
    pub(super) fn awaits_head(&self) -> bool {
        HeadPlace(self.head.load(Relaxed)) == HeadPlace::START
    }

    /// Returns the number of bytes that had been written under TLS when the exchange began.
    pub(super) fn sent_before(&self) -> u64 {
        self.sent_before.load(Relaxed)
    }

    /// Notes bytes of the response; replaces the control bytes in its heads that hyper would refuse. Fails after too
    /// many informational responses.
    pub(super) fn note_read(&self, bytes: &mut [u8]) -> io::Result<()> {
        let before = self.received.fetch_add(bytes.len() as u64, Relaxed);
        if before == 0 {
            self.first_byte.set(Instant::now());
        }
        self.note_heads(bytes)
    }

    /// Counts informational responses, which hyper skips without a bound, however the bytes are cut. In their heads,
    /// and in the final head, replaces the control bytes that hyper would refuse. Fails at the seventeenth
    /// informational response.
    fn note_heads(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut place = HeadPlace(self.head.load(Relaxed));
        let mut line = match place {
            HeadPlace::CONTENT => return Ok(()),
            HeadPlace::START => LinePlace::Strict,
            _ => LinePlace::from_bits(self.line.load(Relaxed)),
        };
        let ordinary = bytes.first() == Some(&b'H')
            && bytes.get(usize::from(STATUS)).is_some_and(|digit| *digit != b'1');
        if place == HeadPlace::START && ordinary {
            place = HeadPlace::FINAL;
        }
        let mut from = 0;
        while let Some(byte) = bytes.get_mut(from).filter(|_| place.0 < HeadPlace::FINAL.0) {
            from += 1;
            line = if place.0 > STATUS { line.clean(byte) } else { LinePlace::Strict };
            let (next, ended) = place.after(*byte);
            place = next;
            if ended && self.informational.fetch_add(1, Relaxed) >= INFORMATIONAL {
                return Err(io::Error::other("more than 16 informational responses"));
            }
        }
        if let Some(blank) = place.in_final_head() {
            let (blank, behind) = harmless::clean(&mut bytes[from..], blank, line);
            (place, line) = (HeadPlace::of_final_head(blank), behind);
        }
        self.head.store(place.0, Relaxed);
        self.line.store(line.to_bits(), Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn informational_heads_are_counted_up_to_the_final_status_line_however_they_are_cut() {
        let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        let bare = "HTTP/1.0 100 Continue\n\n";
        let content = format!("HTTP/1.1 200 OK\r\n\r\n{}", early.repeat(20));
        for (bytes, count) in [
            (content.clone(), 0),
            (early.repeat(3) + &content, 3),
            (bare.repeat(3) + "\r\n" + early + &content, 4),
            (early.repeat(16) + &content, 16),
        ] {
            for size in [1, 2, 9, 10, 11, 1000] {
                let marks = Marks::default();
                marks.begin(0);
                for piece in bytes.clone().into_bytes().chunks_mut(size) {
                    marks.note_read(piece).expect("no more than 16");
                }
                assert_eq!(marks.informational.load(Relaxed), count, "{size} {bytes}");
            }
        }
        let many = early.repeat(17);
        let read = |size| {
            let marks = Marks::default();
            many.clone().into_bytes().chunks_mut(size).try_for_each(|piece| marks.note_read(piece))
        };
        assert!([1, 9, 1000].into_iter().all(|size| read(size).is_err()));
    }

    #[test]
    fn fault_16_values_of_informational_and_final_heads_are_cleaned_however_they_are_cut() {
        let sent = "HTTP/1.1 103 Early: \x01\r\nlink: \x01\r\nte: \x01\r\n\r\nHTTP/1.1 200 OK: \x01\r\nx-a: 1\x7f2\r\nconnection: \x01\r\n\r\n\
                    a: \x01\r\n";
        let right = sent.replace("link: \x01", "link:  ").replace("1\x7f2", "1 2");
        for size in 1..=sent.len() {
            let marks = Marks::default();
            for _ in 0..2 {
                marks.begin(0);
                let mut bytes = sent.to_owned().into_bytes();
                bytes.chunks_mut(size).for_each(|piece| marks.note_read(piece).expect("two heads"));
                assert_eq!(bytes, right.as_bytes(), "in pieces of {size}");
            }
        }
    }
}
