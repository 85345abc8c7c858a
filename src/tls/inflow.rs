//! The facts that the headers of a server's TLS records tell: the kind of its answer to Warmline's first message, a
//! request for another handshake, and how many of the bytes were not application data.
//!
//! rustls reports none of the three: a handshake that fails takes its state along, a request for renegotiation is
//! answered and forgotten, and the size of a stored ticket is private.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

use rustls::AlertDescription;

use super::{alert, tolerance::AnswerKind};

/// The bytes of a record's header: type, version and length.
const HEADER: usize = 5;
/// The types of records (RFC 8446 section 5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// The bytes of an alert, and the level of an alert that ends nothing (RFC 8446 section 6).
const ALERT_BYTES: usize = 2;
const WARNING: u8 = 1;
/// The type of the message `ServerHello`, in the first byte of its record, and the place of its random value.
const SERVER_HELLO: u8 = 2;
const RANDOM: std::ops::Range<usize> = 6..38;
/// The random value by which a `ServerHello` is a `HelloRetryRequest` (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// The facts that records' headers have shown so far. The task that reads the socket writes here; others read.
#[derive(Debug, Default)]
pub struct Inflow {
    /// The number of bytes that were not application data: handshake, tickets, the frames of records.
    outside: AtomicU64,
    /// The kind of the answer so far: the number of an [`AnswerKind`].
    answer: AtomicU8,
    /// True once the server asked for another handshake during the exchange.
    renegotiation: AtomicBool,
}

impl Inflow {
    /// Returns the kind of the server's answer so far.
    pub fn answer(&self) -> AnswerKind {
        match self.answer.load(Relaxed) {
            0 => AnswerKind::Nothing,
            1 => AnswerKind::Retry,
            2 => AnswerKind::Alert,
            _ => AnswerKind::Something,
        }
    }

    /// Notes that an exchange begins.
    pub fn begin_exchange(&self) {
        self.renegotiation.store(false, Relaxed);
    }

    /// True once the server has asked for another handshake during the exchange (renegotiation, TLS 1.2).
    pub fn asks_for_renegotiation(&self) -> bool {
        self.renegotiation.load(Relaxed)
    }

    /// Returns the number of bytes that came and were not application data; application data that was not read yet
    /// counts too.
    pub fn outside(&self) -> u64 {
        self.outside.load(Relaxed)
    }

    /// Counts bytes that came from the socket. There is one writer, so that load and store, which are cheaper than an
    /// addition, suffice.
    pub fn came(&self, bytes: usize) {
        self.outside.store(self.outside.load(Relaxed).wrapping_add(bytes as u64), Relaxed);
    }

    /// Takes application data out of the count.
    pub fn was_application_data(&self, bytes: usize) {
        self.outside.store(self.outside.load(Relaxed).saturating_sub(bytes as u64), Relaxed);
    }

    fn answered(&self, how: AnswerKind) {
        self.answer.store(how as u8, Relaxed);
    }
}

/// A reader of records' headers, however the bytes are cut.
#[derive(Debug, Default)]
pub struct Records {
    /// The bytes of the header so far.
    header: [u8; HEADER],
    /// The number of the header's bytes that are known.
    known: usize,
    /// The number of bytes of the record's content that are still to come.
    left: usize,
    first: FirstRecords,
    /// True once the handshake is done: a handshake record after that asks for another one.
    done: bool,
}

/// The server's first records, as far as they tell the kind of its answer.
#[derive(Debug)]
struct FirstRecords {
    /// The kind of the answer, as far as whole records tell.
    answer: AnswerKind,
    /// The content of the current record, up to the end of a random value.
    content: [u8; RANDOM.end],
    known: usize,
}

impl Default for FirstRecords {
    fn default() -> Self {
        Self { answer: AnswerKind::Nothing, content: [0; RANDOM.end], known: 0 }
    }
}

impl FirstRecords {
    /// Begins a record of this type, whose content has `length` bytes. Unless the record is an alert, or may be a part
    /// of the answer so far, the answer becomes [`AnswerKind::Something`].
    fn begin(&mut self, kind: u8, length: usize) {
        match (self.answer, kind) {
            (_, ALERT) if length == ALERT_BYTES => self.known = 0,
            // The latter is sent behind a request for another share, for the sake of middleboxes.
            (AnswerKind::Nothing, HANDSHAKE) | (AnswerKind::Retry, CHANGE_CIPHER_SPEC) => {}
            _ => self.answer = AnswerKind::Something,
        }
    }

    /// Reads content of a record of this type, and changes the kind of the answer once the bytes that decide are there:
    /// the two of an alert, or a `ServerHello` up to the end of its random value.
    fn read(&mut self, kind: u8, bytes: &[u8]) {
        let needed = match (self.answer, kind) {
            (AnswerKind::Something, _) | (_, CHANGE_CIPHER_SPEC) => return,
            (_, ALERT) => ALERT_BYTES,
            (..) => RANDOM.end,
        };
        let taken = bytes.len().min(needed.saturating_sub(self.known));
        self.content[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
        self.known += taken;
        if taken > 0 && self.known == needed {
            self.judge(kind);
        }
    }

    /// Sets the kind of the answer by the content of the record, of which the bytes that decide have come: an alert or
    /// a `ServerHello`. A warning changes nothing.
    fn judge(&mut self, kind: u8) {
        if kind == ALERT {
            let [level, code, ..] = self.content;
            self.known = 0;
            self.answer = match self.answer {
                answer if level == WARNING => answer,
                _ if !alert::may_be_for_size(AlertDescription::from(code)) => AnswerKind::Something,
                AnswerKind::Nothing => AnswerKind::Alert,
                answer => answer,
            };
            return;
        }
        let retries = self.content[0] == SERVER_HELLO && self.content[RANDOM] == RETRY;
        self.answer = if retries { AnswerKind::Retry } else { AnswerKind::Something };
    }
}

impl Records {
    /// Notes that the handshake is done.
    pub fn handshake_done(&mut self) {
        self.done = true;
    }

    /// Reads the bytes that came next (none at the end of the stream), and notes in `inflow` the kind of the server's
    /// answer so far, and a request for another handshake.
    pub fn read(&mut self, mut bytes: &[u8], inflow: &Inflow) {
        if bytes.is_empty() {
            return;
        }
        while let Some(byte) = bytes.first() {
            if self.left > 0 {
                let (content, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= content.len();
                bytes = rest;
                self.first.read(self.header[0], content);
                continue;
            }
            self.header[self.known] = *byte;
            self.known += 1;
            bytes = &bytes[1..];
            if self.known == HEADER {
                self.known = 0;
                self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                self.begin_record(inflow);
            }
        }
        inflow.answered(self.answer());
    }

    /// Returns the kind of the server's answer so far; bytes that make no whole message yet count as
    /// [`AnswerKind::Something`].
    fn answer(&self) -> AnswerKind {
        let midway = self.known + self.left + self.first.known > 0;
        match self.first.answer {
            // Bytes of unknown meaning came.
            AnswerKind::Nothing if midway => AnswerKind::Something,
            answer => answer,
        }
    }

    /// Begins the record whose header is complete. A handshake record after the handshake is noted as a request for
    /// another one.
    fn begin_record(&mut self, inflow: &Inflow) {
        let kind = self.header[0];
        if self.done && kind == HANDSHAKE {
            inflow.renegotiation.store(true, Relaxed);
        }
        self.first.begin(kind, self.left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).expect("a record's length").to_be_bytes();
        [&[kind, 3, 3], &length[..], content].concat()
    }

    fn hello(random: [u8; 32]) -> Vec<u8> {
        record(HANDSHAKE, &[&[SERVER_HELLO, 0, 0, 60, 3, 3][..], &random, &[0; 26]].concat())
    }

    fn read(bytes: &[u8], size: usize, done: bool) -> Inflow {
        let (inflow, mut records) = (Inflow::default(), Records::default());
        if done {
            records.handshake_done();
        }
        bytes.chunks(size).for_each(|piece| records.read(piece, &inflow));
        records.read(&[], &inflow);
        inflow
    }

    #[test]
    fn fault_12_a_servers_answer_is_known_from_its_records_however_they_are_cut() {
        let (retry, other) = (hello(RETRY), hello([7; 32]));
        let spec = record(CHANGE_CIPHER_SPEC, &[1]);
        let alert = |level, code| record(ALERT, &[level, code]);
        // unrecognized_name, close_notify, handshake_failure, protocol_version
        let (warning, politely) = (alert(1, 112), alert(1, 0));
        let (refusal, final_one) = (alert(2, 40), alert(2, 70));
        for (bytes, answer) in [
            (vec![], AnswerKind::Nothing),
            (retry.clone(), AnswerKind::Retry),
            ([&retry[..], &spec].concat(), AnswerKind::Retry),
            ([&retry[..], &spec, &final_one].concat(), AnswerKind::Something),
            ([&retry[..], &spec, &refusal].concat(), AnswerKind::Retry),
            ([&retry[..], &politely].concat(), AnswerKind::Retry),
            ([&retry[..], &other].concat(), AnswerKind::Something),
            ([&retry[..], &other[..9]].concat(), AnswerKind::Something),
            (other.clone(), AnswerKind::Something),
            (warning.clone(), AnswerKind::Nothing),
            (politely.clone(), AnswerKind::Nothing),
            ([&warning[..], &politely].concat(), AnswerKind::Nothing),
            (refusal.clone(), AnswerKind::Alert),
            ([&warning[..], &refusal].concat(), AnswerKind::Alert),
            (refusal[..6].to_vec(), AnswerKind::Something),
            (final_one.clone(), AnswerKind::Something),
            (record(ALERT, &[1, 0, 1, 0]), AnswerKind::Something),
            ([&warning[..], &other].concat(), AnswerKind::Something),
            ([&warning[..], &retry].concat(), AnswerKind::Retry),
            ([&final_one[..], &retry].concat(), AnswerKind::Something),
            ([&other[..], &refusal].concat(), AnswerKind::Something),
            (retry[..20].to_vec(), AnswerKind::Something),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), AnswerKind::Something),
        ] {
            for size in [1, 3, 5, 43, 1000] {
                assert_eq!(read(&bytes, size, false).answer(), answer, "{size} {bytes:?}");
            }
        }
    }

    #[test]
    fn fault_17_a_record_of_a_handshake_after_the_handshake_asks_for_another_one() {
        let (asked, data) = (record(HANDSHAKE, &[1; 40]), record(23, &[22; 90]));
        let bytes = [&data[..], &asked].concat();
        for size in [1, 4, 1000] {
            assert!(read(&bytes, size, true).asks_for_renegotiation());
            assert!(!read(&bytes, size, false).asks_for_renegotiation());
            assert!(!read(&data, size, true).asks_for_renegotiation());
        }
    }

    #[test]
    fn fault_38_application_data_is_taken_out_of_what_came() {
        let inflow = Inflow::default();
        inflow.came(900);
        inflow.was_application_data(700);
        assert_eq!(inflow.outside(), 200);
        inflow.was_application_data(900);
        assert_eq!(inflow.outside(), 0);
    }
}
