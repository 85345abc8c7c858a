//! Assembly: builds everything that a plan names, runs it, replaces the plan, and ends everything in order.
//!
//! Workers carry the traffic, each on a thread and runtime of its own. One more thread serves metrics, health and
//! administration, which therefore answer when all workers are saturated ("What is told: metrics, log, page" in
//! docs/design.md). Another thread watches files, so that a file system that hangs stops nothing else.

mod beginning;
mod ending;
mod folders;
mod inlets;
mod live;
mod routes;
mod sockets;
mod watch;
mod worker;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::SystemTime,
};

use rustls::KeyLog;
use tokio::{
    runtime,
    sync::{Barrier, mpsc::unbounded_channel},
};

use crate::{
    address_space::{self, TooLittle},
    admin::{self, Follower, Readiness},
    config::{
        ConfigurationStatus, Errors, KeptConfiguration, Plan, Source, SourceKind,
        configmap::FollowError,
    },
    connect::Resolver,
    drain::Drain,
    latest::Latest,
    proxy::Proxy,
    resources::Resources,
    telemetry::{Counter, ends::Ends, log::AccessSwitch},
    tls::key_log::KeyLogFile,
    upstream::{Exchanges, Upstream},
};
pub use beginning::{begin, follow_configmap};
use inlets::InletContext;
use live::Live;
use sockets::{Bound, bind, raise_descriptor_limit};
use watch::Watch;
use worker::WorkerContext;

/// The settings of a run that are not part of the plan.
#[derive(Debug, Default)]
pub struct Environment {
    /// The resolver that replaces the system's; in tests and in the demo.
    pub resolver: Option<Resolver>,
    /// The file that TLS secrets are written to (`--key-log`).
    pub key_log: Option<PathBuf>,
    /// The configuration's text.
    pub configuration: String,
    /// The source that is followed for changes of the configuration and of the files that it names; `None`: nothing is
    /// followed.
    pub source: Option<Source>,
    /// The kind of source that the configuration's text came from.
    pub origin: SourceKind,
    /// The folder in which the configuration in force is kept for the next start.
    pub kept: Option<KeptConfiguration>,
    /// The drain, which any thread may begin.
    pub drain: Drain,
}

/// The reasons for which Warmline did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("{what}: {address} cannot be bound: {error}{hint}")]
    Bind {
        /// The configuration's key, or the port, that asked for the address.
        what: String,
        /// The address.
        address: SocketAddr,
        /// The kernel's error.
        error: std::io::Error,
        /// A remedy in parentheses; empty if there is none.
        hint: &'static str,
    },
    /// An upstream's TLS cannot be prepared.
    #[error("upstream {name}: its TLS settings cannot be used: {}", crate::tls::words(.error))]
    Tls {
        /// The upstream's name.
        name: String,
        /// The reason.
        error: rustls::Error,
    },
    /// The key log cannot be opened.
    #[error("--key-log {path}: {error}")]
    KeyLog {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        error: std::io::Error,
    },
    /// There is no usable configuration, and none is to come.
    #[error("{0}")]
    NoConfiguration(Errors),
    /// The `ConfigMap` cannot be followed, and there is no file.
    #[error(
        "--configmap: {0}; run in a pod with a service account's token, or name a file with --config"
    )]
    NotFollowed(FollowError),
    /// The limit on address space does not suffice for the threads.
    #[error(transparent)]
    AddressSpace(#[from] TooLittle),
    /// A thread or its runtime could not be made.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// The reasons for which another plan could not replace the one in force.
#[derive(Debug, thiserror::Error)]
pub enum ReconfigureError {
    /// Keys whose new values this process cannot take on; never empty.
    #[error("{}", lines(.0))]
    Refused(Vec<RefusedKey>),
    /// The drain has begun.
    #[error("Warmline is ending; what is in flight finishes as it began")]
    Ending,
    /// A new part of the plan cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A key whose new value this process cannot take on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedKey {
    /// The path of the key, such as `upstreams[1].port`.
    pub path: String,
    /// The words for people: what is wrong, then a semicolon, then what would be right.
    pub message: String,
}

/// Returns a line for each key.
fn lines(keys: &[RefusedKey]) -> String {
    let line = |RefusedKey { path, message }: &RefusedKey| format!("{path}: {message}");
    keys.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A running Warmline.
pub struct Running {
    metrics: Vec<SocketAddr>,
    admin: Vec<SocketAddr>,
    live: Arc<Live>,
    drain: Drain,
    workers: Vec<JoinHandle<()>>,
    operations: JoinHandle<()>,
    /// Begun once the workers have ended; then the other threads end.
    over: Drain,
}

/// Builds and starts everything; when this returns, every address is bound and accepts connections, and the process
/// counts as started. Raises the process's limit of open files. Fails if address space, an address, a TLS setting, the
/// key log or a thread cannot be had.
pub fn start(plan: &Plan, environment: Environment) -> Result<Running, StartError> {
    let configmap = environment.source.as_ref().and_then(Source::configmap);
    address_space::suffices(plan.threads, configmap.is_some())?;
    raise_descriptor_limit(plan);
    let key_log = open_key_log(environment.key_log)?;
    let metrics = bind("metrics.bind", &plan.metrics)?;
    let admin = bind("admin.bind", &plan.admin)?;
    let addresses = |bound: &[Bound]| bound.iter().map(|bound| bound.address).collect::<Vec<_>>();
    let (metrics_addresses, admin_addresses) = (addresses(&metrics), addresses(&admin));
    let drain = environment.drain;
    let ends = Arc::new(Ends::default());
    let proxy = Arc::new(Proxy {
        access: AccessSwitch::new(plan.log.access),
        pools: pools_url(&admin),
        unrouted: Exchanges::default(),
        cut_off: Counter::default(),
    });
    let resources = Arc::new(Resources::default());
    let configuration =
        ConfigurationStatus::new(plan.clone(), environment.configuration, SystemTime::now());
    configuration.came_from(environment.origin);
    let readiness = Arc::new(Readiness::default());
    let (follower, asks) = environment.source.as_ref().map(Follower::new).unzip();
    let state = admin::State::new(
        Arc::clone(&proxy),
        Arc::clone(&ends),
        Arc::clone(&readiness),
        Arc::clone(&configuration),
        Arc::clone(&resources),
        drain.clone(),
        follower,
    );
    let running = Arc::new(Latest::new(Vec::new()));
    let work = Arc::new(WorkerContext {
        drain: drain.clone(),
        resolver: environment.resolver.unwrap_or_else(Resolver::system),
        resources: Arc::clone(&resources),
        everyone_idle: Barrier::new(plan.threads),
        upstreams: Arc::clone(&running),
    });
    let (sending, receiving): (Vec<_>, Vec<_>) =
        (0..plan.threads).map(|_| unbounded_channel()).unzip();
    let common = InletContext { proxy, ends, drain: drain.clone(), resources, workers: sending };
    let live = Live::new(common, running, configuration, Arc::clone(&state), key_log);
    live.begin(plan)?;
    let workers = receiving.into_iter().enumerate();
    let workers = workers.map(|(thread, jobs)| worker::spawn(&work, jobs, thread));
    let workers = workers.collect::<Result<_, _>>()?;
    let over = Drain::default();
    let watch = environment.source.zip(asks);
    let watch =
        watch.map(|(source, asks)| Watch::new(source, environment.kept, Arc::clone(&live), asks));
    let operators = live.open(plan);
    let operations = operate(state, metrics, admin, operators, over.clone())?;
    if let Some(watch) = watch {
        follow(watch, over.clone())?;
    }
    readiness.set_started();
    Ok(Running {
        metrics: metrics_addresses,
        admin: admin_addresses,
        live,
        drain,
        workers,
        operations,
        over,
    })
}

impl Running {
    /// Returns every address that takes traffic: the listeners' in the plan's order, then the upstreams' own ports.
    pub fn listeners(&self) -> Vec<SocketAddr> {
        self.live.addresses()
    }

    /// Returns the addresses of metrics and health.
    pub fn metrics(&self) -> &[SocketAddr] {
        &self.metrics
    }

    /// Returns the addresses of administration.
    pub fn admin(&self) -> &[SocketAddr] {
        &self.admin
    }

    /// Returns the upstream of this name; `None` if the plan in force has none.
    pub fn upstream(&self, name: &str) -> Option<Arc<Upstream>> {
        self.live.upstream(name)
    }

    /// Puts another plan in force as a whole, with the text that it was compiled from; on an error nothing changes.
    pub fn reconfigure(&self, plan: Plan, text: String) -> Result<(), ReconfigureError> {
        self.live.reconfigure(plan, text)
    }

    /// Returns the drain, which any thread may begin.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Begins the drain and returns at once: exchanges in flight may finish within the plan's time for the drain.
    pub fn shutdown(&self) {
        self.drain.begin();
    }

    /// Ends exchanges in flight at once.
    pub fn abort(&self) {
        self.drain.abort();
    }

    /// Waits until everything has ended, metrics last, and logs how the end went. The end must have been begun by [`Running::shutdown`] or by the
    /// drain.
    pub fn join(self) {
        for worker in self.workers {
            // A worker that panicked has said so on standard error.
            let _ = worker.join();
        }
        self.live.tell_end();
        self.over.begin();
        let _ = self.operations.join();
    }
}

/// Opens the file that TLS secrets are appended to, and warns of it in the log; `None` without a path. Fails if the
/// file cannot be opened.
fn open_key_log(path: Option<PathBuf>) -> Result<Option<Arc<dyn KeyLog>>, StartError> {
    let Some(path) = path else { return Ok(None) };
    tracing::warn!(path = %path.display(), "TLS secrets are written to the key log: with these, all traffic can be decrypted");
    match KeyLogFile::open(&path) {
        Ok(file) => Ok(Some(Arc::new(file))),
        Err(error) => Err(StartError::KeyLog { path, error }),
    }
}

/// Returns the URL of `/pools` at the first of these addresses; without an address, words that fit in its place.
fn pools_url(admin: &[Bound]) -> String {
    match admin.first() {
        Some(bound) => format!("http://{}/pools", bound.address),
        None => "the log".into(),
    }
}

/// Starts the thread for metrics, health and administration, which runs until everything else has ended. `operators` is
/// the most connections of each port. Fails if the thread or its runtime cannot be made.
fn operate(
    state: Arc<admin::State>,
    metrics: Vec<Bound>,
    admin: Vec<Bound>,
    operators: usize,
    over: Drain,
) -> Result<JoinHandle<()>, StartError> {
    let runtime = current_thread_runtime()?;
    let serve = async move {
        for bound in metrics {
            tokio::spawn(admin::serve_metrics(bound.listener, Arc::clone(&state), operators));
        }
        for bound in admin {
            tokio::spawn(admin::serve_admin(bound.listener, Arc::clone(&state), operators));
        }
        tokio::spawn(admin::sample(Arc::clone(&state)));
        over.begun().await;
    };
    thread::Builder::new()
        .name("operations".into())
        .spawn(move || runtime.block_on(serve))
        .map_err(StartError::Thread)
}

/// Starts the thread that watches files, which runs until everything else has ended. Nothing waits for its end, so that
/// a file system that hangs delays neither health nor the process's end.
fn follow(watch: Watch, over: Drain) -> Result<(), StartError> {
    let runtime = current_thread_runtime()?;
    let following = async move {
        tokio::select! {
            () = watch.run() => {}
            () = over.begun() => {}
        }
    };
    let spawned = thread::Builder::new().name("watch".into());
    spawned.spawn(move || runtime.block_on(following)).map(drop).map_err(StartError::Thread)
}

fn current_thread_runtime() -> Result<runtime::Runtime, StartError> {
    runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)
}
