//! The memory of an endpoint's addresses: which of them the name has, and which failed lately. `now` is an argument:
//! nothing here reads the clock.
//!
//! A DNS answer may be only a part of a name's addresses: some name servers give three of twelve, different ones each
//! time. An address is therefore added at once, and given up only when it has been missing for a while.

use std::{
    net::IpAddr,
    sync::{
        PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::resolve::{ADDRESSES, Family, FamilyAnswer};

/// The number of consecutive answers that an address must be missing from before it is given up.
const MISSED: u32 = 3;
/// The shortest time for which an address must be missing before it is given up.
const ABSENT: Duration = Duration::from_secs(30);
/// The time for which an address must be missing where answers are parts of the whole; an address that returns within
/// this time counts as one that was never gone.
const REMEMBERED: Duration = Duration::from_mins(10);
/// The shortest time after which a name is asked for again.
const SOONEST: Duration = Duration::from_secs(5);
/// The most addresses that are remembered of one name: enough for all of an answer.
const REMEMBERED_AT_ONCE: usize = 256;
/// The time for which an address that failed is tried after the others; each further failure in a row doubles it.
const AVOIDED: Duration = Duration::from_secs(30);
/// The longest time for which an address that failed is tried after the others.
const AVOIDED_LONGEST: Duration = Duration::from_mins(10);

/// The kind of an address's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The address refused the connection, or no route leads to it.
    Refused,
    /// The address did not answer, another one answered sooner, or its handshake failed.
    Slow,
}

/// An endpoint's addresses, shared by its dials and its connections.
#[derive(Debug, Default)]
pub struct Addresses {
    records: RwLock<AddressRecords>,
    /// True if an address was given up since [`Addresses::take_loss`] was last called.
    lost_any: AtomicBool,
}

impl Addresses {
    /// Takes note of a DNS answer: adds its addresses, and gives up those that have been missing for long enough. An
    /// answer that comes from the cache counts once.
    pub fn learn(&self, parts: &[FamilyAnswer]) {
        self.write(|records| records.learn(parts));
    }

    /// Returns true, once, if an address was given up: connections to it are of no more use.
    pub fn take_loss(&self) -> bool {
        self.lost_any.load(Relaxed) && self.lost_any.swap(false, Relaxed)
    }

    /// Returns the time at which the name is to be asked for again: when its newest answer expires, but at least 5 s
    /// after that was heard. `None` if the answer does not expire.
    pub fn asked_again_at(&self) -> Option<Instant> {
        self.read().runs_out
    }

    /// Returns true if the name no longer has the address. An address that is not remembered may still belong to the
    /// name: where answers are parts of a large whole, there is no room for all of them. Such addresses count as lost
    /// once none of them has been seen for ten minutes.
    pub fn lost(&self, address: IpAddr) -> bool {
        let records = self.read();
        records
            .find(address)
            .map_or(records.forgotten == ForgottenAddresses::Lost, |known| !known.present)
    }

    /// Sorts addresses for trying: in the given order, but addresses that failed lately come last.
    pub fn in_order(&self, mut given: Vec<IpAddr>, now: Instant) -> Vec<IpAddr> {
        let records = self.read();
        let again = records.tried_again(&given, now);
        given
            .sort_by_key(|address| records.failed_at(*address).filter(|_| Some(*address) != again));
        given
    }

    /// Notes that the address accepted a connection: its failures are forgotten. An address that is not remembered is
    /// ignored.
    pub fn answered(&self, address: IpAddr) {
        self.write(|records| {
            if let Some(known) = records.find_mut(address) {
                known.failure = None;
            }
            false
        });
    }

    /// Notes that a connection to the address failed: for a time, which each further failure doubles, the address is
    /// tried after the others. If it refused, and the newest answer lacks it, it is given up. An address that is not
    /// remembered is ignored.
    pub fn failed(&self, address: IpAddr, kind: FailureKind, now: Instant) {
        self.write(|records| records.find_mut(address).is_some_and(|known| known.fails(kind, now)));
    }

    fn read(&self) -> RwLockReadGuard<'_, AddressRecords> {
        self.records.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a change that returns true if an address was given up by it.
    fn write(&self, change: impl FnOnce(&mut AddressRecords) -> bool) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        if change(&mut records) {
            self.lost_any.store(true, Relaxed);
        }
    }
}

/// Everything that is remembered of one endpoint's addresses.
#[derive(Debug, Default)]
struct AddressRecords {
    /// The addresses in the order in which they were first seen; most names have few.
    known: Vec<KnownAddress>,
    /// The end of the time in which answers count as parts of the whole, because an address that was missing came back.
    partial_until: Option<Instant>,
    /// The time at which the newest answer of each family was heard, IPv4 first.
    newest: [Option<Instant>; 2],
    /// The time at which the newest answer expires, if it does.
    runs_out: Option<Instant>,
    /// The state of the addresses that there was no room for.
    forgotten: ForgottenAddresses,
}

/// The state, as a whole, of the addresses that are no longer remembered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ForgottenAddresses {
    /// No address was forgotten.
    #[default]
    None,
    /// The last of them was seen at this time: some may still belong to the name.
    Since(Instant),
    /// None of them has been seen for so long that they no longer belong to the name.
    Lost,
}

/// An address that the name has or had.
#[derive(Debug)]
struct KnownAddress {
    address: IpAddr,
    /// True until the address is given up; afterwards it is only remembered.
    present: bool,
    /// The time of the last answer that had the address.
    seen: Instant,
    /// The number of answers without the address since then.
    missed: u32,
    failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    at: Instant,
    in_a_row: u32,
    kind: FailureKind,
}

impl Failure {
    fn lasts_until(&self) -> Instant {
        let doubled = AVOIDED.saturating_mul(1 << (self.in_a_row - 1).min(10));
        self.at + doubled.min(AVOIDED_LONGEST)
    }
}

impl KnownAddress {
    /// Counts a failure, and returns true if the address is given up by it.
    fn fails(&mut self, kind: FailureKind, now: Instant) -> bool {
        let in_a_row = self.failure.map_or(1, |failure| failure.in_a_row.saturating_add(1));
        self.failure = Some(Failure { at: now, in_a_row, kind });
        self.goes_if(self.is_dead())
    }

    /// True if the address refused the last connection, and the newest answer does not have it any more.
    fn is_dead(&self) -> bool {
        let refused = self.failure.is_some_and(|failure| failure.kind == FailureKind::Refused);
        refused && self.missed > 0
    }

    /// Counts an answer that lacks the address, and returns true if the address is given up by it. `partial` is true
    /// while answers count as parts of the whole.
    fn misses(&mut self, partial: bool, now: Instant) -> bool {
        self.missed = self.missed.saturating_add(1);
        let absent = now.saturating_duration_since(self.seen);
        let gone =
            if partial { absent >= REMEMBERED } else { self.missed >= MISSED && absent >= ABSENT };
        self.goes_if(gone || self.is_dead())
    }

    /// Gives the address up if `goes`; returns true if it was present until now.
    fn goes_if(&mut self, goes: bool) -> bool {
        let went = self.present && goes;
        self.present &= !goes;
        went
    }
}

impl AddressRecords {
    fn find(&self, address: IpAddr) -> Option<&KnownAddress> {
        self.known.iter().find(|known| known.address == address)
    }

    fn find_mut(&mut self, address: IpAddr) -> Option<&mut KnownAddress> {
        self.known.iter_mut().find(|known| known.address == address)
    }

    /// Takes note of an answer's parts, and returns true if an address was given up. A part that is not newer than the
    /// last of its family changes no address, and an answer without any address changes nothing at all.
    fn learn(&mut self, parts: &[FamilyAnswer]) -> bool {
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

    /// Takes note of a new part for one family: its addresses are present, and each other one of the family was missing
    /// once more. Forgets addresses beyond the bound; returns true if an address was given up.
    fn take(&mut self, part: &FamilyAnswer) -> bool {
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

    /// Returns true, once, if the forgotten addresses have not been seen for so long that they count as lost. A
    /// forgotten address that is seen again is remembered again.
    fn loses_forgotten(&mut self, now: Instant) -> bool {
        let ForgottenAddresses::Since(seen) = self.forgotten else { return false };
        let lost = now.saturating_duration_since(seen) >= REMEMBERED;
        if lost {
            self.forgotten = ForgottenAddresses::Lost;
        }
        lost
    }

    /// Notes that the newest answer has the address, which is present from now on. If it was missing and returns within
    /// ten minutes, answers count as parts of the whole for that time; if it was gone for longer, its failures are
    /// forgotten.
    fn see(&mut self, address: IpAddr, now: Instant) {
        let Some(known) = self.find_mut(address) else {
            let new = KnownAddress { address, present: true, seen: now, missed: 0, failure: None };
            return self.known.push(new);
        };
        let is_back = known.missed > 0 && now < known.seen + REMEMBERED;
        if !known.present && !is_back {
            // The address may have another owner by now.
            known.failure = None;
        }
        (known.present, known.seen, known.missed) = (true, now, 0);
        if is_back {
            self.partial_until = Some(now + REMEMBERED);
        }
    }

    /// Forgets the addresses that were not seen for the longest time, those given up first. A forgotten address does
    /// not count as lost yet: connections to it go on for a while.
    fn keep_to_bound(&mut self) {
        while self.known.len() > REMEMBERED_AT_ONCE {
            let known = self.known.iter().enumerate();
            let unseen = known.min_by_key(|(_, known)| (known.present, known.seen));
            let Some((oldest, _)) = unseen else { return };
            let seen = self.known.remove(oldest).seen;
            self.forgotten = match self.forgotten {
                ForgottenAddresses::Since(last) => ForgottenAddresses::Since(last.max(seen)),
                ForgottenAddresses::None | ForgottenAddresses::Lost => {
                    ForgottenAddresses::Since(seen)
                }
            };
        }
    }

    fn failed_at(&self, address: IpAddr) -> Option<Instant> {
        self.find(address)?.failure.map(|failure| failure.at)
    }

    /// Returns the address that is tried in its turn again as if it had not failed: among those whose time of avoidance
    /// is over, the one that failed first. There is one at a time, so that no dial pays for many.
    fn tried_again(&self, given: &[IpAddr], now: Instant) -> Option<IpAddr> {
        let known = given.iter().filter_map(|address| self.find(*address));
        let over = known.filter(|k| k.failure.is_some_and(|f| f.lasts_until() <= now));
        over.min_by_key(|known| known.failure.map(|failure| failure.at)).map(|known| known.address)
    }
}

const _: () = assert!(REMEMBERED_AT_ONCE >= 2 * ADDRESSES);

#[cfg(test)]
mod tests;
