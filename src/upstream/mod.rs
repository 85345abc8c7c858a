//! A named destination: its settings, its TLS, its pool, and how one gets a connection out of it.

mod counters;

use std::{
    future::poll_fn,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use rustls::KeyLog;
use tokio::time::{sleep_until, timeout_at};

pub use counters::{Code, Counters, Exchanges, RetryReason};

use crate::{
    connect::{
        self, ConnectError, Connection, Driver, EndpointHost, Resolver, connection,
        dial::{reach, shake_hands},
    },
    pool::{self, Checkout, EndReason, Permit, Pool, Rejection, Step, Waiter},
    telemetry::ends::{Ends, Facing},
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
    /// Retries after the first try.
    pub max_retries: u32,
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
    /// Its dial was dropped: Warmline is ending.
    #[error("the dial was abandoned")]
    Abandoned,
}

/// A running destination.
pub struct Upstream {
    settings: Settings,
    pool: Arc<Pool<Connection, ConnectError>>,
    tls: tls::Client,
    counters: Counters,
    ends: Arc<Ends>,
    /// The name's newest answer; empty before the first.
    newest: RwLock<Vec<IpAddr>>,
}

impl Upstream {
    /// A destination with an empty pool, for this many threads.
    pub fn new(
        settings: Settings,
        threads: usize,
        key_log: Option<Arc<dyn KeyLog>>,
        ends: Arc<Ends>,
    ) -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self {
            pool: Pool::new(&settings.name, settings.pool.clone(), threads),
            tls: tls::Client::new(&settings.tls, settings.pool.max_connections, key_log)?,
            counters: Counters::default(),
            ends,
            newest: RwLock::default(),
            settings,
        }))
    }

    /// What was configured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its pool.
    pub fn pool(&self) -> &Arc<Pool<Connection, ConnectError>> {
        &self.pool
    }

    /// What was counted, but for what its pool counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Gets a connection: an idle one, a new one, or whichever comes first at the cap. `fresh` takes no used one.
    /// With it comes the time: reading the clock again costs more than passing it on.
    pub async fn lease(
        self: &Arc<Self>,
        worker: &Worker,
        fresh: bool,
    ) -> Result<(Lease, Instant), Unavailable> {
        let now = Instant::now();
        match self.pool.check_out(now, worker.thread, fresh) {
            Ok(Checkout::Leased(lease)) => Ok((lease, now)),
            // Boxed: the warm path pays neither for its size nor for its moves.
            Ok(Checkout::Waits(waiter)) => {
                let lease = Box::pin(self.wait(waiter, worker)).await?;
                Ok((lease, Instant::now()))
            }
            Err(rejection) => Err(Unavailable::Rejected(rejection)),
        }
    }

    /// An exchange is over and left its connection fit; an address that the name has lost retires its connections.
    pub fn check_in(&self, mut lease: Lease, now: Instant) {
        if self.has_moved(lease.handle()) {
            lease.discard(EndReason::Moved);
        } else {
            lease.check_in(now);
        }
    }

    async fn wait(
        self: &Arc<Self>,
        mut waiter: Waiter<Connection, ConnectError>,
        worker: &Worker,
    ) -> Result<Lease, Unavailable> {
        let mut deadline = tokio::time::Instant::now() + self.settings.pool.queue_timeout;
        loop {
            let queued = waiter.is_queued();
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
                Step::Dial(permit) => self.spawn_dial(permit, worker),
                Step::Leased(lease) => return Ok(lease),
                Step::Queued => {
                    deadline = tokio::time::Instant::now() + self.settings.pool.queue_timeout;
                }
                Step::Failed(Some(error)) => return Err(Unavailable::Dial(error)),
                Step::Failed(None) => return Err(Unavailable::Abandoned),
            }
        }
    }

    /// Dials in a task of its own: whoever waits may leave, the connection is kept.
    fn spawn_dial(self: &Arc<Self>, permit: Permit<Connection, ConnectError>, worker: &Worker) {
        let upstream = Arc::clone(self);
        let resolver = worker.resolver.clone();
        tokio::spawn(async move {
            match upstream.dial(&resolver).await {
                Ok((connection, driver)) => upstream.spawn_driver(permit, connection, driver),
                Err(error) => permit.failed(error, Instant::now()),
            }
        });
    }

    /// Drives in a task of its own: the dial's is larger, and ends here.
    fn spawn_driver(
        self: Arc<Self>,
        permit: Permit<Connection, ConnectError>,
        connection: Connection,
        driver: Driver,
    ) {
        let peer = connection.facts.peer;
        let place = permit.established(connection, 0, peer, Instant::now(), fastrand::f64());
        tokio::spawn(async move {
            let end = driver.run(|by| place.closing(by)).await;
            self.ends.increment((Facing::Upstream, end.how));
            place.socket_ended(end, Instant::now());
        });
    }

    async fn dial(&self, resolver: &Resolver) -> Result<(Connection, Driver), ConnectError> {
        let Settings { endpoint, connect: limits, .. } = &self.settings;
        let reached = reach(endpoint, resolver, limits, |found| self.learn(found)).await?;
        let address = reached.peer;
        let dialled = shake_hands(reached, &self.tls, limits)
            .await
            .inspect_err(|error| self.counters.handshake_failed(error))?;
        self.counters.handshake_done(&dialled);
        connection::start(dialled)
            .await
            .map_err(|error| ConnectError::Broken { address, error: std::io::Error::other(error) })
    }

    fn learn(&self, found: &[IpAddr]) {
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        if *newest != found {
            *newest = found.to_vec();
        }
    }

    fn has_moved(&self, connection: &Connection) -> bool {
        if matches!(self.settings.endpoint.host, EndpointHost::Address(_)) {
            return false;
        }
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        !newest.contains(&connection.facts.peer.ip())
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
