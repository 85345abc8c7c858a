//! The cache of names: each family's part of the newest answer, for its time to live, and for a while longer in case no
//! name server answers.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{Family, FamilyAnswer};

/// The most names that are remembered.
const NAMES: usize = 1024;
/// The time for which an expired answer is used while no name server answers (RFC 8767).
const STALE: Duration = Duration::from_mins(10);
/// The time for which an expired answer is used without asking, once no name server has answered.
const AWAY: Duration = Duration::from_secs(5);

/// The cached answers for a name.
#[derive(Debug, Clone)]
pub(super) struct CachedAnswers {
    /// The name that DNS was asked for, search domain included.
    pub asked: String,
    v4: Option<FamilyAnswer>,
    v6: Option<FamilyAnswer>,
    /// The end of the time in which no name server is waited for.
    away_until: Option<Instant>,
}

impl CachedAnswers {
    /// Returns the cached part of a family, expired or not; `None` if none was kept.
    fn of(&self, family: Family) -> Option<&FamilyAnswer> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    /// Returns a family's part until it expires. A part without addresses counts only beside the other family's
    /// addresses, and expires with those unless it has an expiry of its own.
    pub(super) fn fresh(&self, family: Family, now: Instant) -> Option<&FamilyAnswer> {
        let part = self.of(family)?;
        let is_fresh = |part: &&FamilyAnswer| part.fresh_until.is_some_and(|until| until > now);
        if !part.addresses.is_empty() {
            return Some(part).filter(is_fresh);
        }
        let other = self.of(family.other()).filter(|other| !other.addresses.is_empty());
        let other = other.filter(is_fresh)?;
        let until = part.fresh_until.or(other.fresh_until);
        until.is_some_and(|until| until > now).then_some(part)
    }

    /// Returns both parts, if neither has to be asked for; `None` if one has.
    pub(super) fn whole(&self, now: Instant) -> Option<Vec<FamilyAnswer>> {
        Some(vec![self.fresh(Family::V4, now)?.clone(), self.fresh(Family::V6, now)?.clone()])
    }

    /// Returns the parts to use while no name server answers: those with addresses that expired less than 10 min ago,
    /// or have not expired. `None` if there are none.
    pub(super) fn stale(&self, now: Instant) -> Option<Vec<FamilyAnswer>> {
        let usable = |part: &&FamilyAnswer| {
            !part.addresses.is_empty() && part.fresh_until.is_some_and(|until| until + STALE > now)
        };
        let parts: Vec<_> =
            [&self.v4, &self.v6].into_iter().flatten().filter(usable).cloned().collect();
        (!parts.is_empty()).then_some(parts)
    }

    /// True while no name server is waited for.
    pub(super) fn is_away(&self, now: Instant) -> bool {
        self.away_until.is_some_and(|until| until > now)
    }

    /// Returns the time at which the newest part was heard; `None` without a part.
    fn heard(&self) -> Option<Instant> {
        [&self.v4, &self.v6].into_iter().flatten().map(|part| part.heard).max()
    }
}

/// All cached names, by name as configured.
#[derive(Debug, Default)]
pub(super) struct Cache(HashMap<String, CachedAnswers>);

impl Cache {
    /// Returns what is cached for a name, expired parts included; `None` if nothing is.
    pub(super) fn get(&self, name: &str) -> Option<&CachedAnswers> {
        self.0.get(name)
    }

    /// Caches a family's part, which DNS gave for the name `asked`; parts that came for another name are dropped.
    /// Beyond [`NAMES`] names the one that was heard least lately is dropped.
    pub(super) fn keep(&mut self, name: &str, asked: &str, part: FamilyAnswer) {
        if self.0.len() >= NAMES && !self.0.contains_key(name) {
            self.forget_oldest();
        }
        let none = || CachedAnswers { asked: asked.into(), v4: None, v6: None, away_until: None };
        let known = self.0.entry(name.into()).or_insert_with(none);
        if known.asked != asked {
            *known = none();
        }
        known.away_until = None;
        match part.family {
            Family::V4 => known.v4 = Some(part),
            Family::V6 => known.v6 = Some(part),
        }
    }

    /// Notes that no name server answered for a name: for five seconds an expired answer is used without asking. A name
    /// that is not cached is ignored.
    pub(super) fn note_away(&mut self, name: &str, now: Instant) {
        if let Some(known) = self.0.get_mut(name) {
            known.away_until = Some(now + AWAY);
        }
    }

    /// Drops a name that has no address any more.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Drops the name whose newest part was heard before those of all others.
    fn forget_oldest(&mut self) {
        let oldest =
            self.0.iter().min_by_key(|(_, known)| known.heard()).map(|(name, _)| name.clone());
        if let Some(oldest) = oldest {
            self.0.remove(&oldest);
        }
    }
}

/// Returns the time at which an answer expires: after its time to live, but after a day at most.
pub(super) fn until(heard: Instant, ttl: u32) -> Instant {
    heard + Duration::from_secs(ttl.min(86_400).into())
}

/// Orders both families' addresses by turns, IPv4 first (RFC 8305 section 4): a family that does not work costs one
/// delay.
pub fn by_turns(parts: &[FamilyAnswer]) -> Vec<IpAddr> {
    let of = |family| {
        parts.iter().filter(move |part| part.family == family).flat_map(|part| &part.addresses)
    };
    let (mut v4, mut v6) = (of(Family::V4), of(Family::V6));
    let mut ordered = Vec::new();
    loop {
        let (first, second) = (v4.next(), v6.next());
        if first.is_none() && second.is_none() {
            return ordered;
        }
        ordered.extend(first.into_iter().chain(second));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn part(family: Family, addresses: &[&str], heard: Instant, ttl: Option<u32>) -> FamilyAnswer {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        FamilyAnswer { family, addresses, heard, fresh_until: ttl.map(|ttl| until(heard, ttl)) }
    }

    #[test]
    fn fault_04_a_family_without_addresses_is_cached_beside_the_others_answer() {
        let (mut cache, t) = (Cache::default(), Instant::now());
        cache.keep("a", "a", part(Family::V6, &[], t, Some(3600)));
        let known = cache.get("a").expect("known");
        assert!(known.fresh(Family::V6, t).is_none(), "alone it is asked for again");
        cache.keep("a", "a", part(Family::V4, &["192.0.2.1"], t, Some(10)));
        let known = cache.get("a").expect("known");
        assert_eq!(known.whole(t + 9 * SECOND).map(|parts| parts.len()), Some(2));
        assert!(known.fresh(Family::V6, t + 10 * SECOND).is_none());
        // Without a time to live of its own it lasts as long as the other part; with a shorter one no longer than that.
        for (ttl, until) in [(None, 10), (Some(4), 4)] {
            cache.keep("a", "a", part(Family::V6, &[], t, ttl));
            let known = cache.get("a").expect("known");
            let fresh = |seconds| known.fresh(Family::V6, t + seconds * SECOND).is_some();
            assert_eq!((fresh(until - 1), fresh(until)), (true, false), "{ttl:?}");
        }
    }

    #[test]
    fn fault_04_an_answer_out_of_date_is_there_for_ten_minutes_more() {
        let (mut cache, t) = (Cache::default(), Instant::now());
        cache.keep("a", "a.test", part(Family::V4, &["192.0.2.1"], t, Some(10)));
        cache.keep("a", "a.test", part(Family::V6, &[], t, Some(10)));
        let known = cache.get("a").expect("known");
        for (seconds, whole, stale) in
            [(9, true, 1), (10, false, 1), (609, false, 1), (610, false, 0)]
        {
            let now = t + seconds * SECOND;
            assert_eq!(known.whole(now).is_some(), whole, "{seconds}");
            assert_eq!(known.stale(now).map_or(0, |parts| parts.len()), stale, "{seconds}");
        }
        cache.note_away("a", t);
        let away =
            |cache: &Cache, seconds| cache.get("a").expect("known").is_away(t + seconds * SECOND);
        assert_eq!((away(&cache, 4), away(&cache, 5)), (true, false));
        cache.keep("a", "a.test", part(Family::V4, &["192.0.2.1"], t, Some(10)));
        assert!(!away(&cache, 4), "an answer ends it");
        cache.keep("a", "a", part(Family::V6, &["2001:db8::1"], t, Some(10)));
        let known = cache.get("a").expect("known");
        assert!(known.fresh(Family::V4, t).is_none(), "another name was asked for");
    }

    #[test]
    fn the_remembered_entries_are_bounded() {
        let (mut cache, t) = (Cache::default(), Instant::now());
        for number in 0..NAMES + 2 {
            let heard = t + number as u32 * SECOND;
            let name = number.to_string();
            cache.keep(&name, &name, part(Family::V4, &["192.0.2.1"], heard, Some(1)));
        }
        assert_eq!(cache.0.len(), NAMES);
        assert!(cache.get("1").is_none() && cache.get("2").is_some());
    }

    #[test]
    fn families_are_tried_by_turns() {
        let t = Instant::now();
        let v4 = part(Family::V4, &["192.0.2.1", "192.0.2.2", "192.0.2.3"], t, None);
        let v6 = part(Family::V6, &["2001:db8::1"], t, None);
        let told: Vec<_> = by_turns(&[v6, v4]).iter().map(IpAddr::to_string).collect();
        assert_eq!(told, ["192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.3"]);
    }
}
