//! The resolution of names to addresses, at connect time: by the hosts file, else by DNS.
//!
//! [`servers`] says which names are asked for, and in which order; [`question`] is one question to the name servers;
//! [`cache`] remembers the answers.

mod cache;
mod file;
mod hosts;
mod question;
mod servers;

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Shared, WeakShared, ready},
    stream::FuturesUnordered,
};
use tokio::time::{sleep, sleep_until, timeout};

pub use cache::by_turns;
use cache::{Cache, CachedAnswers};
use file::FollowedFile;
use hosts::{Hosts, undotted};
use question::{NoAnswer, ServerAnswer, ask};
use servers::Servers;

/// The longest wait for the other family's answer once there are addresses (RFC 8305 section 3).
const OTHER_FAMILY: Duration = Duration::from_millis(50);
/// The longest wait for an answer if an expired one could be used.
const BEFORE_STALE: Duration = Duration::from_secs(1);
/// The shortest and the longest time after which an unanswered question is sent again.
const PACE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// The most addresses of one family that are taken from an answer.
pub const ADDRESSES: usize = 128;

/// A function that gives the addresses of a name.
pub type ResolveFn = Arc<dyn Fn(&str) -> Vec<IpAddr> + Send + Sync>;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Returns the family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Returns the other of the two families.
    fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// The part of a name's answer for one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyAnswer {
    /// The family.
    pub family: Family,
    /// The addresses; empty if the name has none of this family.
    pub addresses: Vec<IpAddr>,
    /// The time at which a name server gave this answer; distinguishes answers from the cache from new ones.
    pub heard: Instant,
    /// The time at which the part expires; `None`: when the other family's part does.
    pub fresh_until: Option<Instant>,
}

impl FamilyAnswer {
    /// Creates a part without an expiry of its own; of more than [`ADDRESSES`] addresses the first ones.
    pub fn new(family: Family, mut addresses: Vec<IpAddr>, heard: Instant) -> Self {
        addresses.truncate(ADDRESSES);
        Self { family, addresses, heard, fresh_until: None }
    }
}

/// The addresses of a name, at least one, as far as they are known.
pub struct Resolved {
    /// The parts heard so far.
    pub parts: Vec<FamilyAnswer>,
    /// The part of the other family, if its answer has not come yet.
    pub late: Option<BoxFuture<'static, Option<FamilyAnswer>>>,
}

impl Resolved {
    /// Creates an answer of addresses that are known without DNS, for both families.
    pub fn given(addresses: &[IpAddr], heard: Instant) -> Self {
        let part = |family| {
            let of_family = addresses.iter().copied().filter(|ip| Family::of(*ip) == family);
            FamilyAnswer::new(family, of_family.collect(), heard)
        };
        Self { parts: vec![part(Family::V4), part(Family::V6)], late: None }
    }
}

/// A reason why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// A name server answered that the name or its addresses do not exist.
    #[error("{what}{}", by_whose_word(.asked, .servers))]
    Missing {
        /// The words for a missing name, or for missing addresses.
        what: &'static str,
        /// The names that were asked for, in order.
        asked: Vec<String>,
        /// The name servers, as text.
        servers: String,
    },
    /// The name servers failed to answer.
    #[error("{fault}, asked for {name:?}{}", of_file(.servers))]
    Failed {
        /// A description of the failure.
        fault: String,
        /// The name that was asked for, search domain included.
        name: String,
        /// The name servers, as text.
        servers: String,
    },
    /// No name server answered in time.
    #[error("no name server answered within {limit:?}, asked for {name:?}{}", of_file(.servers))]
    Silent {
        /// The time limit.
        limit: Duration,
        /// The name that was asked for, search domain included.
        name: String,
        /// The name servers, as text.
        servers: String,
    },
    /// No name server is configured.
    #[error("it is not in {hosts}, and there is no name server to ask: {file}: {reason}")]
    NoServers {
        /// The path of the hosts file.
        hosts: String,
        /// The path of the file that should name one.
        file: String,
        /// A description of that file's fault.
        reason: Arc<str>,
    },
}

/// Names the name servers that said that a name has no address, and the names that they were asked for, to follow that
/// fault in a text; empty if nothing was asked.
fn by_whose_word(asked: &[String], servers: &str) -> String {
    if asked.is_empty() {
        return String::new();
    }
    let names: Vec<_> = asked.iter().map(|name| format!("{name:?}")).collect();
    format!(", by the name server's word ({servers}, asked for {})", names.join(", then "))
}

fn of_file(servers: &str) -> String {
    format!("; the name servers of /etc/resolv.conf: {servers}")
}

/// The source of addresses.
#[derive(Clone)]
pub enum Resolver {
    /// The hosts file, `resolv.conf` and the name servers that it names.
    System(Arc<System>),
    /// A function in place of them: for tests, which need answers that change.
    Fixed(ResolveFn),
}

impl Resolver {
    /// Creates a resolver that uses the system's files.
    pub fn system() -> Self {
        Self::from_files("/etc/hosts".into(), "/etc/resolv.conf".into(), 53)
    }

    /// Creates a resolver that uses these files, and name servers on this port.
    pub fn from_files(hosts: PathBuf, resolv_conf: PathBuf, port: u16) -> Self {
        Self::System(Arc::new(System::new(hosts, resolv_conf, port)))
    }

    /// Resolves a name to addresses within the limit: at least one address, and the other family's part may come later.
    /// Fails if no address is known, not even an expired one.
    pub async fn look_up(&self, name: &str, limit: Duration) -> Result<Resolved, NameFault> {
        match self {
            Self::System(system) => system.look_up(name, limit).await,
            Self::Fixed(answers) => {
                let addresses = answers(name);
                if addresses.is_empty() {
                    let what = "it has no address";
                    return Err(NameFault::Missing { what, asked: vec![], servers: String::new() });
                }
                Ok(Resolved::given(&addresses, Instant::now()))
            }
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System(_) => "System",
            Self::Fixed(_) => "Fixed",
        })
    }
}

/// A question on its way; tasks of the same thread that have the same question wait for the same answer.
type SharedQuestion = Shared<BoxFuture<'static, Result<ServerAnswer, NoAnswer>>>;
type WeakQuestion = WeakShared<BoxFuture<'static, Result<ServerAnswer, NoAnswer>>>;

/// The configured name servers, or the reason why there are none.
type ServersOrError = Result<Arc<Servers>, Arc<str>>;

/// The system's name resolution: one for all threads.
pub struct System {
    hosts: Mutex<FollowedFile<Arc<Hosts>>>,
    servers: Mutex<FollowedFile<ServersOrError>>,
    port: u16,
    cache: Mutex<Cache>,
    /// The questions on their way, by thread, as a question ends with the thread that asked it.
    asking: Mutex<HashMap<(ThreadId, String, Family), WeakQuestion>>,
}

impl System {
    /// Creates the name resolution of these files, and of the name servers on this port. Nothing is read yet.
    fn new(hosts: PathBuf, resolv_conf: PathBuf, port: u16) -> Self {
        Self {
            hosts: Mutex::new(FollowedFile::new(hosts, Arc::default())),
            servers: Mutex::new(FollowedFile::new(resolv_conf, Err("it was not read".into()))),
            port,
            cache: Mutex::default(),
            asking: Mutex::default(),
        }
    }

    /// Resolves a name by the hosts file, the cache or the name servers, in this order. If no name server answers, an
    /// answer that expired up to ten minutes ago is used, and the name servers are not waited for in the next five
    /// seconds. If a name server says that the name has no address, the cache forgets the name. Fails then, and if
    /// there is no answer at all.
    async fn look_up(self: &Arc<Self>, name: &str, limit: Duration) -> Result<Resolved, NameFault> {
        let now = Instant::now();
        if let Some(addresses) = self.without_dns(name) {
            let mut answer = Resolved::given(&addresses, now);
            answer.parts.iter_mut().for_each(|part| part.fresh_until = Some(now));
            return Ok(answer);
        }
        let known = lock(&self.cache).get(name).cloned();
        if let Some(parts) = known.as_ref().and_then(|known| known.whole(now)) {
            return Ok(Resolved { parts, late: None });
        }
        let stale = known.as_ref().and_then(|known| known.stale(now));
        let old = || stale.clone().map(|parts| Resolved { parts, late: None });
        let servers = match self.servers() {
            Ok(servers) => servers,
            Err(fault) => return old().ok_or(fault),
        };
        if let Some(answer) = old().filter(|_| known.as_ref().is_some_and(|k| k.is_away(now))) {
            return Ok(answer);
        }
        let patience = if stale.is_some() { (limit / 4).min(BEFORE_STALE) } else { limit };
        let mut search = Search { system: self, servers, name, limit, asked: Vec::new() };
        let fault = match timeout(patience, search.answer(known.as_ref())).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(fault)) => fault,
            Err(_) => search.silent(),
        };
        if matches!(fault, NameFault::Missing { .. }) {
            lock(&self.cache).forget(name);
            return Err(fault);
        }
        lock(&self.servers).distrust();
        lock(&self.cache).note_away(name, Instant::now());
        old().ok_or(fault)
    }

    /// Returns addresses from the hosts file, or the loopback addresses for names that mean this machine by definition
    /// (RFC 6761 section 6.3); `None` for every name that DNS is to be asked for.
    fn without_dns(&self, name: &str) -> Option<Vec<IpAddr>> {
        let (hosts, _) = lock(&self.hosts).newest(Hosts::after);
        if let Some(addresses) = hosts.find(name) {
            return Some(addresses.to_vec());
        }
        let plain = undotted(name);
        let is_here = plain == "localhost" || plain.ends_with(".localhost");
        is_here.then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    }

    /// Returns the name servers, read anew if `resolv.conf` has changed; then the questions on their way are forgotten,
    /// to be asked again. Fails if none is known.
    fn servers(&self) -> Result<Arc<Servers>, NameFault> {
        let mut followed = lock(&self.servers);
        let known = followed.known().clone();
        let (servers, replaced) = followed.newest(|read| Servers::after(read, &known, self.port));
        if replaced {
            // Questions to the former name servers must be asked of these again.
            lock(&self.asking).clear();
        }
        let (hosts, file) = (lock(&self.hosts).path_text(), followed.path_text());
        servers.map_err(|reason| NameFault::NoServers { hosts, file, reason })
    }

    /// Returns a question on its way: a new one, or the same question of this thread. Forgets the questions that have
    /// ended.
    fn ask(
        &self,
        servers: &Arc<Servers>,
        name: &str,
        family: Family,
        pace: Duration,
    ) -> SharedQuestion {
        let mut asking = lock(&self.asking);
        asking.retain(|_, asking| asking.upgrade().is_some_and(|asking| asking.peek().is_none()));
        let key = (thread::current().id(), name.to_owned(), family);
        if let Some(same) = asking.get(&key).and_then(WeakShared::upgrade) {
            return same;
        }
        let new = ask(Arc::clone(servers), name.to_owned(), family, pace).boxed().shared();
        asking.extend(new.downgrade().map(|weak| (key, weak)));
        new
    }

    /// Caches a name server's answer for one family, and returns it; `None` if the answer has no part.
    fn keep(
        &self,
        name: &str,
        asked: &str,
        said: &Result<ServerAnswer, NoAnswer>,
    ) -> Option<FamilyAnswer> {
        let Ok(ServerAnswer::Addresses(part)) = said else { return None };
        lock(&self.cache).keep(name, asked, part.clone());
        Some(part.clone())
    }
}

/// A look-up of a name in DNS.
struct Search<'a> {
    system: &'a Arc<System>,
    servers: Arc<Servers>,
    /// The name as configured.
    name: &'a str,
    limit: Duration,
    /// The names that were asked for; the last one may not have been answered yet.
    asked: Vec<String>,
}

/// The time after which the next of several names is asked for again: if both exist, the earlier one is meant.
const PRECEDENCE: Duration = Duration::from_millis(50);

/// The result of asking for one candidate name.
enum CandidateResult {
    Addresses(Resolved),
    Missing(MissingKind),
    Failed(NoAnswer),
}

/// A name server's statement that a name has no address. Of several names the last in this order is reported: a name
/// that exists is more likely to be the one that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum MissingKind {
    NoName,
    NoAddress,
}

impl MissingKind {
    /// Returns the words for this statement in the text of a fault.
    const fn words(self) -> &'static str {
        match self {
            Self::NoName => "there is no such name",
            Self::NoAddress => "it has no address",
        }
    }
}

impl Search<'_> {
    /// Asks for each candidate name until one has addresses. A name without an answer is passed over after its share of
    /// the time: a name server that is asked for names of the outside world may be cut off from it. If no other name
    /// has addresses, those without an answer are asked for again, for as long as there is time: the name server may
    /// only be slow. Fails if each name is missing or its question failed; notes the names in `asked`.
    async fn answer(&mut self, known: Option<&CachedAnswers>) -> Result<Resolved, NameFault> {
        let candidates = self.candidates(known);
        let share = self.share(candidates.len());
        let (mut missing, mut failed, mut passed_over) = (None, None, Vec::new());
        let last = candidates.len().saturating_sub(1);
        for (index, candidate) in candidates.into_iter().enumerate() {
            self.asked.push(candidate.clone());
            let found = self.both(&candidate, known, pace(self.limit, share));
            let found = if index == last {
                found.await
            } else {
                timeout(share, found).await.unwrap_or(CandidateResult::Failed(NoAnswer::Silent))
            };
            match found {
                CandidateResult::Addresses(answer) => return Ok(answer),
                CandidateResult::Missing(what) => missing = missing.max(Some(what)),
                CandidateResult::Failed(NoAnswer::Silent) => passed_over.push(candidate),
                CandidateResult::Failed(fault) => failed = failed.or(Some((candidate, fault))),
            }
        }
        // The others have no address: the time that is left belongs to those that nobody has answered for. The first of
        // them is named last, because a fault names the last one.
        self.asked.extend(passed_over.iter().rev().cloned());
        let pace = pace(self.limit, share);
        let search = &*self;
        let again = passed_over.iter().zip(0..).map(|(name, before)| async move {
            sleep(PRECEDENCE * before).await;
            (name, search.both(name, known, pace).await)
        });
        let mut again: FuturesUnordered<_> = again.collect();
        while let Some((candidate, found)) = again.next().await {
            match found {
                CandidateResult::Addresses(answer) => return Ok(answer),
                CandidateResult::Missing(what) => missing = missing.max(Some(what)),
                CandidateResult::Failed(fault) => {
                    failed = failed.or(Some((candidate.clone(), fault)));
                }
            }
        }
        drop(again);
        Err(self.fault(missing, failed))
    }

    /// Returns the time for each of this number of names; the last one has two shares.
    fn share(&self, names: usize) -> Duration {
        self.limit / (names as u32 + 1)
    }

    /// Lists the names to ask for. If one family's part is known, the other's is asked for under the same name.
    fn candidates(&self, known: Option<&CachedAnswers>) -> Vec<String> {
        let now = Instant::now();
        let fresh = |known: &&CachedAnswers| {
            [Family::V4, Family::V6].into_iter().any(|family| known.fresh(family, now).is_some())
        };
        match known.filter(fresh) {
            Some(known) => vec![known.asked.clone()],
            None => self.servers.candidates(self.name),
        }
    }

    /// Asks for both families at once, waits as long as [`judge`] says, and caches what came. A family whose answer is
    /// still to come stays in the result as `late`. A failure is part of the result.
    async fn both(
        &self,
        candidate: &str,
        known: Option<&CachedAnswers>,
        pace: Duration,
    ) -> CandidateResult {
        let ask = |family| self.family(candidate, family, known, pace);
        let (mut v4, mut v6) = (ask(Family::V4), ask(Family::V6));
        let (mut said_v4, mut said_v6) = (None, None);
        let mut until = None;
        loop {
            match judge(said_v4.as_ref(), said_v6.as_ref()) {
                SearchStep::Wait => {}
                SearchStep::WaitALittle => {
                    until = until.or(Some(tokio::time::Instant::now() + OTHER_FAMILY));
                }
                SearchStep::Enough => break,
            }
            tokio::select! {
                said = &mut v4, if said_v4.is_none() => said_v4 = Some(said),
                said = &mut v6, if said_v6.is_none() => said_v6 = Some(said),
                () = sleep_until(until.unwrap_or_else(tokio::time::Instant::now)), if until.is_some() => break,
            }
        }
        let late = [(&said_v4, v4), (&said_v6, v6)].into_iter().find(|(said, _)| said.is_none());
        let late = late.map(|(_, asking)| self.late(candidate, asking));
        self.found(candidate, [said_v4, said_v6], late)
    }

    /// Returns the question for one family's addresses; answered already if the cache has them, or if IPv6 is not to be
    /// asked for.
    fn family(
        &self,
        candidate: &str,
        family: Family,
        known: Option<&CachedAnswers>,
        pace: Duration,
    ) -> SharedQuestion {
        let now = Instant::now();
        let kept = known.and_then(|known| known.fresh(family, now)).cloned();
        let nothing = || FamilyAnswer::new(family, Vec::new(), now);
        let kept = kept.or_else(|| (self.servers.no_ipv6 && family == Family::V6).then(nothing));
        match kept {
            Some(part) => ready(Ok(ServerAnswer::Addresses(part))).boxed().shared(),
            None => self.system.ask(&self.servers, candidate, family, pace),
        }
    }

    /// Returns a future that waits for the answer about the family that is still missing, caches its part, and returns
    /// the part; `None` if the answer has none.
    fn late(
        &self,
        candidate: &str,
        asking: SharedQuestion,
    ) -> BoxFuture<'static, Option<FamilyAnswer>> {
        let (system, name) = (Arc::clone(self.system), self.name.to_owned());
        let candidate = candidate.to_owned();
        async move { system.keep(&name, &candidate, &asking.await) }.boxed()
    }

    /// Caches the answers of both families, and returns what they say together: addresses if there are any, else that
    /// the name is missing, else the first failure.
    fn found(
        &self,
        candidate: &str,
        said: [Option<Result<ServerAnswer, NoAnswer>>; 2],
        late: Option<BoxFuture<'static, Option<FamilyAnswer>>>,
    ) -> CandidateResult {
        let said: Vec<_> = said.into_iter().flatten().collect();
        let parts: Vec<_> =
            said.iter().filter_map(|said| self.system.keep(self.name, candidate, said)).collect();
        if parts.iter().any(|part| !part.addresses.is_empty()) {
            return CandidateResult::Addresses(Resolved { parts, late });
        }
        if said.contains(&Ok(ServerAnswer::NoName)) {
            return CandidateResult::Missing(MissingKind::NoName);
        }
        match said.into_iter().find_map(Result::err) {
            Some(fault) => CandidateResult::Failed(fault),
            None => CandidateResult::Missing(MissingKind::NoAddress),
        }
    }

    /// Returns the fault of a name without addresses: the first question that failed if there is one, else that the
    /// name or its addresses are missing.
    fn fault(&self, missing: Option<MissingKind>, failed: Option<(String, NoAnswer)>) -> NameFault {
        let servers = self.servers.told();
        match (failed, missing) {
            (Some((name, fault)), _) => {
                NameFault::Failed { fault: fault.to_string(), name, servers }
            }
            (None, missing) => {
                let what = missing.unwrap_or(MissingKind::NoAddress).words();
                NameFault::Missing { what, asked: self.asked.clone(), servers }
            }
        }
    }

    /// Creates the fault for a time limit that was reached without an answer.
    fn silent(&self) -> NameFault {
        let name = self.asked.last().map_or(self.name, String::as_str).to_owned();
        NameFault::Silent { limit: self.limit, name, servers: self.servers.told() }
    }
}

/// The next step, given the answers that have come.
#[derive(Debug, PartialEq, Eq)]
enum SearchStep {
    /// Wait: no answer has come that allows a dial.
    Wait,
    /// Wait for [`OTHER_FAMILY`] at most: an answer has come that suffices, and the other family's may still come.
    WaitALittle,
    /// Go on: no more answers will come.
    Enough,
}

/// Decides whether the other family's answer is waited for (RFC 8305 section 3).
fn judge(
    one: Option<&Result<ServerAnswer, NoAnswer>>,
    other: Option<&Result<ServerAnswer, NoAnswer>>,
) -> SearchStep {
    match (one, other) {
        (None, None) => SearchStep::Wait,
        (Some(_), Some(_)) => SearchStep::Enough,
        (Some(said), None) | (None, Some(said)) => match said {
            Ok(ServerAnswer::Addresses(part)) if !part.addresses.is_empty() => {
                SearchStep::WaitALittle
            }
            // By rights this holds for the other family too; but some name servers answer this for a family that they
            // do not know (RFC 4074 section 4.2).
            Ok(ServerAnswer::NoName) => SearchStep::WaitALittle,
            _ => SearchStep::Wait,
        },
    }
}

/// Returns the time after which a question is sent again: an eighth of the limit, and early enough for another try
/// within its share.
fn pace(limit: Duration, share: Duration) -> Duration {
    (limit / 8).min(share / 3).clamp(PACE.0, PACE.1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
