//! The proxies that a load goes through, as a trait; Warmline, inside this process, is the one implemented here.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Instant,
};

use serde_json::{Value, json};
use warmline::pool::Pool;

use crate::{
    faults::{Change, Run},
    history::Account,
    origin::Upstream,
    support::{
        key_format::KeyFormat,
        setup::{Following, Setup},
        wait_for,
    },
};

/// A proxy that carries requests to the upstreams.
pub trait Proxy: Sync {
    /// Returns the address at which clients connect.
    fn address(&self) -> SocketAddr;

    /// Takes a sample of the numbers of open connections; called again and again while the load runs.
    fn look(&self) {}

    /// Makes the next of the run's changes; controls do nothing.
    fn change(&self, _change: Change, _upstreams: &[Upstream]) {}

    /// Ends the proxy and returns its own counts; `None` for controls.
    fn finish(self: Box<Self>) -> Option<Account>;
}

/// A function that starts a proxy before these upstreams.
pub type Start = fn(&Run, &[Upstream], threads: usize) -> Box<dyn Proxy>;

/// `retries.max` + 1: the most times that a request is sent. More than the default, so that it is too rare to be seen
/// that a GET first meets an idle close and is then reset at every retry; the logs could not tell such a GET from a
/// lost one.
pub const ATTEMPTS: usize = 6;

struct Warmline {
    running: Following,
    upstreams: Vec<Changing>,
    most: Mutex<usize>,
    /// The number of changes made so far.
    changes: Mutex<usize>,
    /// The number of origins' certificates that were seen and verified before others replaced them.
    servers: AtomicU64,
}

/// An upstream of Warmline's whose client certificate may rotate.
struct Changing {
    /// The upstream's name in the configuration.
    name: String,
    /// The client certificates: chain and key of each, in PEM.
    identities: Vec<[String; 2]>,
}

/// Starts Warmline with its default settings, except for the cap and [`ATTEMPTS`].
pub fn warmline(run: &Run, upstreams: &[Upstream], threads: usize) -> Box<dyn Proxy> {
    let start = Setup::new().set_global("threads", threads);
    let setup = upstreams.iter().fold(start, |setup, upstream| {
        let endpoint = format!("127.0.0.1:{}", upstream.origin.port());
        let setup = setup.upstream_at(&upstream.name.replace('.', "-"), &endpoint);
        let setup = setup.trust_pem(&upstream.trust_pem());
        let setup = setup.identity(&upstream.identities[0]).set("hosts", vec![upstream.name]);
        let setup = setup.set("tls.serverName", upstream.name);
        setup.set("pool.maxConnections", run.cap).set("retries.max", ATTEMPTS - 1)
    });
    let upstreams = upstreams.iter().map(|upstream| {
        let identities = upstream.identities.iter();
        let pair = identities.map(|one| [one.chain_pem(), one.key_pem(KeyFormat::Pkcs8)]);
        Changing { name: upstream.name.replace('.', "-"), identities: pair.collect() }
    });
    Box::new(Warmline {
        upstreams: upstreams.collect(),
        running: setup.start_following(),
        most: Mutex::default(),
        changes: Mutex::default(),
        servers: AtomicU64::default(),
    })
}

impl Proxy for Warmline {
    fn address(&self) -> SocketAddr {
        self.running.address()
    }

    fn look(&self) {
        let pools = self.upstreams.iter().map(|upstream| self.running.pool(&upstream.name));
        let mut most = self.most.lock().expect("nothing panics inside");
        *most = pools.map(|pool| pool.census.total()).fold(*most, usize::max);
    }

    fn change(&self, change: Change, upstreams: &[Upstream]) {
        let mut changes = self.changes.lock().expect("nothing panics inside");
        *changes += 1;
        match change {
            Change::Identities => self.rotate(*changes),
            Change::Configuration => self.flip(*changes),
            Change::Servers => self.rotate_server(*changes, upstreams),
        }
    }

    fn finish(self: Box<Self>) -> Option<Account> {
        let requests = self.running.metric("warmline_requests_total", &[]);
        let changes = self.running.reloads("applied") + self.running.rotations("applied");
        let changes = changes + self.servers.load(SeqCst);
        let upstreams = self.upstreams.iter().map(|upstream| self.running.upstream(&upstream.name));
        let upstreams: Vec<_> = upstreams.collect();
        let pools = || upstreams.iter().map(|upstream| upstream.pool());
        let dialling = |pool: &Pool<_, _>| pool.snapshot(Instant::now()).census.connecting > 0;
        // A dial whose waiter was served by another connection counts only once it is done; the drain would abort it.
        wait_for("the last dial's end", || !pools().any(|pool| dialling(pool)));
        self.running.shutdown();
        self.running.warmline.join();
        let left = pools().map(|pool| pool.snapshot(Instant::now()));
        let left = left.map(|pool| pool.census.total() + pool.queued).sum();
        let opened = pools().map(|pool| pool.counters().opened.get()).collect();
        let most = self.most.into_inner().expect("nothing panics inside");
        Some(Account { most, left, opened, requests, changes })
    }
}

impl Warmline {
    /// Replaces the client certificate of the next upstream in turn by its next one, the key's file first.
    fn rotate(&self, turn: usize) {
        let (place, round) = (turn % self.upstreams.len(), turn / self.upstreams.len());
        let identities = &self.upstreams[place].identities;
        let [chain, key] = &identities[round % identities.len()];
        let files = &self.running.document["upstreams"][place]["tls"]["identity"];
        let path = |file: &str| Path::new(files[file].as_str().expect("a path")).to_owned();
        replace(&path("key"), key);
        replace(&path("certificate"), chain);
    }

    /// Has the next origin in turn show another certificate; counts the last one if Warmline has verified it.
    fn rotate_server(&self, turn: usize, upstreams: &[Upstream]) {
        let place = turn % upstreams.len();
        let seen = self.running.upstream(&self.upstreams[place].name).shown();
        if seen.is_some_and(|chain| chain[0].as_ref() == upstreams[place].shown()) {
            self.servers.fetch_add(1, SeqCst);
        }
        upstreams[place].show_next();
    }

    /// Writes another configuration: numbers of the pools change every time, `tls.minVersion` of the first upstream
    /// every second time.
    fn flip(&self, turn: usize) {
        let mut document: Value = self.running.document.clone();
        for upstream in document["upstreams"].as_array_mut().expect("a list") {
            upstream["pool"]["purgeDelay"] = json!(format!("{}s", 20 + turn % 7));
            upstream["pool"]["maxIdle"] = json!([-1, 3][turn % 2]);
            upstream["timeouts"]["response"] = json!(format!("{}s", 20 + turn % 5));
        }
        document["upstreams"][0]["tls"]["minVersion"] = json!(["1.2", "1.3"][turn / 2 % 2]);
        replace(&self.running.path, &document.to_string());
    }
}

/// Replaces a file by a rename, so that no reader sees it half-written.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("beside");
    fs::write(&beside, text).expect("the test's folder can be written to");
    fs::rename(&beside, path).expect("it takes the file's place");
}
