//! A client's bytes on their way to hyper: for the tests beside this, and for the fuzz target `target`, which includes
//! this file.

use super::{Escape, LineFindings, NewestRequest};

/// A model of hyper behind the escapes, which reads each head as soon as it is there.
pub(super) trait Hyper {
    /// Returns what hyper has read, given all bytes that have reached it.
    fn read(&mut self, came: &[u8], before: NewestRequest) -> NewestRequest;
}

/// A client's bytes on their way to a model of hyper.
pub(super) struct Way<H> {
    escape: Escape,
    hyper: H,
    judged: NewestRequest,
    /// All bytes that reached hyper.
    pub came: Vec<u8>,
    /// All findings in request lines.
    pub noted: Vec<LineFindings>,
}

/// The bytes that hyper has room for at once: few, so that what is given to it is cut too.
const ROOM: usize = 7;

impl<H: Hyper> Way<H> {
    /// Creates a way on which nothing has been sent yet.
    pub(super) fn new(hyper: H) -> Self {
        let judged = NewestRequest { count: 0, body: Some(0), done: true };
        Self { escape: Escape::default(), hyper, judged, came: Vec::new(), noted: Vec::new() }
    }

    /// Sends a segment.
    pub(super) fn send(&mut self, segment: &[u8]) {
        if self.escape.passes(segment, self.judged) {
            self.came.extend_from_slice(segment);
        } else {
            self.escape.keep(segment);
        }
        self.read();
        while self.escape.has_kept() {
            let came = &mut self.came;
            self.escape.give(ROOM, self.judged, |bytes| came.extend_from_slice(bytes));
            self.noted.extend(self.escape.take_noted());
            self.read();
        }
    }

    fn read(&mut self) {
        self.judged = self.hyper.read(&self.came, self.judged);
    }
}
