//! The addresses that take traffic (inlets): which are open, and which a new plan opens, keeps or closes.

use std::{
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::sync::mpsc::UnboundedSender;

use super::{
    StartError,
    routes::Destinations,
    sockets::{Bound, bind, bind_own_port},
    worker::{Job, ListeningSocket},
};
use crate::{
    config::{Bind, Listener, Plan},
    connect::HeaderCase,
    drain::Drain,
    latest::Latest,
    listener::Inlet,
    proxy::{Destination, Entry, Proxy},
    resources::{ConnectionBound, Resources},
    telemetry::ends::Ends,
    upstream::Settings,
};

/// The state that all inlets share, and the workers that accept on them.
pub(super) struct InletContext {
    pub(super) proxy: Arc<Proxy>,
    pub(super) ends: Arc<Ends>,
    pub(super) drain: Drain,
    pub(super) resources: Arc<Resources>,
    /// The workers' job queues.
    pub(super) workers: Vec<UnboundedSender<Job>>,
}

/// The open inlets in the plan's order: first the listeners', then the upstreams' own ports.
#[derive(Default)]
pub(super) struct Inlets(Vec<OpenInlet>);

/// The purpose of an open address. If the next plan has an equal one, the socket stays open.
#[derive(Debug, Clone)]
enum InletKey {
    /// A listener's configured address, and the number of equal ones before it in the plan (port 0 may occur often).
    Listener(Bind, usize),
    /// The own port of the upstream with this name.
    OwnPort(String, u16),
}

/// Two listener addresses are equal whether they were written or are defaults.
impl PartialEq for InletKey {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Listener(bind, nth), Self::Listener(other, other_nth)) => {
                (bind.address, nth) == (other.address, other_nth)
            }
            (Self::OwnPort(name, port), Self::OwnPort(other, other_port)) => {
                (name, port) == (other, other_port)
            }
            _ => false,
        }
    }
}

impl Eq for InletKey {}

impl Hash for InletKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Listener(bind, nth) => (bind.address, nth).hash(state),
            Self::OwnPort(name, port) => (name, port).hash(state),
        }
    }
}

struct OpenInlet {
    key: InletKey,
    addresses: Vec<SocketAddr>,
    inlet: Arc<Inlet>,
    /// The destination of an upstream's own port; `None` for a listener's address.
    destination: Option<Arc<Latest<Destination>>>,
}

/// An address that a plan wants open.
struct WantedInlet<'a> {
    key: InletKey,
    /// The index of the listener in the plan; 0 for an own port, which has the first listener's limits.
    listener: usize,
    settings: &'a Listener,
    /// True if an upstream behind this address wants the case of field names kept.
    keeps_case: bool,
}

/// The addresses that a plan wants, in its order; those that are not open yet come with new sockets.
pub(super) struct PreparedInlets<'a>(Vec<(WantedInlet<'a>, Option<NewSockets>)>);

/// New listening sockets; each worker gets a descriptor of each.
struct NewSockets {
    addresses: Vec<SocketAddr>,
    for_workers: Vec<Vec<ListeningSocket>>,
}

impl Inlets {
    /// Opens the addresses that are not open yet; nothing is in force before [`Inlets::commit`].
    pub(super) fn prepare<'a>(
        &self,
        plan: &'a Plan,
        workers: usize,
    ) -> Result<PreparedInlets<'a>, StartError> {
        let kept: HashSet<_> = self.0.iter().map(|open| &open.key).collect();
        let opened = wanted(plan).into_iter().map(|wanted| {
            let opened = || wanted.open(workers).map_err(|error| self.explain(error));
            let sockets = if kept.contains(&wanted.key) { None } else { Some(opened()?) };
            Ok((wanted, sockets))
        });
        opened.collect::<Result<_, _>>().map(PreparedInlets)
    }

    /// Adds a remedy if this process itself has the port: an address that a plan widens or narrows is bound before the
    /// old one closes.
    fn explain(&self, error: StartError) -> StartError {
        let ours = |address: SocketAddr| {
            let mut open = self.0.iter().flat_map(|open| &open.addresses);
            open.any(|open| open.port() == address.port())
        };
        match error {
            StartError::Bind { what, address, error, .. } if ours(address) => {
                let hint = " (this Warmline still listens on that port itself; take that address out first, and \
                            write this one in a second change, or restart)";
                StartError::Bind { what, address, error, hint }
            }
            other => other,
        }
    }

    /// Puts a plan's addresses in force: new ones accept from now on, kept ones get the plan's settings, and their clients
    /// stay. Returns the drains of the inlets that the plan no longer wants: they accept until the caller begins the
    /// drain, but are not among these inlets any more. `inlets` must have been prepared from these inlets as they are
    /// now.
    pub(super) fn commit(
        &mut self,
        inlets: PreparedInlets<'_>,
        destinations: &Destinations<'_>,
        common: &InletContext,
    ) -> Vec<Drain> {
        let mut open = Vec::new();
        let mut bounds = ListenerBounds::default();
        let before = std::mem::take(&mut self.0).into_iter();
        let mut before: HashMap<_, _> = before.map(|open| (open.key.clone(), open)).collect();
        for (wanted, sockets) in inlets.0 {
            let kept = before.remove(&wanted.key);
            let had = kept.as_ref().map(|open| open.inlet.bound.share());
            let bound = bounds.of(&wanted, had);
            open.extend(match (kept, sockets) {
                (Some(open), _) => Some(open.keep(&wanted, bound, destinations)),
                (None, Some(sockets)) => {
                    Some(OpenInlet::new(&wanted, sockets, bound, destinations, common))
                }
                (None, None) => None,
            });
        }
        self.0 = open;
        before.into_values().map(|closed| closed.inlet.drain.clone()).collect()
    }

    /// Returns the number of listening sockets; each worker has a descriptor of each.
    pub(super) fn sockets(&self) -> usize {
        self.0.iter().map(|open| open.addresses.len()).sum()
    }

    /// Returns every open address in the plan's order.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().flat_map(|open| open.addresses.iter().copied()).collect()
    }
}

/// Returns the addresses that a plan wants: the listeners', then each upstream's own port, which has the first
/// listener's limits.
fn wanted(plan: &Plan) -> Vec<WantedInlet<'_>> {
    let mut wanted_inlets: Vec<WantedInlet<'_>> = Vec::new();
    let keeps = |upstream: &Arc<Settings>| upstream.header_case == HeaderCase::Kept;
    let keeps_case = plan.upstreams.iter().any(keeps);
    for (listener, settings) in plan.listeners.iter().enumerate() {
        for bind in &settings.binds {
            let before =
                wanted_inlets.iter().filter(|wanted| wanted.key.is_at(bind.address)).count();
            wanted_inlets.push(WantedInlet {
                key: InletKey::Listener(*bind, before),
                listener,
                settings,
                keeps_case,
            });
        }
    }
    let Some(first) = plan.listeners.first() else { return wanted_inlets };
    for upstream in &plan.upstreams {
        if let Some(port) = upstream.port {
            let key = InletKey::OwnPort(upstream.name.clone(), port);
            let keeps_case = keeps(upstream);
            wanted_inlets.push(WantedInlet { key, listener: 0, settings: first, keeps_case });
        }
    }
    wanted_inlets
}

impl WantedInlet<'_> {
    /// Binds the address, or an upstream's own port on both loopback families, and duplicates the sockets for each of
    /// the `workers`. Fails if an address cannot be bound or descriptors run out.
    fn open(&self, workers: usize) -> Result<NewSockets, StartError> {
        let bound = match &self.key {
            InletKey::Listener(listed, _) => {
                bind(&format!("listeners[{}].bind", self.listener), &[*listed])?
            }
            InletKey::OwnPort(name, port) => bind_own_port(name, *port)?,
        };
        let duplicate = |bound: &Bound| bound.listener.try_clone().map_err(StartError::Thread);
        let for_workers = (0..workers).map(|_| bound.iter().map(duplicate).collect());
        Ok(NewSockets {
            for_workers: for_workers.collect::<Result<_, _>>()?,
            addresses: bound.iter().map(|bound| bound.address).collect(),
        })
    }
}

impl InletKey {
    /// True if this is a listener's, with this address.
    fn is_at(&self, address: SocketAddr) -> bool {
        matches!(self, Self::Listener(bind, _) if bind.address == address)
    }
}

/// A plan's bounds on client connections: the addresses of one listener share a bound, and each own port has its own.
#[derive(Default)]
struct ListenerBounds {
    /// The bound of each listener, by its index in the plan.
    shared: HashMap<usize, Arc<ConnectionBound>>,
    taken: HashSet<*const ConnectionBound>,
}

impl ListenerBounds {
    /// Returns the bound for this address, which stays the one it `had` unless another listener has taken that one by
    /// now.
    fn of(
        &mut self,
        wanted: &WantedInlet<'_>,
        had: Option<Arc<ConnectionBound>>,
    ) -> Arc<ConnectionBound> {
        let shared = matches!(wanted.key, InletKey::Listener(..));
        if let Some(bound) = self.shared.get(&wanted.listener).filter(|_| shared) {
            return Arc::clone(bound);
        }
        let most = wanted.settings.limits.connections;
        let had = had.filter(|had| !self.taken.contains(&Arc::as_ptr(had)));
        let bound = had.unwrap_or_else(|| ConnectionBound::new(most));
        bound.resize(most);
        self.taken.insert(Arc::as_ptr(&bound));
        if shared {
            self.shared.insert(wanted.listener, Arc::clone(&bound));
        }
        bound
    }
}

impl OpenInlet {
    /// Makes an open address with the plan's limits, and gives each worker its new sockets to accept on.
    fn new(
        wanted: &WantedInlet<'_>,
        sockets: NewSockets,
        bound: Arc<ConnectionBound>,
        destinations: &Destinations<'_>,
        common: &InletContext,
    ) -> Self {
        let limits = wanted.settings.limits.clone();
        let destination = match &wanted.key {
            InletKey::OwnPort(name, _) => {
                destinations.own(name).map(|own| Arc::new(Latest::new(own)))
            }
            InletKey::Listener(..) => None,
        };
        let entry = match &destination {
            Some(destination) => Entry::Own(Arc::clone(destination)),
            None => Entry::Shared(Arc::clone(destinations.routes)),
        };
        let inlet = Arc::new(Inlet {
            proxy: Arc::clone(&common.proxy),
            entry,
            bound: Latest::new(bound),
            resources: Arc::clone(&common.resources),
            limits: Latest::new(limits),
            explain: AtomicBool::new(wanted.settings.explain),
            keeps_case: AtomicBool::new(wanted.keeps_case),
            ends: Arc::clone(&common.ends),
            drain: common.drain.branch(),
        });
        for (worker, listening) in common.workers.iter().zip(sockets.for_workers) {
            for listener in listening {
                // A worker that has ended accepts nothing more.
                let _ = worker.send(Job::Accept(listener, Arc::clone(&inlet)));
            }
        }
        Self { key: wanted.key.clone(), addresses: sockets.addresses, inlet, destination }
    }

    /// Gives a kept address the new plan's bound on connections, its limits and its destination; the socket stays open,
    /// and connected clients stay.
    fn keep(
        self,
        wanted: &WantedInlet<'_>,
        bound: Arc<ConnectionBound>,
        destinations: &Destinations<'_>,
    ) -> Self {
        ConnectionBound::move_to(&self.inlet.bound, bound);
        self.inlet.limits.replace(wanted.settings.limits.clone());
        self.inlet.explain.store(wanted.settings.explain, Relaxed);
        self.inlet.keeps_case.store(wanted.keeps_case, Relaxed);
        if let (InletKey::OwnPort(name, _), Some(destination)) = (&self.key, &self.destination)
            && let Some(own) = destinations.own(name)
        {
            destination.replace(own);
        }
        self
    }
}
