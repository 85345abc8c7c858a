//! Names to addresses, at connect time: the hosts file, else DNS.
//!
//! Which names are asked for, in which order, says [`servers`]; one question to the name servers is [`question`], what is
//! remembered of the answers [`cache`].

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
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared, ready},
};
use tokio::time::{sleep_until, timeout};

pub use cache::by_turns;
use cache::{Cache, Known};
use file::Followed;
use hosts::{Hosts, undotted};
use question::{Fault, Said, ask};
use servers::Servers;

/// The time for which the other family's answer is waited for once there are addresses (RFC 8305 section 3).
const OTHER_FAMILY: Duration = Duration::from_millis(50);
/// The longest time for which an answer is waited for where an old one could be used.
const BEFORE_STALE: Duration = Duration::from_secs(1);
/// The shortest and the longest time after which a question without an answer is asked again.
const PACE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Addresses of one family that are taken from an answer.
pub const ADDRESSES: usize = 128;

/// A function from names to addresses.
pub type Answers = Arc<dyn Fn(&str) -> Vec<IpAddr> + Send + Sync>;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// A family's part of a name's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The family.
    pub family: Family,
    /// The addresses; none where the name has none of this family.
    pub addresses: Vec<IpAddr>,
    /// The time at which a name server said so; answers that were kept are told from new ones by this.
    pub heard: Instant,
    /// The end of its time to live; without one it lasts as long as the other family's.
    pub fresh_until: Option<Instant>,
}

impl Part {
    /// Makes a part without a time to live of its own; of very many addresses the first ones.
    pub fn new(family: Family, mut addresses: Vec<IpAddr>, heard: Instant) -> Self {
        addresses.truncate(ADDRESSES);
        Self { family, addresses, heard, fresh_until: None }
    }
}

/// A name's addresses, at least one, as far as they are known.
pub struct Answer {
    /// The parts heard so far.
    pub parts: Vec<Part>,
    /// The other family, where it is not known yet.
    pub late: Option<BoxFuture<'static, Option<Part>>>,
}

impl Answer {
    /// Answers with addresses that are known without DNS, for both families.
    pub fn given(addresses: &[IpAddr], heard: Instant) -> Self {
        let part = |family| {
            let of_family = addresses.iter().copied().filter(|ip| Family::of(*ip) == family);
            Part::new(family, of_family.collect(), heard)
        };
        Self { parts: vec![part(Family::V4), part(Family::V6)], late: None }
    }
}

/// A reason why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// The name servers say so.
    #[error("{what}{}", by_whose_word(.asked, .servers))]
    Missing {
        /// The words for a missing name, or for missing addresses.
        what: &'static str,
        /// Each name that was asked for.
        asked: Vec<String>,
        /// The name servers.
        servers: String,
    },
    /// The name servers could not say.
    #[error("{fault}, asked for {name:?}{}", of_file(.servers))]
    Failed {
        /// The question's fate.
        fault: String,
        /// The name that was asked for, search domain included.
        name: String,
        /// The name servers.
        servers: String,
    },
    /// No name server answered in time.
    #[error("no name server answered within {limit:?}, asked for {name:?}{}", of_file(.servers))]
    Silent {
        /// The limit.
        limit: Duration,
        /// The name that was asked for, search domain included.
        name: String,
        /// The name servers.
        servers: String,
    },
    /// There is nobody to ask.
    #[error("it is not in {hosts}, and there is no name server to ask: {file}: {reason}")]
    NoServers {
        /// The hosts file.
        hosts: String,
        /// The file that should name one.
        file: String,
        /// The fault of that file.
        reason: Arc<str>,
    },
}

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
    Fixed(Answers),
}

impl Resolver {
    /// Resolves as the system does.
    pub fn system() -> Self {
        Self::from_files("/etc/hosts".into(), "/etc/resolv.conf".into(), 53)
    }

    /// The same with other files, and name servers on another port.
    pub fn from_files(hosts: PathBuf, resolv_conf: PathBuf, port: u16) -> Self {
        Self::System(Arc::new(System::new(hosts, resolv_conf, port)))
    }

    /// Finds a name's addresses within the limit.
    pub async fn look_up(&self, name: &str, limit: Duration) -> Result<Answer, NameFault> {
        match self {
            Self::System(system) => system.look_up(name, limit).await,
            Self::Fixed(answers) => {
                let addresses = answers(name);
                if addresses.is_empty() {
                    let what = "it has no address";
                    return Err(NameFault::Missing { what, asked: vec![], servers: String::new() });
                }
                Ok(Answer::given(&addresses, Instant::now()))
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

/// A question on its way; whoever on this thread has the same one waits for the same answer.
type Asking = Shared<BoxFuture<'static, Result<Said, Fault>>>;
type WeakAsking = WeakShared<BoxFuture<'static, Result<Said, Fault>>>;

/// The name servers, or why there are none.
type Configured = Result<Arc<Servers>, Arc<str>>;

/// The system's names: one for all threads.
pub struct System {
    hosts: Mutex<Followed<Arc<Hosts>>>,
    servers: Mutex<Followed<Configured>>,
    port: u16,
    cache: Mutex<Cache>,
    /// By thread, as a question ends with the thread that asked it.
    asking: Mutex<HashMap<(ThreadId, String, Family), WeakAsking>>,
}

impl System {
    fn new(hosts: PathBuf, resolv_conf: PathBuf, port: u16) -> Self {
        Self {
            hosts: Mutex::new(Followed::new(hosts, Arc::default())),
            servers: Mutex::new(Followed::new(resolv_conf, Err("it was not read".into()))),
            port,
            cache: Mutex::default(),
            asking: Mutex::default(),
        }
    }

    async fn look_up(self: &Arc<Self>, name: &str, limit: Duration) -> Result<Answer, NameFault> {
        let now = Instant::now();
        if let Some(addresses) = self.without_dns(name) {
            let mut answer = Answer::given(&addresses, now);
            answer.parts.iter_mut().for_each(|part| part.fresh_until = Some(now));
            return Ok(answer);
        }
        let known = lock(&self.cache).get(name).cloned();
        if let Some(parts) = known.as_ref().and_then(|known| known.whole(now)) {
            return Ok(Answer { parts, late: None });
        }
        let stale = known.as_ref().and_then(|known| known.stale(now));
        let old = || stale.clone().map(|parts| Answer { parts, late: None });
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

    /// Finds addresses in the hosts file, or of names that mean this machine by definition (RFC 6761 section 6.3).
    fn without_dns(&self, name: &str) -> Option<Vec<IpAddr>> {
        let (hosts, _) = lock(&self.hosts).newest(Hosts::after);
        if let Some(addresses) = hosts.find(name) {
            return Some(addresses.to_vec());
        }
        let plain = undotted(name);
        let is_here = plain == "localhost" || plain.ends_with(".localhost");
        is_here.then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    }

    fn servers(&self) -> Result<Arc<Servers>, NameFault> {
        let mut followed = lock(&self.servers);
        let known = followed.known().clone();
        let (servers, replaced) = followed.newest(|read| Servers::after(read, &known, self.port));
        if replaced {
            // What those before were asked is asked again of these.
            lock(&self.asking).clear();
        }
        let (hosts, file) = (lock(&self.hosts).path_text(), followed.path_text());
        servers.map_err(|reason| NameFault::NoServers { hosts, file, reason })
    }

    /// Asks a question, unless it is on its way already.
    fn ask(&self, servers: &Arc<Servers>, name: &str, family: Family, pace: Duration) -> Asking {
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

    /// Remembers what a name server said of a family.
    fn keep(&self, name: &str, asked: &str, said: &Result<Said, Fault>) -> Option<Part> {
        let Ok(Said::Part(part)) = said else { return None };
        lock(&self.cache).keep(name, asked, part.clone());
        Some(part.clone())
    }
}

/// A look-up in DNS.
struct Search<'a> {
    system: &'a Arc<System>,
    servers: Arc<Servers>,
    /// As configured.
    name: &'a str,
    limit: Duration,
    /// Each name that was asked for, the last one as yet without an answer.
    asked: Vec<String>,
}

/// The result of asking for one name.
enum Found {
    Addresses(Answer),
    /// There is no such name, or it has no address: the words for it.
    Missing(&'static str),
    Failed(Fault),
}

impl Search<'_> {
    /// Asks for each name that may be meant, until one has addresses. One that nobody answers for is passed over after its
    /// share of the time: a name server that is asked for names of the world outside may be cut off from it.
    async fn answer(&mut self, known: Option<&Known>) -> Result<Answer, NameFault> {
        let candidates = self.candidates(known);
        let share = self.share(candidates.len());
        let (mut missing, mut failed) = (None, None);
        let last = candidates.len().saturating_sub(1);
        for (index, candidate) in candidates.into_iter().enumerate() {
            self.asked.push(candidate.clone());
            let found = self.both(&candidate, known, pace(self.limit, share));
            let found = if index == last {
                found.await
            } else {
                timeout(share, found).await.unwrap_or(Found::Failed(Fault::Silent))
            };
            match found {
                Found::Addresses(answer) => return Ok(answer),
                Found::Missing(what) => missing = Some(what),
                Found::Failed(fault) => failed = failed.or(Some((candidate, fault))),
            }
        }
        Err(self.fault(missing, failed))
    }

    /// Computes the time for one of so many names, where the last one has two shares.
    fn share(&self, names: usize) -> Duration {
        self.limit / (names as u32 + 1)
    }

    /// Lists the names to ask for. With one family's part known, the other's is asked for under the same name.
    fn candidates(&self, known: Option<&Known>) -> Vec<String> {
        let now = Instant::now();
        let fresh = |known: &&Known| {
            [Family::V4, Family::V6].into_iter().any(|family| known.fresh(family, now).is_some())
        };
        match known.filter(fresh) {
            Some(known) => vec![known.asked.clone()],
            None => self.servers.candidates(self.name),
        }
    }

    /// Asks for both families at once.
    async fn both(&self, candidate: &str, known: Option<&Known>, pace: Duration) -> Found {
        let ask = |family| self.family(candidate, family, known, pace);
        let (mut v4, mut v6) = (ask(Family::V4), ask(Family::V6));
        let (mut said_v4, mut said_v6) = (None, None);
        let mut until = None;
        loop {
            match judge(said_v4.as_ref(), said_v6.as_ref()) {
                Next::Wait => {}
                Next::WaitALittle => {
                    until = until.or(Some(tokio::time::Instant::now() + OTHER_FAMILY));
                }
                Next::Enough => break,
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

    fn family(
        &self,
        candidate: &str,
        family: Family,
        known: Option<&Known>,
        pace: Duration,
    ) -> Asking {
        let now = Instant::now();
        let kept = known.and_then(|known| known.fresh(family, now)).cloned();
        let nothing = || Part::new(family, Vec::new(), now);
        let kept = kept.or_else(|| (self.servers.no_ipv6 && family == Family::V6).then(nothing));
        match kept {
            Some(part) => ready(Ok(Said::Part(part))).boxed().shared(),
            None => self.system.ask(&self.servers, candidate, family, pace),
        }
    }

    /// Keeps the other family's part when it comes, and hands it on.
    fn late(&self, candidate: &str, asking: Asking) -> BoxFuture<'static, Option<Part>> {
        let (system, name) = (Arc::clone(self.system), self.name.to_owned());
        let candidate = candidate.to_owned();
        async move { system.keep(&name, &candidate, &asking.await) }.boxed()
    }

    fn found(
        &self,
        candidate: &str,
        said: [Option<Result<Said, Fault>>; 2],
        late: Option<BoxFuture<'static, Option<Part>>>,
    ) -> Found {
        let said: Vec<_> = said.into_iter().flatten().collect();
        let parts: Vec<_> =
            said.iter().filter_map(|said| self.system.keep(self.name, candidate, said)).collect();
        if parts.iter().any(|part| !part.addresses.is_empty()) {
            return Found::Addresses(Answer { parts, late });
        }
        if said.contains(&Ok(Said::NoName)) {
            return Found::Missing("there is no such name");
        }
        match said.into_iter().find_map(Result::err) {
            Some(fault) => Found::Failed(fault),
            None => Found::Missing("it has no address"),
        }
    }

    fn fault(&self, missing: Option<&'static str>, failed: Option<(String, Fault)>) -> NameFault {
        let servers = self.servers.told();
        match (failed, missing) {
            (Some((name, fault)), _) => {
                NameFault::Failed { fault: fault.to_string(), name, servers }
            }
            (None, missing) => {
                let what = missing.unwrap_or("it has no address");
                NameFault::Missing { what, asked: self.asked.clone(), servers }
            }
        }
    }

    /// Makes the fault of a limit that came first.
    fn silent(&self) -> NameFault {
        let name = self.asked.last().map_or(self.name, String::as_str).to_owned();
        NameFault::Silent { limit: self.limit, name, servers: self.servers.told() }
    }
}

/// The next step, by the answers that are there.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Nothing can be dialled yet.
    Wait,
    /// There is something to go by, and the other family may still come.
    WaitALittle,
    /// There is nothing more to come.
    Enough,
}

/// Decides whether the other family's answer is waited for (RFC 8305 section 3).
fn judge(one: Option<&Result<Said, Fault>>, other: Option<&Result<Said, Fault>>) -> Next {
    match (one, other) {
        (None, None) => Next::Wait,
        (Some(_), Some(_)) => Next::Enough,
        (Some(said), None) | (None, Some(said)) => match said {
            Ok(Said::Part(part)) if !part.addresses.is_empty() => Next::WaitALittle,
            // By rights that goes for the other family too; but some name servers say so of one they do not know
            // (RFC 4074 section 4.2).
            Ok(Said::NoName) => Next::WaitALittle,
            _ => Next::Wait,
        },
    }
}

/// Computes after which time a question is asked again: an eighth of what there is, and early enough for another time
/// within its share.
fn pace(limit: Duration, share: Duration) -> Duration {
    (limit / 8).min(share / 3).clamp(PACE.0, PACE.1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
