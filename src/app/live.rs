//! The plan in force while Warmline runs, and its replacement by another one: everything that can fail is prepared
//! first, then the whole is put in force ("Configuration" in docs/design.md).

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError},
    time::{Duration, Instant, SystemTime},
};

use rustls::KeyLog;
use tokio::time::{sleep, timeout};

use super::{
    ReconfigureError, RefusedKey, StartError,
    ending::Ending,
    inlets::{InletContext, Inlets, PreparedInlets},
    routes::{Destinations, table},
    sockets::{divide_descriptors, most_clients, own_descriptors, recheck_descriptor_limit},
    worker::Job,
};
use crate::{
    admin,
    config::{self, Bind, ConfigurationStatus, Plan},
    drain::Drain,
    latest::Latest,
    proxy::Destination,
    resources::OPERATORS,
    route::Table,
    telemetry::log,
    upstream::{Change, Upstream, Worker},
};

/// The wait before the next look while a change is being made.
const CHANGING: Duration = Duration::from_millis(20);

/// The running parts of the plan in force.
pub(super) struct Live {
    pub(super) configuration: Arc<ConfigurationStatus>,
    common: InletContext,
    key_log: Option<Arc<dyn KeyLog>>,
    admin: Arc<admin::State>,
    /// The host table, which all listeners share; an upstream's own port does not use it.
    routes: Arc<Latest<Table<Destination>>>,
    running: Arc<RunningUpstreams>,
    /// The number of descriptors that are neither a connection's nor a listening socket's; set once everything runs.
    own: OnceLock<usize>,
    changing: Mutex<ChangeState>,
    ending: Ending,
}

/// The configured upstreams, and those that were configured and still have connections.
pub(super) type RunningUpstreams = Latest<Vec<Arc<Upstream>>>;

/// The state that only a change of the plan touches.
#[derive(Default)]
struct ChangeState {
    /// The configured upstreams in the plan's order.
    upstreams: Vec<Arc<Upstream>>,
    inlets: Inlets,
    /// The name of the upstream that each own port has carried since the start; a port never changes its upstream.
    owners: HashMap<u16, String>,
}

/// A plan that is ready to be put in force.
struct PreparedPlan<'a> {
    upstreams: Vec<Arc<Upstream>>,
    new: Vec<Arc<Upstream>>,
    changes: Vec<(Arc<Upstream>, Change)>,
    inlets: PreparedInlets<'a>,
}

impl Live {
    /// Makes the state of a process without a plan: no upstreams, no routes and no inlets.
    pub(super) fn new(
        common: InletContext,
        running: Arc<RunningUpstreams>,
        configuration: Arc<ConfigurationStatus>,
        admin: Arc<admin::State>,
        key_log: Option<Arc<dyn KeyLog>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            configuration,
            common,
            key_log,
            admin,
            routes: Arc::new(Latest::new(Table::default())),
            running,
            own: OnceLock::new(),
            changing: Mutex::default(),
            ending: Ending::default(),
        })
    }

    /// Puts the first plan in force, logs what is doubtful in its trust, and has the drain, once begun, aborted after
    /// the time of the plan then in force. Fails if an upstream's TLS cannot be prepared or an address cannot be bound.
    pub(super) fn begin(self: &Arc<Self>, plan: &Plan) -> Result<(), StartError> {
        let mut changing = self.lock();
        let prepared = self.prepare(plan, &changing)?;
        self.commit(plan.drain, prepared, &mut changing);
        self.admin.follow(&changing.upstreams);
        warn_of_trust(None, plan);
        let live = Arc::clone(self);
        self.run_on_first(|_| async move {
            live.common.drain.begun().await;
            live.ending.begin(&live.running, &live.common.proxy);
            let time = live.configuration.in_force().plan.drain;
            bound_drain(live.common.drain.clone(), time).await;
        });
        Ok(())
    }

    /// Puts another plan in force as a whole, with the text that it was compiled from. On an error nothing changes: if
    /// the drain has begun, the plan needs a restart, a port would change its owner, or a part cannot be prepared.
    pub(super) fn reconfigure(
        self: &Arc<Self>,
        plan: Plan,
        text: String,
    ) -> Result<(), ReconfigureError> {
        let mut changing = self.lock();
        if self.common.drain.has_begun() {
            return Err(ReconfigureError::Ending);
        }
        let in_force = self.configuration.in_force();
        let mut refused = fixed_settings(&in_force.plan, &plan);
        refused.extend(changing.other_owners(&plan));
        if !refused.is_empty() {
            return Err(ReconfigureError::Refused(refused));
        }
        let prepared = self.prepare(&plan, &changing)?;
        self.common.proxy.access.set(plan.log.access);
        log::reconfigure(&plan.log);
        recheck_descriptor_limit(&in_force.plan, &plan);
        self.commit(plan.drain, prepared, &mut changing);
        self.divide_descriptors(&plan, &changing);
        self.admin.follow(&changing.upstreams);
        warn_of_trust(Some(&in_force.plan), &plan);
        self.configuration.applied(plan, text, SystemTime::now());
        Ok(())
    }

    /// Lets clients in, and requests out, once all threads run: divides the descriptors between clients, upstreams and
    /// operators. What is open at that moment is Warmline's own. Returns the most connections of each operators' port.
    pub(super) fn open(&self, plan: &Plan) -> usize {
        let changing = self.lock();
        let sockets = changing.inlets.sockets() * self.common.workers.len();
        self.own.get_or_init(|| own_descriptors().saturating_sub(sockets));
        self.divide_descriptors(plan, &changing)
    }

    /// Divides the descriptors between clients, upstreams and operators by this plan, and sets the bound on the buffers
    /// by its largest header limit. Returns the most connections of each operators' port. Before [`Live::open`] nothing
    /// is divided, and each port may have its default number.
    fn divide_descriptors(&self, plan: &Plan, changing: &ChangeState) -> usize {
        let Some(own) = self.own.get() else { return OPERATORS };
        let sockets = changing.inlets.sockets() * self.common.workers.len();
        let earlier = self.allowed_earlier(&changing.upstreams);
        let division = divide_descriptors(plan, own + sockets, earlier);
        self.common.resources.divide(division, most_clients(plan));
        let heads = plan.listeners.iter().map(|listener| listener.limits.header_bytes);
        self.common.resources.buffers.resize(heads.max().unwrap_or_default());
        division.operators
    }

    /// Counts the connections that only an earlier plan allowed: those above a cap that was lowered, and the cap of
    /// each upstream that is no longer configured, because its last requests may still dial.
    fn allowed_earlier(&self, configured: &[Arc<Upstream>]) -> usize {
        let configured: HashSet<_> = configured.iter().map(Arc::as_ptr).collect();
        let allowed_earlier = |upstream: &Arc<Upstream>| {
            let cap = upstream.settings().pool.max_connections;
            if configured.contains(&Arc::as_ptr(upstream)) {
                upstream.pool().census().total().saturating_sub(cap)
            } else {
                cap
            }
        };
        self.running.share().iter().map(allowed_earlier).sum()
    }

    /// Prepares everything of a plan that can fail, and changes nothing in force: the TLS of new and changed upstreams,
    /// and the sockets of addresses that are not open yet. Fails with the first error.
    fn prepare<'a>(
        &self,
        plan: &'a Plan,
        changing: &ChangeState,
    ) -> Result<PreparedPlan<'a>, StartError> {
        let running = self.running.share();
        let running: HashMap<_, _> = running.iter().map(|known| (known.name(), known)).collect();
        let (mut upstreams, mut new, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        for settings in &plan.upstreams {
            let tls = |error| StartError::Tls { name: settings.name.clone(), error };
            let known = running.get(settings.name.as_str());
            let upstream = if let Some(known) = known.copied() {
                let change = known.prepare(Arc::clone(settings)).map_err(tls)?;
                changes.push((Arc::clone(known), change));
                Arc::clone(known)
            } else {
                let (settings, key_log) = (Arc::clone(settings), self.key_log.clone());
                let upstream =
                    Upstream::new(settings, plan.threads, key_log, Arc::clone(&self.common.ends))
                        .map_err(tls)?;
                new.push(Arc::clone(&upstream));
                upstream
            };
            upstreams.push(upstream);
        }
        let inlets = changing.inlets.prepare(plan, self.common.workers.len())?;
        Ok(PreparedPlan { upstreams, new, changes, inlets })
    }

    /// Puts a prepared plan in force; cannot fail. Applies the upstreams' changes, starts the maintenance of new ones,
    /// replaces the routes, opens and closes inlets, and retires the upstreams that are no longer configured. Clients
    /// of closed inlets have the time `drain` for their exchanges.
    fn commit(
        self: &Arc<Self>,
        drain: Duration,
        prepared: PreparedPlan<'_>,
        changing: &mut ChangeState,
    ) {
        let now = Instant::now();
        let PreparedPlan { upstreams, new, changes, inlets } = prepared;
        for (upstream, change) in changes {
            upstream.apply(change, now);
        }
        let mut running = self.running.share().to_vec();
        running.extend(new.iter().cloned());
        self.running.replace(running);
        for upstream in new {
            let live = Arc::clone(self);
            self.run_on_first(|worker| keep(live, upstream, worker));
        }
        self.routes.replace(table(&upstreams));
        changing.note_owners(&upstreams);
        let destinations = Destinations::new(&self.routes, &upstreams);
        for closing in changing.inlets.commit(inlets, &destinations, &self.common) {
            closing.begin();
            self.run_on_first(move |_| bound_drain(closing, drain));
        }
        let configured: HashSet<_> = upstreams.iter().map(Arc::as_ptr).collect();
        let removed =
            changing.upstreams.iter().filter(|old| !configured.contains(&Arc::as_ptr(old)));
        removed.for_each(|removed| removed.retire(now));
        changing.upstreams = upstreams;
    }

    /// Runs a task on the first worker's thread.
    fn run_on_first<F>(&self, task: impl FnOnce(Arc<Worker>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.run_on(0, task);
    }

    /// Runs a task on the thread of the worker with this index; drops it if the worker has ended.
    fn run_on<F>(&self, thread: usize, task: impl FnOnce(Arc<Worker>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(worker) = self.common.workers.get(thread) {
            // A worker that has ended needs nothing more.
            let _ = worker.send(Job::Run(Box::new(|worker| Box::pin(task(worker)))));
        }
    }

    /// Returns the upstream of this name, if it is configured.
    pub(super) fn upstream(&self, name: &str) -> Option<Arc<Upstream>> {
        self.lock().upstreams.iter().find(|upstream| upstream.name() == name).cloned()
    }

    /// Logs how the end went, once every worker has ended.
    pub(super) fn tell_end(&self) {
        self.ending.tell(&self.running, &self.common.proxy);
    }

    /// Returns every address that takes traffic.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.lock().inlets.addresses()
    }

    /// Forgets the upstream if it is no longer configured and has no connection left; true if it did, and always during
    /// the drain. Returns `None` while a change is being made, because a worker's thread must not wait for that.
    fn forget(&self, upstream: &Arc<Upstream>) -> Option<bool> {
        if self.common.drain.has_begun() {
            return Some(true);
        }
        let changing = match self.changing.try_lock() {
            Ok(changing) => changing,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if contains(&changing.upstreams, upstream) || !upstream.pool().is_drained() {
            return Some(false);
        }
        let running = self.running.share();
        let left = running.iter().filter(|other| !Arc::ptr_eq(other, upstream));
        self.running.replace(left.cloned().collect::<Vec<_>>());
        // The upstream's share of the descriptors goes to clients and to the other upstreams.
        self.divide_descriptors(&self.configuration.in_force().plan, &changing);
        tracing::info!(upstream = upstream.name(), "upstream gone: its last connection is closed");
        Some(true)
    }

    fn lock(&self) -> MutexGuard<'_, ChangeState> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChangeState {
    /// Returns the keys by which a port that one upstream had for itself would become another upstream's or a
    /// listener's: applications that hold the old URL would reach the wrong destination.
    fn other_owners(&self, plan: &Plan) -> Vec<RefusedKey> {
        let upstreams = plan.upstreams.iter().enumerate().filter_map(|(index, settings)| {
            let port = settings.port.filter(|port| *port != 0)?;
            let owner = self.owners.get(&port).filter(|owner| **owner != settings.name)?;
            let message = format!(
                "port {port} carried the upstream {owner:?} in this process, and applications may still call it so; give \
                 {:?} another port, or restart Warmline",
                settings.name
            );
            Some(RefusedKey { path: format!("upstreams[{index}].port"), message })
        });
        let listeners = plan.listeners.iter().enumerate().flat_map(|(index, listener)| {
            let binds = listener.binds.iter().enumerate();
            binds.map(move |(at, bind)| {
                (format!("listeners[{index}].bind[{at}]"), bind.address.port())
            })
        });
        let listeners = listeners.filter_map(|(path, port)| {
            let owner = self.owners.get(&port)?;
            let message = format!(
                "port {port} carried the upstream {owner:?} alone in this process, and applications may still call it so; \
                 bind another port, or restart Warmline"
            );
            Some(RefusedKey { path, message })
        });
        upstreams.chain(listeners).collect()
    }

    /// Records the upstream that carries each own port, for as long as the process lives.
    fn note_owners(&mut self, upstreams: &[Arc<Upstream>]) {
        for upstream in upstreams {
            if let Some(port) = upstream.settings().port {
                // Port 0 is another port each time.
                if port != 0 {
                    self.owners.insert(port, upstream.name().to_owned());
                }
            }
        }
    }
}

/// Logs expired certificates that are trusted, and that some of the system's roots cannot be read, unless the same was
/// logged for the plan `before`.
fn warn_of_trust(before: Option<&Plan>, plan: &Plan) {
    let expired = |plan: &Plan| config::expired_trust(&plan.credentials, SystemTime::now());
    let told = before.map(expired).unwrap_or_default();
    for warning in expired(plan).into_iter().filter(|warning| !told.contains(warning)) {
        tracing::warn!(reason = warning, "an expired certificate is trusted");
    }
    let unread = |plan: &Plan| config::unread_roots(&plan.credentials);
    let told = before.and_then(unread);
    if let Some(warning) = unread(plan).filter(|warning| told.as_ref() != Some(warning)) {
        tracing::warn!(reason = warning, "some of the system's roots cannot be read");
    }
}

/// Returns all settings that differ but cannot change while the process runs: the number of threads, the addresses of
/// metrics and administration, and the log's format.
fn fixed_settings(old: &Plan, new: &Plan) -> Vec<RefusedKey> {
    let values = |plan: &Plan| {
        [
            ("threads", plan.threads.to_string()),
            ("metrics.bind", addresses(&plan.metrics)),
            ("admin.bind", addresses(&plan.admin)),
            ("log.format", plan.log.format.as_str().to_owned()),
        ]
    };
    let pairs = values(old).into_iter().zip(values(new));
    let changed = pairs.filter(|(old, new)| old != new);
    let refused = |((key, old), (_, new)): ((&str, String), (&str, String))| RefusedKey {
        path: key.to_owned(),
        message: format!(
            "{old} is in force, and {new} is wanted; only a restart changes it: restart, or write {old}"
        ),
    };
    changed.map(refused).collect()
}

/// Returns the addresses as text, so that a default equals the same address written out.
fn addresses(binds: &[Bind]) -> String {
    let addresses = binds.iter().map(|bind| bind.address.to_string());
    addresses.collect::<Vec<_>>().join(", ")
}

fn contains(upstreams: &[Arc<Upstream>], upstream: &Arc<Upstream>) -> bool {
    upstreams.iter().any(|other| Arc::ptr_eq(other, upstream))
}

/// Maintains an upstream's pool (purges, limits on age and idle time, the warm floor) until the upstream is no longer
/// configured and its last connection is closed.
async fn keep(live: Arc<Live>, upstream: Arc<Upstream>, worker: Arc<Worker>) {
    let maintained = upstream.maintain(&worker.resolver);
    let kept = async { tokio::join!(maintained, keep_warm(&live, &upstream)) };
    let left = async {
        loop {
            upstream.pool().drained().await;
            match live.forget(&upstream) {
                Some(true) => return,
                Some(false) => {}
                None => sleep(CHANGING).await,
            }
        }
    };
    tokio::select! {
        _ = kept => {}
        () = left => {}
    }
}

/// Dials for the upstream's warm floor until the drain begins. The worker threads dial in turn, because each drives the
/// connections that it dialled.
async fn keep_warm(live: &Live, upstream: &Arc<Upstream>) {
    let threads = live.common.workers.len();
    let first = fastrand::usize(..threads);
    for thread in (0..threads).cycle().skip(first) {
        let permit = tokio::select! {
            biased;
            () = live.common.drain.begun() => return,
            permit = upstream.lacks_warm(thread) => permit,
        };
        let upstream = Arc::clone(upstream);
        live.run_on(thread, |worker| async move { upstream.dial_warm(permit, &worker) });
    }
}

/// Waits for this time, then aborts the drain, which ends exchanges in flight.
async fn bound_drain(drain: Drain, time: Duration) {
    let _ = timeout(time, drain.aborted()).await;
    drain.abort();
}
