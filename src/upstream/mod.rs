//! A named destination: its settings, its generations, its pool, and how one gets a connection out of it.

mod addresses;
mod change;
mod counters;
mod dial;
mod generation;
mod retries;

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use arc_swap::Guard;
use http::HeaderName;
use rustls::KeyLog;
use tokio::{
    sync::Notify,
    time::{sleep, sleep_until, timeout_at},
};

pub use change::Change;
pub use counters::{Code, Counters, Exchanges, Failed, Party, RetryReason, RetryRefusal, Stage};
use dial::{Dials, Purpose};
pub use generation::Chain;
use generation::Generation;
use retries::Budget;
pub use retries::Retries;

use crate::{
    connect::{self, ConnectError, Connection, Resolver},
    descriptors,
    latest::Latest,
    pool::{
        self, Ask, Checkout, EndReason, KeepAlive, PROOF, Permit, Pool, Rejection, Step, Waiter,
    },
    resources::Resources,
    telemetry::ends::Ends,
    tls,
};

/// One named destination, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `[a-z0-9-]{1,63}`; the metrics' label.
    pub name: String,
    /// Hosts that route here, lower case, without a port; `"*"` takes all others. Never empty: defaults to the endpoint's host.
    pub hosts: Vec<String>,
    /// A loopback port of its own, where any Host is taken.
    pub port: Option<u16>,
    /// Where to dial.
    pub endpoint: connect::Endpoint,
    /// Everything about TLS.
    pub tls: tls::Settings,
    /// The pool's numbers.
    pub pool: pool::Settings,
    /// Bounds on connecting.
    pub connect: connect::Limits,
    /// From the whole request written to the end of the final header.
    pub response_timeout: Duration,
    /// No byte either way during a body.
    pub idle_timeout: Duration,
    /// What may be tried again, and how often.
    pub retries: Retries,
    /// How long exchanges on a replaced generation may go on.
    pub rotation_deadline: Duration,
    /// The request field whose urgency (RFC 9218) orders the queue; `None`: all are alike.
    pub priority: Option<HeaderName>,
    /// The case of field names.
    pub header_case: connect::HeaderCase,
}

/// The least patience: a path that loses a packet or two must not look like one that has forgotten a connection.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

impl Settings {
    /// The time for which sent bytes may stay unacknowledged before their connection counts as dead: as long as a new one
    /// may take to be made, but so that there is time to send the request again.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.connect.connect.min(self.response_timeout / 2).max(LEAST_PATIENCE)
    }
}

/// A connection for one exchange.
pub type Lease = pool::Lease<Connection, ConnectError>;

/// The thread that an exchange runs on, and what is its own.
#[derive(Debug, Clone)]
pub struct Worker {
    /// From 0.
    pub thread: usize,
    /// Names to addresses.
    pub resolver: Resolver,
    /// Bounds of the whole process.
    pub resources: Arc<Resources>,
}

/// Why an exchange got no connection.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The queue refused it.
    #[error("no connection: {0}")]
    Rejected(Rejection),
    /// Its dial failed.
    #[error(transparent)]
    Dial(#[from] ConnectError),
    /// Each of its dials was outdated before it was done, for so long.
    #[error("no connection was made under settings that were still in force, for {0:?}")]
    Outdated(Duration),
    /// Its dial was dropped: Warmline is ending.
    #[error("the dial was abandoned")]
    Abandoned,
}

/// A running destination. Its name is for good; everything else can be replaced while it runs ([`change`]).
pub struct Upstream {
    name: String,
    settings: Latest<Settings>,
    /// What new handshakes are made under.
    generation: Latest<Generation>,
    /// Held while a generation takes another one's place, there and in the pool.
    succeeding: Mutex<()>,
    /// Generations that were replaced and have connections left, oldest first.
    older: Mutex<Vec<Arc<Generation>>>,
    /// Set while it is configured no more: when what it has left ends.
    retired_until: Mutex<Option<Instant>>,
    /// A generation was replaced, or all of it retired: there is a deadline to watch.
    replaced: Notify,
    pool: Arc<Pool<Connection, ConnectError>>,
    was_warm: AtomicBool,
    /// It was said that a configured idle timeout is longer than the upstream's own.
    timeout_told: AtomicBool,
    /// The log has said that it closes idle connections at any time.
    habit_told: AtomicBool,
    counters: Counters,
    budget: Budget,
    ends: Arc<Ends>,
    key_log: Option<Arc<dyn KeyLog>>,
}

impl Upstream {
    /// A destination with an empty pool, for this many threads.
    pub fn new(
        settings: Arc<Settings>,
        threads: usize,
        key_log: Option<Arc<dyn KeyLog>>,
        ends: Arc<Ends>,
    ) -> Result<Arc<Self>, rustls::Error> {
        let tls = tls::Client::new(&settings.tls, settings.pool.max_connections, key_log.clone())?;
        let generation = Generation::first(&settings, tls);
        Ok(Arc::new(Self {
            name: settings.name.clone(),
            pool: Pool::new(&settings.name, settings.pool.clone(), threads),
            settings: Latest::new(settings),
            generation: Latest::new(generation),
            succeeding: Mutex::default(),
            older: Mutex::default(),
            retired_until: Mutex::default(),
            replaced: Notify::new(),
            was_warm: AtomicBool::new(false),
            timeout_told: AtomicBool::new(false),
            habit_told: AtomicBool::new(false),
            counters: Counters::default(),
            budget: Budget::default(),
            ends,
            key_log,
        }))
    }

    /// The label in metrics and logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is configured now.
    pub fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.get()
    }

    /// Its pool.
    pub fn pool(&self) -> &Arc<Pool<Connection, ConnectError>> {
        &self.pool
    }

    /// What was counted, but for what its pool counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Gets a connection: an idle one, a new one, or whichever comes first at the cap. With it comes the time: reading the
    /// clock again costs more than passing it on. `stands` is told, while it waits, whether that is in the queue (or else
    /// for a dial).
    pub async fn lease(
        self: &Arc<Self>,
        ask: Ask,
        worker: &Worker,
        stands: &mut (dyn FnMut(bool) + Send),
    ) -> Result<(Lease, Instant), Unavailable> {
        let now = Instant::now();
        match self.pool.check_out(now, ask) {
            Ok(Checkout::Leased(lease)) => Ok((lease, now)),
            // Boxed: the warm path pays neither for its size nor for its moves.
            Ok(Checkout::Waits(waiter)) => {
                let lease = Box::pin(self.wait(waiter, worker, stands)).await?;
                Ok((lease, Instant::now()))
            }
            Err(rejection) => Err(Unavailable::Rejected(rejection)),
        }
    }

    /// An exchange is over and left its connection fit; an address that the name has lost retires its connections.
    /// `announced` is what the response said about how long the upstream keeps it.
    pub fn check_in(&self, mut lease: Lease, announced: Option<KeepAlive>, now: Instant) {
        if self.generation.get().has_moved(lease.handle()) {
            lease.discard(EndReason::Moved);
        } else {
            lease.handle().release(now);
            lease.check_in(now, announced);
        }
    }

    async fn wait(
        self: &Arc<Self>,
        mut waiter: Waiter<Connection, ConnectError>,
        worker: &Worker,
        stands: &mut (dyn FnMut(bool) + Send),
    ) -> Result<Lease, Unavailable> {
        let mut deadline = self.queue_deadline();
        let mut dials = Dials::default();
        loop {
            let queued = waiter.is_queued();
            stands(queued);
            let step = poll_fn(|cx| waiter.poll_step(cx));
            let step = if queued {
                match timeout_at(deadline, step).await {
                    Ok(step) => step,
                    Err(_) => match waiter.time_out() {
                        Some(rejection) => return Err(Unavailable::Rejected(rejection)),
                        None => continue,
                    },
                }
            } else {
                step.await
            };
            match step {
                Step::Dial(permit) => {
                    self.check_outdated(&mut dials)?;
                    self.spawn_dial(permit, worker, Purpose::Waiter);
                }
                Step::Leased(lease) => return Ok(lease),
                Step::Queued => deadline = self.queue_deadline(),
                Step::Failed(Some(error)) => return Err(Unavailable::Dial(error)),
                Step::Failed(None) => return Err(Unavailable::Abandoned),
            }
        }
    }

    /// Changes that come faster than handshakes are done must not hold a request up for ever.
    fn check_outdated(&self, dials: &mut Dials) -> Result<(), Unavailable> {
        let wasted = dials.begin(self.generation.get().number, Instant::now());
        let limits = &self.settings().connect;
        let limit = limits.connect.saturating_add(limits.handshake);
        if wasted > limit { Err(Unavailable::Outdated(limit)) } else { Ok(()) }
    }

    fn queue_deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.settings().pool.queue_timeout
    }

    /// Purges and closes what is due, for as long as it is polled.
    pub async fn maintain(&self, resolver: &Resolver) {
        let until_warm = async {
            while !self.pool.is_proven(Instant::now()) {
                self.pool.warmed().await;
                sleep(PROOF).await;
            }
            self.was_warm.store(true, SeqCst);
        };
        let following = self.follow_name(resolver);
        let ends = self.end_replaced();
        tokio::join!(self.pool.maintain(), ends, self.make_room(), following, until_warm);
    }

    /// Gives descriptors back when there are none left: what is idle can be dialled again, what waits cannot wait.
    async fn make_room(&self) {
        loop {
            descriptors::used_up().await;
            self.pool.relieve();
        }
    }

    /// Waits until the warm floor lacks a connection, for [`Upstream::dial_warm`] on this thread; for one caller at a
    /// time, that asks again at once.
    pub async fn lacks_warm(&self, thread: usize) -> Permit<Connection, ConnectError> {
        self.pool.wanted(thread, fastrand::f64()).await
    }

    /// Dials for the warm floor, on the thread that this runs on.
    pub fn dial_warm(self: &Arc<Self>, permit: Permit<Connection, ConnectError>, worker: &Worker) {
        self.spawn_dial(permit, worker, Purpose::Floor);
    }

    /// Whether as many connections as `minIdle` wants were idle at once, at any time so far.
    pub fn was_warm(&self) -> bool {
        self.was_warm.load(SeqCst)
    }
}

/// Waits until every pool is empty, but no longer than this.
pub async fn all_emptied(upstreams: &[Arc<Upstream>], limit: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + limit;
    for upstream in upstreams {
        tokio::select! {
            () = upstream.pool.emptied() => {}
            () = sleep_until(deadline) => return false,
        }
    }
    true
}
