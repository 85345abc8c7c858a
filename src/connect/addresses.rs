//! The memory of an endpoint's addresses: which of them the name has, and which failed lately. The callers read the clock.
//!
//! An answer may be a part of what there is: some name servers give three of twelve addresses, other ones each time. So
//! an address comes at once, and goes when it has been missing for a while.

use std::{
    net::IpAddr,
    sync::{
        PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::resolve::{ADDRESSES, Family, Part};

/// Answers in a row that an address must be missing from before it goes.
const MISSED: u32 = 3;
/// The shortest time that it must have been missing for.
const ABSENT: Duration = Duration::from_secs(30);
/// The same where answers are parts of a whole; an address that comes within it is back.
const REMEMBERED: Duration = Duration::from_mins(10);
/// The time after which, at the soonest, an answer is asked for again.
const SOONEST: Duration = Duration::from_secs(5);
/// Addresses of one name that are remembered: those of the newest answer have room.
const REMEMBERED_AT_ONCE: usize = 256;
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
pub struct Addresses {
    book: RwLock<Book>,
    /// True if an address went since this was last asked.
    lost_any: AtomicBool,
}

impl Addresses {
    /// Takes note of the name servers' words; an answer that was kept is noted once.
    pub fn learn(&self, parts: &[Part]) {
        self.write(|book| book.learn(parts));
    }

    /// Returns true, once, if an address went: connections to it are of no more use.
    pub fn take_loss(&self) -> bool {
        self.lost_any.load(Relaxed) && self.lost_any.swap(false, Relaxed)
    }

    /// Computes when the name is to be asked for again: once its newest answer runs out, but not sooner than 5 s after it.
    /// `None` where an answer has no end.
    pub fn asked_again_at(&self) -> Option<Instant> {
        self.read().runs_out
    }

    /// Returns true if the name has lost the address. One that is not remembered may be the name's still: where answers
    /// are parts of a large whole, there is no room for all of it. Once none of those has been seen for ten minutes, they are
    /// lost too.
    pub fn lost(&self, address: IpAddr) -> bool {
        let book = self.read();
        book.find(address).map_or(book.forgotten == Forgotten::Lost, |known| !known.present)
    }

    /// Sorts addresses for trying: as given, those that failed lately last.
    pub fn in_order(&self, mut given: Vec<IpAddr>, now: Instant) -> Vec<IpAddr> {
        let book = self.read();
        let again = book.tried_again(&given, now);
        given.sort_by_key(|address| book.failed_at(*address).filter(|_| Some(*address) != again));
        given
    }

    /// Notes that the address answered.
    pub fn answered(&self, address: IpAddr) {
        self.write(|book| {
            if let Some(known) = book.find_mut(address) {
                known.failure = None;
            }
            false
        });
    }

    /// Notes that the address failed.
    pub fn failed(&self, address: IpAddr, trouble: Trouble, now: Instant) {
        self.write(|book| book.find_mut(address).is_some_and(|known| known.fails(trouble, now)));
    }

    fn read(&self) -> RwLockReadGuard<'_, Book> {
        self.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change that returns true if an address went by it.
    fn write(&self, change: impl FnOnce(&mut Book) -> bool) {
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        if change(&mut book) {
            self.lost_any.store(true, Relaxed);
        }
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
    /// The end of the newest answer, if it has one.
    runs_out: Option<Instant>,
    /// The addresses that there was no room for.
    forgotten: Forgotten,
}

/// Addresses that are not remembered any more, all together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Forgotten {
    /// There are none.
    #[default]
    None,
    /// The last of them was seen at that time: some may be the name's still.
    Since(Instant),
    /// None of them has been seen for so long that they are not the name's any more.
    Lost,
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
    /// Counts a failure, and returns true if the address goes by it.
    fn fails(&mut self, trouble: Trouble, now: Instant) -> bool {
        let in_a_row = self.failure.map_or(1, |failure| failure.in_a_row.saturating_add(1));
        self.failure = Some(Failure { at: now, in_a_row, trouble });
        self.goes_if(self.is_dead())
    }

    /// Returns true if nobody is there and the newest answer does not have it any more.
    fn is_dead(&self) -> bool {
        let refused = self.failure.is_some_and(|failure| failure.trouble == Trouble::Refused);
        refused && self.missed > 0
    }

    /// Counts a newest answer that lacks the address, and returns true if the address goes by it.
    fn misses(&mut self, partial: bool, now: Instant) -> bool {
        self.missed = self.missed.saturating_add(1);
        let absent = now.saturating_duration_since(self.seen);
        let gone =
            if partial { absent >= REMEMBERED } else { self.missed >= MISSED && absent >= ABSENT };
        self.goes_if(gone || self.is_dead())
    }

    fn goes_if(&mut self, goes: bool) -> bool {
        let went = self.present && goes;
        self.present &= !goes;
        went
    }
}

impl Book {
    fn find(&self, address: IpAddr) -> Option<&Known> {
        self.known.iter().find(|known| known.address == address)
    }

    fn find_mut(&mut self, address: IpAddr) -> Option<&mut Known> {
        self.known.iter_mut().find(|known| known.address == address)
    }

    /// Takes note of an answer's parts, and returns true if an address went.
    fn learn(&mut self, parts: &[Part]) -> bool {
        if parts.iter().all(|part| part.addresses.is_empty()) {
            return false;
        }
        let ends = parts.iter().filter_map(|p| Some(p.fresh_until?.max(p.heard + SOONEST)));
        self.runs_out = ends.min().or(self.runs_out);
        let mut lost_any = false;
        for part in parts {
            let newest = &mut self.newest[usize::from(part.family == Family::V6)];
            if newest.is_none_or(|newest| newest < part.heard) {
                *newest = Some(part.heard);
                lost_any |= self.take(part);
            }
        }
        lost_any
    }

    fn take(&mut self, part: &Part) -> bool {
        let now = part.heard;
        part.addresses.iter().for_each(|address| self.see(*address, now));
        let partial = self.partial_until.is_some_and(|until| until > now);
        let of_family = self.known.iter_mut().filter(|k| Family::of(k.address) == part.family);
        let mut lost_any = false;
        for known in of_family.filter(|known| !part.addresses.contains(&known.address)) {
            lost_any |= known.misses(partial, now);
        }
        self.keep_to_bound();
        lost_any | self.loses_forgotten(now)
    }

    /// Returns true if those that are forgotten have not been seen for long enough by now: one that is seen is remembered.
    fn loses_forgotten(&mut self, now: Instant) -> bool {
        let Forgotten::Since(seen) = self.forgotten else { return false };
        let lost = now.saturating_duration_since(seen) >= REMEMBERED;
        if lost {
            self.forgotten = Forgotten::Lost;
        }
        lost
    }

    /// Notes that the newest answer has it.
    fn see(&mut self, address: IpAddr, now: Instant) {
        let Some(known) = self.find_mut(address) else {
            let new = Known { address, present: true, seen: now, missed: 0, failure: None };
            return self.known.push(new);
        };
        let is_back = known.missed > 0 && now < known.seen + REMEMBERED;
        if !known.present && !is_back {
            // Somebody else's by now, perhaps.
            known.failure = None;
        }
        (known.present, known.seen, known.missed) = (true, now, 0);
        if is_back {
            self.partial_until = Some(now + REMEMBERED);
        }
    }

    /// Forgets the addresses that were not seen for the longest time, first those that went. To forget one is not to lose
    /// it: connections to it go on for a while.
    fn keep_to_bound(&mut self) {
        while self.known.len() > REMEMBERED_AT_ONCE {
            let known = self.known.iter().enumerate();
            let unseen = known.min_by_key(|(_, known)| (known.present, known.seen));
            let Some((oldest, _)) = unseen else { return };
            let seen = self.known.remove(oldest).seen;
            self.forgotten = match self.forgotten {
                Forgotten::Since(last) => Forgotten::Since(last.max(seen)),
                Forgotten::None | Forgotten::Lost => Forgotten::Since(seen),
            };
        }
    }

    fn failed_at(&self, address: IpAddr) -> Option<Instant> {
        self.find(address)?.failure.map(|failure| failure.at)
    }

    /// Picks the address that takes its turn again as if it had not failed: of those whose time is over, the one that failed
    /// first. One at a time, so that no dial pays for many.
    fn tried_again(&self, given: &[IpAddr], now: Instant) -> Option<IpAddr> {
        let known = given.iter().filter_map(|address| self.find(*address));
        let over = known.filter(|k| k.failure.is_some_and(|f| f.lasts_until() <= now));
        over.min_by_key(|known| known.failure.map(|failure| failure.at)).map(|known| known.address)
    }
}

const _: () = assert!(REMEMBERED_AT_ONCE >= 2 * ADDRESSES);

#[cfg(test)]
mod tests;
