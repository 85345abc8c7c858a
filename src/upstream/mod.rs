//! An upstream: a named destination with its settings, its generations and its pool, and the way to get a connection
//! from it.

mod addresses;
mod change;
mod counters;
mod dial;
mod endpoint;
#[cfg(test)]
pub(crate) mod fixture;
mod generation;
mod open;
mod retries;
mod target;

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
pub use counters::{
    Code, Counters, CountersSnapshot, Exchanges, ExchangesSnapshot, Failed, Party, RetryReason,
    RetryRefusal, Stage,
};
use dial::{Dials, Purpose};
use generation::Generation;
pub use open::Chain;
use retries::Budget;
pub use retries::{DialFailure, Retries};
use target::Target;

use crate::{
    connect::{self, Connection, Resolver, connection},
    descriptors,
    latest::Latest,
    pool::{
        self, Ask, Checkout, EndReason, KeepAlive, PROVEN_AGE, Pool, Rejection, Verdict, Waiter,
        WaiterStep,
    },
    resources::Resources,
    telemetry::ends::Ends,
    tls,
};

/// The validated settings of one upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name, of the form `[a-z0-9-]{1,63}`; the label in metrics.
    pub name: String,
    /// The hosts whose requests go to this upstream, in lower case, without a port; `"*"` takes all other hosts. Never
    /// empty: the default is the endpoint's host.
    pub hosts: Vec<String>,
    /// The upstream's own loopback port, if there is one. Requests to this port go to the upstream with any Host.
    pub port: Option<u16>,
    /// The host and port to dial.
    pub endpoint: connect::HostPort,
    /// The TLS settings.
    pub tls: tls::Settings,
    /// The pool's settings.
    pub pool: pool::Settings,
    /// The time limits of connecting.
    pub connect: connect::Limits,
    /// The time limit from the end of the written request to the end of the final response's header.
    pub response_timeout: Duration,
    /// The longest time without a byte in either direction while a body is relayed.
    pub idle_timeout: Duration,
    /// The rules and limits of retries.
    pub retries: Retries,
    /// The time that exchanges on a replaced generation may go on.
    pub rotation_deadline: Duration,
    /// The request field whose urgency (RFC 9218) orders the queue; `None`: all requests are equal.
    pub priority: Option<HeaderName>,
    /// The case of field names in requests.
    pub header_case: connect::HeaderCase,
}

/// The least value of [`Settings::unacknowledged_limit`]. With less, a path that loses a packet or two would look like
/// one that has forgotten the connection.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

impl Settings {
    /// Makes settings of an upstream with this name, these hosts, endpoint and TLS; all others have their defaults.
    #[must_use]
    pub fn new(
        name: String,
        hosts: Vec<String>,
        endpoint: connect::HostPort,
        tls: tls::Settings,
    ) -> Self {
        Self {
            name,
            hosts,
            port: None,
            endpoint,
            tls,
            pool: pool::Settings::default(),
            connect: connect::Limits::default(),
            response_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(1),
            retries: Retries::default(),
            rotation_deadline: Duration::from_mins(5),
            priority: None,
            header_case: connect::HeaderCase::default(),
        }
    }

    /// Returns the time for which sent bytes may stay unacknowledged before their connection counts as dead: the time
    /// limit of a TCP connect, but at most half of `response_timeout`, which leaves time to send the request again.
    #[must_use]
    pub fn unacknowledged_limit(&self) -> Duration {
        self.connect.connect.min(self.response_timeout / 2).max(LEAST_PATIENCE)
    }
}

/// A connection for one exchange.
pub type Lease = pool::Lease<Connection, DialFailure>;

/// The right to dial one connection.
type Permit = pool::Permit<Connection, DialFailure>;

/// The thread that an exchange runs on, and the thread's own resources.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The thread's number, from 0.
    pub thread: usize,
    /// The resolver of names to addresses.
    pub resolver: Resolver,
    /// The bounds on what the whole process may use.
    pub resources: Arc<Resources>,
}

/// The reason that an exchange got no connection.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The queue refused the request.
    #[error("no connection: {0}")]
    Rejected(Rejection),
    /// The dial that the request counted on failed.
    #[error(transparent)]
    Dial(Arc<DialFailure>),
    /// Dials of the request were outdated one after the other, by changes of the settings, for this long.
    #[error("no connection was made under settings that were still in force, for {0:?}")]
    Outdated(Duration),
    /// The request's dial was dropped, because Warmline is ending.
    #[error("the dial was abandoned")]
    Abandoned,
}

/// A running upstream. Its name is fixed; everything else can be replaced while it runs ([`change`]).
pub struct Upstream {
    name: String,
    settings: Latest<Settings>,
    /// The generation of new handshakes.
    generation: Latest<Generation>,
    /// The lock that is held while a generation takes another one's place, here and in the pool.
    succeeding: Mutex<()>,
    /// The replaced generations that have connections left, oldest first.
    older: Mutex<Vec<Arc<Generation>>>,
    /// The time at which the rest of a retired upstream's exchanges end; `None` while the upstream is configured.
    retired_until: Mutex<Option<Instant>>,
    /// Notified when a generation was replaced or the upstream was retired: there may be a new deadline to watch.
    replaced: Notify,
    pool: Arc<Pool<Connection, DialFailure>>,
    was_warm: AtomicBool,
    /// True once the log says that the configured idle timeout is longer than the upstream's own.
    timeout_told: AtomicBool,
    /// True once the log says that the upstream closes idle connections at any time.
    habit_told: AtomicBool,
    counters: Counters,
    budget: Budget,
    ends: Arc<Ends>,
    key_log: Option<Arc<dyn KeyLog>>,
}

impl Upstream {
    /// Makes an upstream with an empty pool, for this number of threads. Fails if TLS cannot be set up.
    pub fn new(
        settings: Arc<Settings>,
        threads: usize,
        key_log: Option<Arc<dyn KeyLog>>,
        ends: Arc<Ends>,
    ) -> Result<Arc<Self>, rustls::Error> {
        let target = Target::new(&settings, key_log.clone())?;
        let generation = Generation::first(target, settings.header_case);
        Ok(Arc::new(Self {
            name: settings.name.clone(),
            pool: Pool::new(&settings.name, settings.pool.clone(), connection::STREAMS, threads),
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

    /// Returns the name, which is the label in metrics and logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the settings in force.
    pub fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.get()
    }

    /// Returns the upstream's pool.
    pub fn pool(&self) -> &Arc<Pool<Connection, DialFailure>> {
        &self.pool
    }

    /// Returns the counts, without those of the pool.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Leases a connection: an idle one or a new one, at the cap whichever is free first. Returns the time as well,
    /// because the caller needs the time and another reading of the clock would cost more. While the request waits,
    /// `on_wait` is called with true if it waits in the queue, and with false if it waits for a dial. Fails if the
    /// queue refuses the request, or if the dial that it counted on failed.
    pub async fn lease(
        self: &Arc<Self>,
        ask: Ask,
        worker: &Worker,
        on_wait: &mut (dyn FnMut(bool) + Send),
    ) -> Result<(Lease, Instant), Unavailable> {
        let now = Instant::now();
        match self.pool.check_out(now, ask) {
            Ok(Checkout::Leased(lease)) => Ok((lease, now)),
            // Boxed, so that the future of the warm path is not enlarged by this one, and need not be moved with it.
            Ok(Checkout::Waits(waiter)) => {
                let lease = Box::pin(self.wait(waiter, worker, on_wait)).await?;
                Ok((lease, Instant::now()))
            }
            Err(rejection) => Err(Unavailable::Rejected(rejection)),
        }
    }

    /// Checks a fit connection in after its exchange. If the endpoint's name has lost the connection's address, the
    /// connection is closed instead. `announced` is the response's word on how long the upstream keeps the connection
    /// (Keep-Alive).
    pub fn check_in(&self, mut lease: Lease, announced: Option<KeepAlive>, now: Instant) {
        if self.generation.get().has_moved(lease.handle()) {
            lease.end(Verdict::Unfit(EndReason::Moved), now);
        } else {
            lease.handle().release(now);
            lease.end(Verdict::Fit(announced), now);
        }
    }

    /// Waits for a waiter's connection, and begins the dials that the pool orders, each in a task of its own. Calls
    /// `on_wait` before each wait. Fails if the waiter was queued for `pool.queueTimeout`, if its own dial failed, or
    /// if its dials were outdated for too long.
    async fn wait(
        self: &Arc<Self>,
        mut waiter: Waiter<Connection, DialFailure>,
        worker: &Worker,
        on_wait: &mut (dyn FnMut(bool) + Send),
    ) -> Result<Lease, Unavailable> {
        let mut deadline = self.queue_deadline();
        let mut dials = Dials::default();
        loop {
            let queued = waiter.is_queued();
            on_wait(queued);
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
                WaiterStep::Dial(permit) => {
                    self.check_outdated(&mut dials)?;
                    self.spawn_dial(permit, worker, Purpose::Waiter);
                }
                WaiterStep::Leased(lease) => return Ok(lease),
                WaiterStep::Queued => deadline = self.queue_deadline(),
                WaiterStep::Failed(Some(error)) => return Err(Unavailable::Dial(error)),
                WaiterStep::Failed(None) => return Err(Unavailable::Abandoned),
            }
        }
    }

    /// Fails if the waiter's dials have been outdated one after the other for longer than a dial may take: changes that
    /// come faster than handshakes are done must not hold a request up for ever.
    fn check_outdated(&self, dials: &mut Dials) -> Result<(), Unavailable> {
        let wasted = dials.begin(self.generation.get().number, Instant::now());
        let limits = &self.settings().connect;
        let limit = limits.connect.saturating_add(limits.handshake);
        if wasted > limit { Err(Unavailable::Outdated(limit)) } else { Ok(()) }
    }

    fn queue_deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.settings().pool.queue_timeout
    }

    /// Does the upstream's regular work for as long as the future is polled: the purge, deadlines of replaced
    /// generations, look-ups of the name, and making room for descriptors.
    pub async fn maintain(&self, resolver: &Resolver) {
        let until_warm = async {
            while !self.pool.is_proven(Instant::now()) {
                self.pool.warmed().await;
                sleep(PROVEN_AGE).await;
            }
            self.was_warm.store(true, SeqCst);
        };
        let following = self.follow_name(resolver);
        let ends = self.end_replaced();
        tokio::join!(self.pool.maintain(), ends, self.make_room(), following, until_warm);
    }

    /// Closes the older half of the idle connections each time the process has run out of descriptors, for as long as
    /// the future is polled: idle connections can be dialled again later, but requests that need a descriptor are waiting
    /// now.
    async fn make_room(&self) {
        loop {
            descriptors::shortage().await;
            self.pool.close_older_half();
        }
    }

    /// Waits until the warm floor lacks a connection, and returns the permit for [`Upstream::dial_warm`] on this
    /// thread. There is only one caller at a time, which calls again at once.
    pub async fn lacks_warm(&self, thread: usize) -> Permit {
        self.pool.wanted(thread, fastrand::f64()).await
    }

    /// Dials for the warm floor, on the calling thread.
    pub fn dial_warm(self: &Arc<Self>, permit: Permit, worker: &Worker) {
        self.spawn_dial(permit, worker, Purpose::Floor);
    }

    /// True if at some time since the start as many connections as `minIdle` wants were idle or in use, and each had
    /// lasted for [`PROVEN_AGE`] or carried a request.
    pub fn was_warm(&self) -> bool {
        self.was_warm.load(SeqCst)
    }
}

/// Waits until every pool is empty, or until the limit is over. Returns true if all pools are empty.
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
