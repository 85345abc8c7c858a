//! Assembly: build everything that a plan names, run it, and end it in order.
//!
//! Workers carry the traffic, each on a thread and runtime of its own; one more thread has metrics, health and
//! administration, so that saturated workers do not blind anybody (design, section 4.14).

mod sockets;
mod worker;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use rustls::KeyLog;
use tokio::{
    runtime,
    sync::{Barrier, Semaphore},
    time::timeout,
};

use crate::{
    admin::{self, Readiness},
    config::Plan,
    connect::Resolver,
    drain::Drain,
    listener::Inlet,
    proxy::{Destination, Entry, Proxy, with_port},
    route::Table,
    telemetry::ends::Ends,
    tls::key_log::KeyLogFile,
    upstream::{Exchanges, Upstream},
};
use sockets::{Bound, bind, bind_own_port, raise_descriptor_limit};
use worker::Work;

/// What a plan does not say.
#[derive(Debug, Default)]
pub struct Environment {
    /// In place of the system's resolver.
    pub resolver: Option<Resolver>,
    /// Where TLS secrets are written.
    pub key_log: Option<PathBuf>,
    /// The hash of the configuration's text.
    pub configuration_hash: String,
}

/// Why Warmline did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("{what}: {address} cannot be bound: {error}{hint}")]
    Bind {
        /// What was to listen there.
        what: String,
        /// The address.
        address: SocketAddr,
        /// The kernel's word.
        error: std::io::Error,
        /// What would help.
        hint: &'static str,
    },
    /// An upstream's TLS cannot be prepared.
    #[error("upstream {name}: its TLS settings cannot be used: {error}")]
    Tls {
        /// The upstream.
        name: String,
        /// rustls's words.
        error: rustls::Error,
    },
    /// The key log cannot be opened.
    #[error("--key-log {path}: {error}")]
    KeyLog {
        /// The file.
        path: PathBuf,
        /// The kernel's word.
        error: std::io::Error,
    },
    /// A thread or its runtime could not be made.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// Warmline, running.
pub struct Running {
    listeners: Vec<SocketAddr>,
    metrics: Vec<SocketAddr>,
    admin: Vec<SocketAddr>,
    upstreams: Vec<Arc<Upstream>>,
    drain: Drain,
    workers: Vec<JoinHandle<()>>,
    operations: JoinHandle<()>,
    /// Set once the workers have ended.
    over: Drain,
}

/// Builds and starts everything; when it returns, every address is bound and accepting.
pub fn start(plan: &Plan, environment: Environment) -> Result<Running, StartError> {
    raise_descriptor_limit(plan);
    let key_log = open_key_log(environment.key_log)?;
    let ends = Arc::new(Ends::default());
    let upstreams = build_upstreams(plan, key_log.as_ref(), &ends)?;
    let metrics = bind("metrics.bind", &plan.metrics)?;
    let admin = bind("admin.bind", &plan.admin)?;
    let drain = Drain::default();
    let proxy = Arc::new(Proxy {
        access: plan.log.access,
        pools: pools_url(&admin),
        unrouted: Exchanges::default(),
        drain: drain.clone(),
    });
    let inlets = build_inlets(plan, &upstreams, &proxy, &ends)?;
    let addresses = |bound: &[Bound]| bound.iter().map(|bound| bound.address).collect::<Vec<_>>();
    let (metrics_addresses, admin_addresses) = (addresses(&metrics), addresses(&admin));
    let listeners = inlets.iter().flat_map(|(bound, _)| addresses(bound)).collect();

    let over = Drain::default();
    let readiness = Arc::new(Readiness::default());
    let state = admin::State::new(
        upstreams.clone(),
        Arc::clone(&proxy),
        Arc::clone(&ends),
        Arc::clone(&readiness),
        environment.configuration_hash,
    );
    let operations = operate(state, metrics, admin, over.clone())?;
    let work = Work {
        upstreams: upstreams.clone(),
        drain: drain.clone(),
        drain_time: plan.drain,
        resolver: environment.resolver,
        everyone_idle: Arc::new(Barrier::new(plan.threads)),
    };
    let workers = worker::spawn(work, &inlets, plan.threads)?;
    readiness.set_started();
    Ok(Running {
        listeners,
        metrics: metrics_addresses,
        admin: admin_addresses,
        upstreams,
        drain,
        workers,
        operations,
        over,
    })
}

impl Running {
    /// Every address that takes traffic: the listeners in the plan's order, then the upstreams' own ports.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// Where metrics and health listen.
    pub fn metrics(&self) -> &[SocketAddr] {
        &self.metrics
    }

    /// Where administration listens.
    pub fn admin(&self) -> &[SocketAddr] {
        &self.admin
    }

    /// The upstream of this name.
    pub fn upstream(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams.iter().find(|upstream| upstream.settings().name == name)
    }

    /// The sign to end, to be given from any thread.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Begins the end: what is in flight may finish.
    pub fn shutdown(&self) {
        self.drain.begin();
    }

    /// Ends what is in flight.
    pub fn abort(&self) {
        self.drain.abort();
    }

    /// Waits until everything has ended, metrics last.
    pub fn join(self) {
        for worker in self.workers {
            // A worker that panicked has said so on standard error.
            let _ = worker.join();
        }
        self.over.begin();
        let _ = self.operations.join();
    }
}

fn open_key_log(path: Option<PathBuf>) -> Result<Option<Arc<dyn KeyLog>>, StartError> {
    let Some(path) = path else { return Ok(None) };
    tracing::warn!(path = %path.display(), "TLS secrets are written to the key log: whoever reads it reads all traffic");
    match KeyLogFile::open(&path) {
        Ok(file) => Ok(Some(Arc::new(file))),
        Err(error) => Err(StartError::KeyLog { path, error }),
    }
}

fn build_upstreams(
    plan: &Plan,
    key_log: Option<&Arc<dyn KeyLog>>,
    ends: &Arc<Ends>,
) -> Result<Vec<Arc<Upstream>>, StartError> {
    let build = |settings: &crate::upstream::Settings| {
        Upstream::new(settings.clone(), plan.threads, key_log.cloned(), Arc::clone(ends))
            .map_err(|error| StartError::Tls { name: settings.name.clone(), error })
    };
    plan.upstreams.iter().map(build).collect()
}

type Inlets = Vec<(Vec<Bound>, Arc<Inlet>)>;

/// The plan's listeners, then each upstream's own port, which has the first listener's limits.
fn build_inlets(
    plan: &Plan,
    upstreams: &[Arc<Upstream>],
    proxy: &Arc<Proxy>,
    ends: &Arc<Ends>,
) -> Result<Inlets, StartError> {
    let inlet = |entry: Entry, listener: &crate::config::Listener| {
        Arc::new(Inlet {
            proxy: Arc::clone(proxy),
            entry,
            limits: listener.limits.clone(),
            room: Arc::new(Semaphore::new(listener.limits.connections)),
            ends: Arc::clone(ends),
        })
    };
    let shared = Entry::Shared(Arc::new(table(upstreams)));
    let mut inlets = Vec::new();
    for listener in &plan.listeners {
        let bound = bind("listeners[].bind", &listener.binds)?;
        inlets.push((bound, inlet(shared.clone(), listener)));
    }
    for upstream in upstreams {
        if let (Some(port), Some(listener)) = (upstream.settings().port, plan.listeners.first()) {
            let bound = bind_own_port(&upstream.settings().name, port)?;
            inlets.push((bound, inlet(Entry::Own(own_destination(upstream)), listener)));
        }
    }
    Ok(inlets)
}

fn table(upstreams: &[Arc<Upstream>]) -> Table<Destination> {
    let mut table = Table::default();
    for upstream in upstreams {
        for host in &upstream.settings().hosts {
            let destination =
                Destination { upstream: Arc::clone(upstream), host: goes_up(upstream, host) };
            table.insert(host, destination);
        }
    }
    table
}

/// On an own port any Host is taken, and the first of `hosts` goes up.
fn own_destination(upstream: &Arc<Upstream>) -> Destination {
    let host = upstream.settings().hosts.first().and_then(|host| goes_up(upstream, host));
    Destination { upstream: Arc::clone(upstream), host }
}

fn goes_up(upstream: &Upstream, host: &str) -> Option<http::HeaderValue> {
    let port = upstream.settings().endpoint.port;
    (host != "*").then(|| http::HeaderValue::try_from(with_port(host, port)).ok()).flatten()
}

fn pools_url(admin: &[Bound]) -> String {
    match admin.first() {
        Some(bound) => format!("http://{}/pools", bound.address),
        None => "the log".into(),
    }
}

/// Metrics, health and administration, on a thread of their own until everything else is over.
fn operate(
    state: Arc<admin::State>,
    metrics: Vec<Bound>,
    admin: Vec<Bound>,
    over: Drain,
) -> Result<JoinHandle<()>, StartError> {
    let runtime = current_thread_runtime()?;
    let serve = async move {
        for bound in metrics {
            tokio::spawn(admin::serve_metrics(bound.listener, Arc::clone(&state)));
        }
        for bound in admin {
            tokio::spawn(admin::serve_admin(bound.listener, Arc::clone(&state)));
        }
        tokio::spawn(admin::sample(Arc::clone(&state)));
        over.begun().await;
    };
    thread::Builder::new()
        .name("operations".into())
        .spawn(move || runtime.block_on(serve))
        .map_err(StartError::Thread)
}

fn current_thread_runtime() -> Result<runtime::Runtime, StartError> {
    runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)
}

/// Gives what is in flight its time, then ends it.
async fn bound_drain(drain: Drain, time: Duration) {
    drain.begun().await;
    let _ = timeout(time, drain.aborted()).await;
    drain.abort();
}
