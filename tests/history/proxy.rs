//! What carries the load; here Warmline, inside this process.

use std::{net::SocketAddr, sync::Mutex, time::Instant};

use warmline::pool::Pool;

use crate::{
    faults::Run,
    history::Account,
    origin::Upstream,
    support::{running::Running, setup::Setup, wait_for},
};

/// Something that carries requests to the upstreams.
pub trait Proxy: Sync {
    /// Where clients connect.
    fn address(&self) -> SocketAddr;

    /// Looks at its connections; called again and again while the load runs.
    fn look(&self) {}

    /// Ends it; answers its own account, if it keeps one.
    fn finish(self: Box<Self>) -> Option<Account>;
}

/// How to start one before these upstreams.
pub type Start = fn(&Run, &[Upstream], threads: usize) -> Box<dyn Proxy>;

/// Requests are sent at most so often: more than the default, so that a GET whose first attempt met an idle close, and
/// whose others were all reset, is too rare to be seen. The logs could not tell it from a lost one.
pub const ATTEMPTS: usize = 6;

struct Warmline {
    running: Running,
    upstreams: Vec<&'static str>,
    most: Mutex<usize>,
}

/// Warmline, its numbers as users get them but for the cap and [`ATTEMPTS`].
pub fn warmline(run: &Run, upstreams: &[Upstream], threads: usize) -> Box<dyn Proxy> {
    let start = Setup::new().set_global("threads", threads);
    let setup = upstreams.iter().fold(start, |setup, upstream| {
        let endpoint = format!("127.0.0.1:{}", upstream.origin.port());
        let name = upstream.name.replace('.', "-");
        let setup = setup.upstream_at(&name, &endpoint).identity(&upstream.identity);
        let setup = setup.set("hosts", vec![upstream.name]).set("tls.serverName", upstream.name);
        setup.set("pool.maxConnections", run.cap).set("retries.max", ATTEMPTS - 1)
    });
    let upstreams = upstreams.iter().map(|upstream| upstream.name).collect();
    Box::new(Warmline { running: setup.start(), upstreams, most: Mutex::default() })
}

impl Proxy for Warmline {
    fn address(&self) -> SocketAddr {
        self.running.address()
    }

    fn look(&self) {
        let totals = self.names().map(|name| self.running.pool(&name).census.total());
        let mut most = self.most.lock().expect("nothing panics inside");
        *most = totals.fold(*most, usize::max);
    }

    fn finish(self: Box<Self>) -> Option<Account> {
        let requests = self.running.metric("warmline_requests_total", &[]);
        let upstreams: Vec<_> = self.names().map(|name| self.running.upstream(&name)).collect();
        let pools = || upstreams.iter().map(|upstream| upstream.pool());
        let dialling = |pool: &Pool<_, _>| pool.snapshot(Instant::now()).census.connecting > 0;
        // A dial whose waiter was served otherwise is counted once it is done; the drain would break it off.
        wait_for("the last dial's end", || !pools().any(|pool| dialling(pool)));
        self.running.shutdown();
        self.running.join();
        let left = pools().map(|pool| pool.snapshot(Instant::now()));
        let left = left.map(|pool| pool.census.total() + pool.queued).sum();
        let opened = pools().map(|pool| pool.counters().opened.get()).collect();
        let most = self.most.into_inner().expect("nothing panics inside");
        Some(Account { most, left, opened, requests })
    }
}

impl Warmline {
    fn names(&self) -> impl Iterator<Item = String> {
        self.upstreams.iter().map(|name| name.replace('.', "-"))
    }
}
