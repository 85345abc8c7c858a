//! Warmline, running inside the test's process, and what it says of itself.

use std::{
    net::SocketAddr,
    panic,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use serde_json::Value;
use tempfile::TempDir;
use warmline::{app, pool::Snapshot, upstream::Upstream};

use super::{
    client::{Client, Response},
    origin,
    setup::compile,
    wait_for,
};

/// A running Warmline; dropped, it ends at once.
pub struct Running {
    /// None once it was joined.
    app: Option<app::Running>,
    /// The configuration's files, until the end.
    _folder: TempDir,
}

/// Set when a thread of Warmline's panicked: tokio keeps a task's panic to itself.
static PANICKED: AtomicBool = AtomicBool::new(false);
static WATCH: Once = Once::new();

/// From now on a panic on a thread of Warmline's fails whichever test ends next.
fn watch_for_panics() {
    WATCH.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let name = thread::current().name().map(str::to_owned).unwrap_or_default();
            if name.starts_with("worker-") || ["operations", "watch"].contains(&&*name) {
                PANICKED.store(true, Relaxed);
            }
            usual(info);
        }));
    });
}

impl Running {
    pub(super) fn new(app: app::Running, folder: TempDir) -> Self {
        watch_for_panics();
        Self { app: Some(app), _folder: folder }
    }

    /// The first listener.
    pub fn address(&self) -> SocketAddr {
        self.app().listeners()[0]
    }

    /// Every address that takes traffic.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.app().listeners()
    }

    /// A client's connection to the first listener.
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// A client that has sent a GET, and has yet to read.
    pub fn ask(&self, target: &str) -> Client {
        let mut client = self.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", origin::NAME));
        client
    }

    /// One GET over a client connection of its own, which the client asks to close.
    pub fn one_shot(&self, target: &str) -> Response {
        let mut client = self.connect();
        let host = origin::NAME;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        client.response()
    }

    /// A page of the address for metrics and health.
    pub fn health(&self, path: &str) -> Response {
        Client::connect(self.app().metrics()[0]).get("localhost", path)
    }

    /// Where metrics and health listen.
    pub fn metrics_address(&self) -> SocketAddr {
        self.app().metrics()[0]
    }

    /// Where administration listens.
    pub fn administration(&self) -> SocketAddr {
        self.app().admin()[0]
    }

    /// A page of administration.
    pub fn admin(&self, path: &str) -> Response {
        Client::connect(self.app().admin()[0]).get("localhost", path)
    }

    /// The sum of all series of this metric that carry these labels.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let page = self.health("/metrics").text();
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let series = page.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, inside) = series.split_once('{').unwrap_or((series, ""));
            let fits = found == name && labels.iter().all(|label| inside.contains(label));
            fits.then(|| value.parse::<f64>().expect("a number"))
        });
        #[allow(clippy::cast_sign_loss, reason = "counters and gauges of counts")]
        let sum = series.sum::<f64>() as u64;
        sum
    }

    /// Counts the connections that left their pools for this reason.
    pub fn closed(&self, reason: &str) -> u64 {
        self.metric("warmline_pool_connections_closed_total", &[("reason", reason)])
    }

    /// Waits until they are so many: a connection is counted when its socket is gone, which its peer and its client do not wait for.
    pub fn wait_for_closed(&self, reason: &str, count: u64) {
        wait_for("the count of its reason", || self.closed(reason) >= count);
        assert_eq!(self.closed(reason), count, "{reason}");
    }

    /// The pool of this upstream at this moment.
    pub fn pool(&self, upstream: &str) -> Snapshot {
        self.upstream(upstream).pool().snapshot(Instant::now())
    }

    /// This upstream, to be looked at when everything has ended, too.
    pub fn upstream(&self, name: &str) -> Arc<Upstream> {
        self.app().upstream(name).expect("the upstream is configured")
    }

    /// Waits until the pool of `origin` fulfils the condition.
    pub fn wait_for_pool(&self, what: &str, condition: impl Fn(&Snapshot) -> bool) {
        wait_for(what, || condition(&self.pool("origin")));
    }

    /// Puts this configuration in force within the process, whoever follows its file.
    pub fn reconfigure(&self, document: &Value) {
        let text = document.to_string();
        let plan = compile(&text).unwrap_or_else(|errors| panic!("{errors}"));
        let changed = self.app().reconfigure(plan, text.len().to_string());
        changed.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Begins the drain.
    pub fn shutdown(&self) {
        self.app().shutdown();
    }

    /// Waits until everything has ended.
    pub fn join(mut self) {
        let app = self.app.take().expect("it was not joined before");
        app.join();
    }

    fn app(&self) -> &app::Running {
        self.app.as_ref().expect("it was not joined before")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(app) = self.app.take() {
            app.abort();
            app.join();
        }
        assert!(thread::panicking() || !PANICKED.load(Relaxed), "Warmline panicked");
    }
}
