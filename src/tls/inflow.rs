//! Reads of a server's bytes as much as the headers of its records say: its answer to our first message, a request for another
//! handshake, and how much of the bytes was no application data.
//!
//! rustls tells none of the three: a handshake that fails takes its state along, a request for renegotiation is answered and
//! forgotten, and the size of a stored ticket is private.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

use super::tolerance::Answer;

/// A record's header: its type, version and length.
const HEADER: usize = 5;
/// Record types (RFC 8446 section 5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
/// The type of the message `ServerHello`, in the first byte of its record, and the place of its random.
const SERVER_HELLO: u8 = 2;
const RANDOM: std::ops::Range<usize> = 6..38;
/// The random by which a `ServerHello` is a `HelloRetryRequest` (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// The sum of what the headers said. One task reads the socket and writes here; others look.
#[derive(Debug, Default)]
pub struct Inflow {
    /// Bytes that were no application data: handshake, tickets, the frames of records.
    outside: AtomicU64,
    /// 0: nothing came; 1: a `HelloRetryRequest` alone; 2: more.
    answer: AtomicU8,
    /// True once the server asked for another handshake during the exchange.
    renegotiation: AtomicBool,
}

impl Inflow {
    /// Tells the server's answer so far.
    pub fn answer(&self) -> Answer {
        match self.answer.load(Relaxed) {
            0 => Answer::Nothing,
            1 => Answer::Retry,
            _ => Answer::Something,
        }
    }

    /// Notes that an exchange begins.
    pub fn begin_exchange(&self) {
        self.renegotiation.store(false, Relaxed);
    }

    /// True once the server asked for another handshake during the exchange (renegotiation, TLS 1.2).
    pub fn asks_for_renegotiation(&self) -> bool {
        self.renegotiation.load(Relaxed)
    }

    /// Counts the bytes that came and were no application data. Application data that was not yet read counts too.
    pub fn outside(&self) -> u64 {
        self.outside.load(Relaxed)
    }

    /// Counts bytes as they come from the socket. There is one reader: load and store are cheaper than an addition.
    pub fn came(&self, bytes: usize) {
        self.outside.store(self.outside.load(Relaxed).wrapping_add(bytes as u64), Relaxed);
    }

    /// Takes application data out of the count.
    pub fn was_application_data(&self, bytes: usize) {
        self.outside.store(self.outside.load(Relaxed).saturating_sub(bytes as u64), Relaxed);
    }

    fn answered(&self, how: Answer) {
        self.answer.store(how as u8, Relaxed);
    }
}

/// Reads records' headers, however the bytes are cut.
#[derive(Debug, Default)]
pub struct Records {
    /// The header in the making.
    header: [u8; HEADER],
    /// Bytes of the header that are known.
    known: usize,
    /// Bytes of the record's content that are yet to come.
    left: usize,
    first: First,
    /// True once the handshake is done: what then comes in records of a handshake asks for another one.
    done: bool,
}

/// The server's first record, up to the end of its random.
#[derive(Debug)]
enum First {
    Coming { content: [u8; RANDOM.end], known: usize },
    Retry,
    Over,
}

impl Default for First {
    fn default() -> Self {
        Self::Coming { content: [0; RANDOM.end], known: 0 }
    }
}

impl Records {
    /// Notes that the handshake is done.
    pub fn handshake_done(&mut self) {
        self.done = true;
    }

    /// Reads what came next; nothing at the end.
    pub fn read(&mut self, mut bytes: &[u8], inflow: &Inflow) {
        if bytes.is_empty() {
            return;
        }
        while let Some(byte) = bytes.first() {
            if self.left > 0 {
                let (content, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= content.len();
                bytes = rest;
                self.read_content(content, inflow);
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
        if inflow.answer() == Answer::Nothing {
            // Until more is known: something came.
            inflow.answered(Answer::Something);
        }
    }

    fn begin_record(&mut self, inflow: &Inflow) {
        let kind = self.header[0];
        if self.done && kind == HANDSHAKE {
            inflow.renegotiation.store(true, Relaxed);
        }
        match self.first {
            // What servers send behind it for the sake of middleboxes is no answer to the second message.
            First::Retry if kind != CHANGE_CIPHER_SPEC => {
                self.first = First::Over;
                inflow.answered(Answer::Something);
            }
            First::Coming { .. } if kind != HANDSHAKE => self.first = First::Over,
            _ => {}
        }
    }

    fn read_content(&mut self, bytes: &[u8], inflow: &Inflow) {
        let First::Coming { content, known } = &mut self.first else { return };
        let taken = bytes.len().min(content.len() - *known);
        content[*known..*known + taken].copy_from_slice(&bytes[..taken]);
        *known += taken;
        if *known == content.len() {
            let retries = content[0] == SERVER_HELLO && content[RANDOM] == RETRY;
            self.first = if retries { First::Retry } else { First::Over };
            if retries {
                inflow.answered(Answer::Retry);
            }
        }
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
        let alert = record(21, &[2, 40]);
        for (bytes, answer) in [
            (vec![], Answer::Nothing),
            (retry.clone(), Answer::Retry),
            ([&retry[..], &spec].concat(), Answer::Retry),
            ([&retry[..], &spec, &alert].concat(), Answer::Something),
            ([&retry[..], &other].concat(), Answer::Something),
            (other.clone(), Answer::Something),
            (alert.clone(), Answer::Something),
            ([&alert[..], &retry].concat(), Answer::Something),
            (retry[..20].to_vec(), Answer::Something),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Answer::Something),
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
