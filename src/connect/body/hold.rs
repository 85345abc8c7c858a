//! The copy of a request's body from which it can be sent again: what was read so far, within a bound.
//!
//! The bytes are copied because a frame, even of one byte, keeps the whole read buffer alive that it is a slice of.

use std::mem;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// The most bytes that are kept of one body, trailers included.
pub(super) const HELD: usize = 64 * 1024;
/// The bytes that a trailer counts for beside its name and value.
const TRAILER: usize = 32;

/// The beginning of a body; empty once the body is not wanted any more or was too long.
#[derive(Debug)]
pub(super) struct Hold(Option<HeldBytes>);

#[derive(Debug, Default)]
struct HeldBytes {
    /// The bytes that were held when the body was last sent again: shared with what sends them.
    sent_again: Bytes,
    /// The bytes read since then.
    since: Vec<u8>,
    trailers: Option<HeaderMap>,
}

/// The bytes and trailers to send again before the rest of the body.
#[derive(Debug, Default)]
pub(super) struct Replay {
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl Hold {
    /// Creates a copy to be filled, if `wanted`, and if a body of `at_least` this length can be held whole.
    pub(super) fn new(wanted: bool, at_least: u64) -> Self {
        Self((wanted && at_least <= HELD as u64).then(HeldBytes::default))
    }

    /// Adds a frame; a frame beyond the bound ends the copy and frees all of it.
    pub(super) fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.0 else { return };
        if kept.size() + size(frame) > HELD {
            return self.release();
        }
        if let Some(data) = frame.data_ref() {
            kept.grow_for(data.len());
            kept.since.extend_from_slice(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            kept.trailers = Some(trailers.clone());
        }
    }

    /// Frees the copy: the body will not be sent again.
    pub(super) fn release(&mut self) {
        self.0 = None;
    }

    /// Returns all that was read, from the beginning; `None` if it is not held.
    pub(super) fn replay(&mut self) -> Option<Replay> {
        let kept = self.0.as_mut()?;
        if !kept.since.is_empty() {
            let since = mem::take(&mut kept.since);
            kept.sent_again = if kept.sent_again.is_empty() {
                since.into()
            } else {
                [&kept.sent_again[..], &since].concat().into()
            };
        }
        Some(Replay { data: kept.sent_again.clone(), trailers: kept.trailers.clone() })
    }
}

impl HeldBytes {
    fn size(&self) -> usize {
        let trailers = self.trailers.as_ref().map_or(0, trailers_size);
        self.sent_again.len() + self.since.len() + trailers
    }

    /// Makes room, by doubling, and never beyond the bound.
    fn grow_for(&mut self, more: usize) {
        let needed = self.since.len() + more;
        if needed > self.since.capacity() {
            let size = needed.next_power_of_two().min(HELD);
            self.since.reserve_exact(size - self.since.len());
        }
    }
}

fn size(frame: &Frame<Bytes>) -> usize {
    let data = frame.data_ref().map_or(0, Bytes::len);
    data + frame.trailers_ref().map_or(0, trailers_size)
}

fn trailers_size(trailers: &HeaderMap) -> usize {
    trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + TRAILER).sum()
}

impl Replay {
    /// Returns the number of bytes of content that are left.
    pub(super) fn len(&self) -> u64 {
        self.data.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    /// Takes the next frame: the bytes in one piece, then the trailers; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Frame<Bytes>> {
        if self.data.is_empty() {
            return self.trailers.take().map(Frame::trailers);
        }
        Some(Frame::data(mem::take(&mut self.data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(length: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![b'x'; length]))
    }

    fn trailers(value: &'static str) -> Frame<Bytes> {
        let mut map = HeaderMap::new();
        map.insert("x-sum", http::HeaderValue::from_static(value));
        Frame::trailers(map)
    }

    fn replayed(hold: &mut Hold) -> (Vec<u8>, Option<HeaderMap>) {
        let (mut bytes, mut trailers) = (Vec::new(), None);
        let mut replay = hold.replay().expect("it is held");
        while let Some(frame) = replay.next() {
            match frame.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        (bytes, trailers)
    }

    fn allocated(hold: &Hold) -> usize {
        hold.0.as_ref().map_or(0, |kept| kept.since.capacity() + kept.sent_again.len())
    }

    #[test]
    fn a_held_body_is_replayed_in_order_as_often_as_wanted_with_the_bytes_read_since() {
        let mut hold = Hold::new(true, 0);
        hold.keep(&Frame::data(Bytes::from_static(b"one ")));
        assert_eq!(replayed(&mut hold), (b"one ".to_vec(), None));
        hold.keep(&Frame::data(Bytes::from_static(b"two ")));
        hold.keep(&Frame::data(Bytes::from_static(b"three")));
        hold.keep(&trailers("7"));
        for _ in 0..2 {
            let (bytes, trailers) = replayed(&mut hold);
            assert_eq!(bytes, b"one two three");
            assert_eq!(trailers.expect("they are held")["x-sum"], "7");
        }
    }

    #[test]
    fn a_body_of_the_bound_is_held_and_one_byte_more_gives_all_of_it_back() {
        for piece in [1, 1000, 4096, HELD] {
            let mut hold = Hold::new(true, 0);
            let mut left = HELD;
            while left > 0 {
                let size = piece.min(left);
                hold.keep(&data(size));
                assert!(allocated(&hold) <= HELD, "{}", allocated(&hold));
                left -= size;
            }
            assert_eq!(replayed(&mut hold).0.len(), HELD, "pieces of {piece}");
            hold.keep(&data(1));
            assert!(hold.replay().is_none(), "pieces of {piece}");
            assert_eq!(allocated(&hold), 0);
        }
    }

    #[test]
    fn a_frame_of_one_byte_does_not_keep_the_buffer_that_it_came_in() {
        let mut hold = Hold::new(true, 0);
        for _ in 0..100 {
            let buffer = Bytes::from(vec![b'x'; 8192]);
            hold.keep(&Frame::data(buffer.slice(..1)));
            assert!(buffer.is_unique(), "the buffer is kept");
        }
        assert!(allocated(&hold) <= 128);
    }

    #[test]
    fn trailers_count_towards_the_bound() {
        let mut hold = Hold::new(true, 0);
        hold.keep(&data(HELD - TRAILER));
        hold.keep(&trailers("7"));
        assert!(hold.replay().is_none());
    }

    #[test]
    fn a_body_that_is_not_wanted_or_known_to_be_too_long_is_never_held() {
        for (wanted, length, held) in
            [(true, HELD as u64, true), (true, HELD as u64 + 1, false), (false, 1, false)]
        {
            let mut hold = Hold::new(wanted, length);
            hold.keep(&data(1));
            assert_eq!(hold.replay().is_some(), held, "{wanted} {length}");
        }
        let mut hold = Hold::new(true, 1);
        hold.keep(&data(1));
        hold.release();
        assert!(hold.replay().is_none());
    }
}
