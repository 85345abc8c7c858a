//! Warmline, running inside the test's process, and its metrics and pages.

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

/// A running Warmline; it ends at once when dropped.
pub struct Running {
    /// The running application; `None` once it was joined.
    app: Option<app::Running>,
    /// The folder with the configuration's files, kept until the end.
    _folder: TempDir,
}

/// True once a thread of Warmline's has panicked; tokio keeps the panic of a task to itself.
static PANICKED: AtomicBool = AtomicBool::new(false);
static WATCH: Once = Once::new();

/// Has every later panic on a thread of Warmline's fail the test that ends next.
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

    /// Returns the address of the first listener.
    pub fn address(&self) -> SocketAddr {
        self.app().listeners()[0]
    }

    /// Returns every address for traffic.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.app().listeners()
    }

    /// Connects a client to the first listener.
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// Connects a client and sends a GET, whose response is still to be read.
    pub fn ask(&self, target: &str) -> Client {
        let mut client = self.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", origin::NAME));
        client
    }

    /// Sends a GET with `Connection: close` over a new client connection.
    pub fn one_shot(&self, target: &str) -> Response {
        let mut client = self.connect();
        let host = origin::NAME;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        client.response()
    }

    /// Gets a page from the address for metrics and health.
    pub fn health(&self, path: &str) -> Response {
        Client::connect(self.app().metrics()[0]).get("localhost", path)
    }

    /// Returns the address for metrics and health.
    pub fn metrics_address(&self) -> SocketAddr {
        self.app().metrics()[0]
    }

    /// Returns the address for administration.
    pub fn administration(&self) -> SocketAddr {
        self.app().admin()[0]
    }

    /// Gets a page from the address for administration.
    pub fn admin(&self, path: &str) -> Response {
        Client::connect(self.app().admin()[0]).get("localhost", path)
    }

    /// Returns the sum of all series of this metric that have these labels.
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

    /// Returns the number of connections that left their pools for this reason.
    pub fn closed(&self, reason: &str) -> u64 {
        self.metric("warmline_pool_connections_closed_total", &[("reason", reason)])
    }

    /// Waits until `count` connections were closed for this reason. A connection is counted when its socket is gone,
    /// which may be after both of its peers have seen its end.
    pub fn wait_for_closed(&self, reason: &str, count: u64) {
        wait_for("the count of its reason", || self.closed(reason) >= count);
        assert_eq!(self.closed(reason), count, "{reason}");
    }

    /// Returns a snapshot of this upstream's pool.
    pub fn pool(&self, upstream: &str) -> Snapshot {
        self.upstream(upstream).pool().snapshot(Instant::now())
    }

    /// Returns this upstream, which can still be inspected after everything has ended.
    pub fn upstream(&self, name: &str) -> Arc<Upstream> {
        self.app().upstream(name).expect("the upstream is configured")
    }

    /// Waits until the pool of `origin` fulfils the condition.
    pub fn wait_for_pool(&self, what: &str, condition: impl Fn(&Snapshot) -> bool) {
        wait_for(what, || condition(&self.pool("origin")));
    }

    /// Puts this configuration in force inside the process, without its file.
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
