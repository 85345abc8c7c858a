//! The first message of a TLS handshake (`ClientHello`), as a server sees it on the wire.

use crate::support::origin::Connection;

/// The types of extensions, as IANA numbers them.
const SUPPORTED_GROUPS: u16 = 10;
const SESSION_TICKET: u16 = 35;
const PRE_SHARED_KEY: u16 = 41;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;
/// The extension's content that offers the versions 1.3 and 1.2.
const BOTH_VERSIONS: [u8; 5] = [4, 3, 4, 3, 3];
/// The number of the group `X25519MLKEM768`.
const HYBRID: [u8; 2] = [0x11, 0xec];

/// The offers of a first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstMessage {
    /// True if the message offers an earlier session by a ticket.
    pub session: bool,
    pub share: Share,
    /// True if the client takes tickets under TLS 1.2.
    pub takes_tickets: bool,
    /// True if the message offers both TLS 1.3 and 1.2.
    pub both_versions: bool,
}

/// The key share of a first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// A share of the hybrid group.
    Large,
    /// A share of another group; the hybrid one is named.
    Small,
    /// A share of another group; the hybrid one is not named.
    Classic,
}

impl FirstMessage {
    /// Reads the first record of a connection; returns its offers and its bytes, or `None` if the peer ends before.
    pub async fn read(peer: &mut Connection) -> Option<(Self, Vec<u8>)> {
        let mut bytes = Vec::new();
        while bytes.len() < 5 || bytes.len() < 5 + length(&bytes[3..]) {
            peer.fill().await.ok()?;
            bytes.extend(peer.take());
        }
        Some((Self::of(&bytes), bytes))
    }

    fn of(record: &[u8]) -> Self {
        // Skipped: the headers of record and message, the version and the random bytes.
        let mut rest = &record[5 + 4 + 2 + 32..];
        let (_session_id, _suites, _compression) =
            (take(&mut rest, 1), take(&mut rest, 2), take(&mut rest, 1));
        let mut rest = take(&mut rest, 2);
        let mut message = Self {
            session: false,
            share: Share::Classic,
            takes_tickets: false,
            both_versions: false,
        };
        let (mut large, mut hybrid) = (false, false);
        while !rest.is_empty() {
            let kind = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
            let content = take(&mut rest, 2);
            match kind {
                SUPPORTED_GROUPS => {
                    hybrid = content[2..].chunks(2).any(|group| group == HYBRID);
                }
                SESSION_TICKET => {
                    message.takes_tickets = true;
                    message.session |= !content.is_empty();
                }
                PRE_SHARED_KEY => message.session = true,
                SUPPORTED_VERSIONS => message.both_versions = content == BOTH_VERSIONS,
                KEY_SHARE => large = content.len() > 1000,
                _ => {}
            }
        }
        message.share = match (large, hybrid) {
            (true, _) => Share::Large,
            (false, true) => Share::Small,
            (false, false) => Share::Classic,
        };
        message
    }
}

fn length(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Takes a vector off the front of `bytes`, whose length is in the first `width` bytes.
fn take<'a>(bytes: &mut &'a [u8], width: usize) -> &'a [u8] {
    let (length, rest) = bytes.split_at(width);
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (taken, rest) = rest.split_at(length);
    *bytes = rest;
    taken
}
