//! The memory of an endpoint's addresses: which of them the name has, and which failed lately. The callers read the clock.
//!
//! An answer may be a part of what there is: some name servers give three of twelve addresses, other ones each time. So
//! an address comes at once, and goes when it has been missing for a while.

use std::{
    cmp::Ordering,
    net::IpAddr,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use super::resolve::{Family, Part};

/// Answers in a row that an address must be missing from before it goes.
const MISSED: u32 = 3;
/// The shortest time that it must have been missing for.
const ABSENT: Duration = Duration::from_secs(30);
/// The same where answers are parts of a whole; an address that went is remembered for as long.
const REMEMBERED: Duration = Duration::from_mins(10);
/// Addresses of one name that are remembered.
const ADDRESSES: usize = 256;
/// The time for which an address that failed is tried after the others; each further failure in a row doubles it.
const AVOIDED: Duration = Duration::from_secs(30);
/// The longest such time.
const AVOIDED_LONGEST: Duration = Duration::from_mins(10);

/// The kind of an address's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody listens there, or no way leads there.
    Refused,
    /// Another address was faster, or it did not answer at all; or its handshake failed.
    Slow,
}

/// An endpoint's addresses, shared by its dials and its connections.
#[derive(Debug, Default)]
pub struct Addresses(RwLock<Book>);

impl Addresses {
    /// Takes note of what the name servers said; an answer that was kept is noted once.
    pub fn learn(&self, parts: &[Part]) {
        self.write(|book| book.learn(parts));
    }

    /// Returns true if the name has lost the address.
    pub fn lost(&self, address: IpAddr) -> bool {
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !book.find(address).is_some_and(|known| known.present)
    }

    /// Sorts addresses for trying: as given, those that failed lately last.
    pub fn in_order(&self, mut given: Vec<IpAddr>, now: Instant) -> Vec<IpAddr> {
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        given.sort_by(|a, b| book.compare(*a, *b, now));
        given
    }

    /// Notes that the address answered.
    pub fn answered(&self, address: IpAddr) {
        self.write(|book| {
            if let Some(known) = book.find_mut(address) {
                known.failure = None;
            }
        });
    }

    /// Notes that the address failed.
    pub fn failed(&self, address: IpAddr, trouble: Trouble, now: Instant) {
        self.write(|book| {
            if let Some(known) = book.find_mut(address) {
                known.fails(trouble, now);
            }
        });
    }

    fn write(&self, change: impl FnOnce(&mut Book)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// All that is remembered of one endpoint.
#[derive(Debug, Default)]
struct Book {
    /// In the order in which they came; most names have few.
    known: Vec<Known>,
    /// Until then answers count as parts of a whole, because an address that was missing came back.
    partial_until: Option<Instant>,
    /// The time at which the newest answer of each family was heard.
    newest: [Option<Instant>; 2],
}

/// An address that is or was the name's.
#[derive(Debug)]
struct Known {
    address: IpAddr,
    /// True until it goes; then it is only remembered.
    present: bool,
    /// The last answer that had it.
    seen: Instant,
    /// The number of answers without it since then.
    missed: u32,
    failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    at: Instant,
    in_a_row: u32,
    trouble: Trouble,
}

impl Failure {
    fn lasts_until(&self) -> Instant {
        let doubled = AVOIDED.saturating_mul(1 << (self.in_a_row - 1).min(10));
        self.at + doubled.min(AVOIDED_LONGEST)
    }
}

impl Known {
    fn fails(&mut self, trouble: Trouble, now: Instant) {
        let in_a_row = self.failure.map_or(1, |failure| failure.in_a_row.saturating_add(1));
        self.failure = Some(Failure { at: now, in_a_row, trouble });
        self.present &= !self.is_dead();
    }

    /// Returns true if nobody is there and the newest answer does not have it any more.
    fn is_dead(&self) -> bool {
        let refused = self.failure.is_some_and(|failure| failure.trouble == Trouble::Refused);
        refused && self.missed > 0
    }

    /// Counts a newest answer that lacks it, and decides whether it goes.
    fn misses(&mut self, partial: bool, now: Instant) {
        self.missed = self.missed.saturating_add(1);
        let absent = now.saturating_duration_since(self.seen);
        let gone =
            if partial { absent >= REMEMBERED } else { self.missed >= MISSED && absent >= ABSENT };
        self.present &= !gone && !self.is_dead();
    }
}

impl Book {
    fn find(&self, address: IpAddr) -> Option<&Known> {
        self.known.iter().find(|known| known.address == address)
    }

    fn find_mut(&mut self, address: IpAddr) -> Option<&mut Known> {
        self.known.iter_mut().find(|known| known.address == address)
    }

    fn learn(&mut self, parts: &[Part]) {
        if parts.iter().all(|part| part.addresses.is_empty()) {
            return;
        }
        for part in parts {
            let newest = &mut self.newest[usize::from(part.family == Family::V6)];
            if newest.is_none_or(|newest| newest < part.heard) {
                *newest = Some(part.heard);
                self.take(part);
            }
        }
    }

    fn take(&mut self, part: &Part) {
        let now = part.heard;
        part.addresses.iter().for_each(|address| self.see(*address, now));
        let partial = self.partial_until.is_some_and(|until| until > now);
        let of_family = self.known.iter_mut().filter(|k| Family::of(k.address) == part.family);
        for known in of_family.filter(|known| !part.addresses.contains(&known.address)) {
            known.misses(partial, now);
        }
        self.known.retain(|known| known.present || now < known.seen + REMEMBERED);
        self.keep_to_bound();
    }

    /// Notes that the newest answer has it.
    fn see(&mut self, address: IpAddr, now: Instant) {
        let Some(known) = self.find_mut(address) else {
            let new = Known { address, present: true, seen: now, missed: 0, failure: None };
            return self.known.push(new);
        };
        let is_back = known.missed > 0 && now < known.seen + REMEMBERED;
        (known.present, known.seen, known.missed) = (true, now, 0);
        if is_back {
            self.partial_until = Some(now + REMEMBERED);
        }
    }

    fn keep_to_bound(&mut self) {
        while self.known.len() > ADDRESSES {
            let unseen = self.known.iter().enumerate().min_by_key(|(_, known)| known.seen);
            let Some((oldest, _)) = unseen else { return };
            self.known.remove(oldest);
        }
    }

    /// Compares two addresses: those without a failure are alike, of the others the one that failed first comes first.
    fn compare(&self, a: IpAddr, b: IpAddr, now: Instant) -> Ordering {
        let failed = |address| {
            let failure = self.find(address).and_then(|known| known.failure);
            failure.filter(|failure| now < failure.lasts_until()).map(|failure| failure.at)
        };
        failed(a).cmp(&failed(b))
    }
}

#[cfg(test)]
mod tests;
