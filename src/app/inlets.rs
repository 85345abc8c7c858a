//! The addresses that take traffic: which are open, and which a plan opens, keeps or closes.

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
    routes::Entries,
    sockets::{Bound, bind, bind_own_port},
    worker::{Job, Listening},
};
use crate::{
    config::{Bind, Listener, Plan},
    connect::HeaderCase,
    drain::Drain,
    latest::Latest,
    listener::Inlet,
    proxy::{Destination, Entry, Proxy},
    resources::{Resources, Room},
    telemetry::ends::Ends,
    upstream::Settings,
};

/// What all inlets share, and the workers that accept on them.
pub(super) struct Common {
    pub(super) proxy: Arc<Proxy>,
    pub(super) ends: Arc<Ends>,
    pub(super) drain: Drain,
    pub(super) resources: Arc<Resources>,
    /// Each worker takes its jobs here.
    pub(super) workers: Vec<UnboundedSender<Job>>,
}

/// The open ones, in the plan's order: the listeners', then the upstreams' own ports.
#[derive(Default)]
pub(super) struct Inlets(Vec<Open>);

/// What an address is open for. The same door in the next plan keeps its socket.
#[derive(Debug, Clone)]
enum Door {
    /// A listener's address, as configured, and how many equal ones came before it (port 0 may come often).
    Listener(Bind, usize),
    /// The port of this upstream.
    Own(String, u16),
}

/// Whether an address was written or is the default makes no difference.
impl PartialEq for Door {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Listener(bind, nth), Self::Listener(other, other_nth)) => {
                (bind.address, nth) == (other.address, other_nth)
            }
            (Self::Own(name, port), Self::Own(other, other_port)) => {
                (name, port) == (other, other_port)
            }
            _ => false,
        }
    }
}

impl Eq for Door {}

impl Hash for Door {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Listener(bind, nth) => (bind.address, nth).hash(state),
            Self::Own(name, port) => (name, port).hash(state),
        }
    }
}

struct Open {
    door: Door,
    addresses: Vec<SocketAddr>,
    inlet: Arc<Inlet>,
    /// For an upstream's own port: where it leads.
    destination: Option<Arc<Latest<Destination>>>,
}

/// A door that a plan wants.
struct Wanted<'a> {
    door: Door,
    /// The listener's place in the plan; an own port has the first one's limits.
    listener: usize,
    settings: &'a Listener,
    /// True if an upstream behind it wants the case of field names.
    keeps_case: bool,
}

/// A plan's doors, in its order; those that are not open yet come with their sockets.
pub(super) struct Opening<'a>(Vec<(Wanted<'a>, Option<Sockets>)>);

/// New sockets: of each a descriptor for every worker.
struct Sockets {
    addresses: Vec<SocketAddr>,
    for_workers: Vec<Vec<Listening>>,
}

impl Inlets {
    /// Opens what is not open yet.
    pub(super) fn prepare<'a>(
        &self,
        plan: &'a Plan,
        workers: usize,
    ) -> Result<Opening<'a>, StartError> {
        let standing: HashSet<_> = self.0.iter().map(|open| &open.door).collect();
        let opened = wanted(plan).into_iter().map(|wanted| {
            let opened = || wanted.open(workers).map_err(|error| self.explain(error));
            let sockets = if standing.contains(&wanted.door) { None } else { Some(opened()?) };
            Ok((wanted, sockets))
        });
        opened.collect::<Result<_, _>>().map(Opening)
    }

    /// Who has the port may be we: an address that a plan widens or narrows is bound before the old one closes.
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

    /// Puts a plan's doors in force; gives back the ends of those that it does not want any more.
    pub(super) fn commit(
        &mut self,
        opening: Opening<'_>,
        entries: &Entries<'_>,
        common: &Common,
    ) -> Vec<Drain> {
        let mut open = Vec::new();
        let mut rooms = Rooms::default();
        let before = std::mem::take(&mut self.0).into_iter();
        let mut before: HashMap<_, _> = before.map(|open| (open.door.clone(), open)).collect();
        for (wanted, sockets) in opening.0 {
            let standing = before.remove(&wanted.door);
            let had = standing.as_ref().map(|open| open.inlet.room.share());
            let room = rooms.of(&wanted, had);
            open.extend(match (standing, sockets) {
                (Some(open), _) => Some(open.keep(&wanted, room, entries)),
                (None, Some(sockets)) => Some(Open::new(&wanted, sockets, room, entries, common)),
                (None, None) => None,
            });
        }
        self.0 = open;
        before.into_values().map(|closed| closed.inlet.drain.clone()).collect()
    }

    /// Descriptors of listening sockets, with one worker.
    pub(super) fn sockets(&self) -> usize {
        self.0.iter().map(|open| open.addresses.len()).sum()
    }

    /// Every address, in the plan's order.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().flat_map(|open| open.addresses.iter().copied()).collect()
    }
}

/// The plan's listeners, then each upstream's own port, which has the first listener's limits.
fn wanted(plan: &Plan) -> Vec<Wanted<'_>> {
    let mut doors: Vec<Wanted<'_>> = Vec::new();
    let keeps = |upstream: &Arc<Settings>| upstream.header_case == HeaderCase::Kept;
    let keeps_case = plan.upstreams.iter().any(keeps);
    for (listener, settings) in plan.listeners.iter().enumerate() {
        for bind in &settings.binds {
            let before = doors.iter().filter(|wanted| wanted.door.is_at(bind.address)).count();
            doors.push(Wanted {
                door: Door::Listener(*bind, before),
                listener,
                settings,
                keeps_case,
            });
        }
    }
    let Some(first) = plan.listeners.first() else { return doors };
    for upstream in &plan.upstreams {
        if let Some(port) = upstream.port {
            let door = Door::Own(upstream.name.clone(), port);
            let keeps_case = keeps(upstream);
            doors.push(Wanted { door, listener: 0, settings: first, keeps_case });
        }
    }
    doors
}

impl Wanted<'_> {
    fn open(&self, workers: usize) -> Result<Sockets, StartError> {
        let bound = match &self.door {
            Door::Listener(listed, _) => {
                bind(&format!("listeners[{}].bind", self.listener), &[*listed])?
            }
            Door::Own(name, port) => bind_own_port(name, *port)?,
        };
        let duplicate = |bound: &Bound| bound.listener.try_clone().map_err(StartError::Thread);
        let for_workers = (0..workers).map(|_| bound.iter().map(duplicate).collect());
        Ok(Sockets {
            for_workers: for_workers.collect::<Result<_, _>>()?,
            addresses: bound.iter().map(|bound| bound.address).collect(),
        })
    }
}

impl Door {
    /// Whether it is this address of a listener.
    fn is_at(&self, address: SocketAddr) -> bool {
        matches!(self, Self::Listener(bind, _) if bind.address == address)
    }
}

/// A plan's bounds on connections: the addresses of one listener share one, an own port has one for itself.
#[derive(Default)]
struct Rooms {
    /// Of each listener.
    shared: HashMap<usize, Arc<Room>>,
    taken: HashSet<*const Room>,
}

impl Rooms {
    /// The one for this door, which stays what it had unless that is another listener's now.
    fn of(&mut self, wanted: &Wanted<'_>, had: Option<Arc<Room>>) -> Arc<Room> {
        let shared = matches!(wanted.door, Door::Listener(..));
        if let Some(room) = self.shared.get(&wanted.listener).filter(|_| shared) {
            return Arc::clone(room);
        }
        let most = wanted.settings.limits.connections;
        let had = had.filter(|had| !self.taken.contains(&Arc::as_ptr(had)));
        let room = had.unwrap_or_else(|| Room::new(most));
        room.resize(most);
        self.taken.insert(Arc::as_ptr(&room));
        if shared {
            self.shared.insert(wanted.listener, Arc::clone(&room));
        }
        room
    }
}

impl Open {
    fn new(
        wanted: &Wanted<'_>,
        sockets: Sockets,
        room: Arc<Room>,
        entries: &Entries<'_>,
        common: &Common,
    ) -> Self {
        let limits = wanted.settings.limits.clone();
        let destination = match &wanted.door {
            Door::Own(name, _) => entries.own(name).map(|own| Arc::new(Latest::new(own))),
            Door::Listener(..) => None,
        };
        let entry = match &destination {
            Some(destination) => Entry::Own(Arc::clone(destination)),
            None => Entry::Shared(Arc::clone(entries.routes)),
        };
        let inlet = Arc::new(Inlet {
            proxy: Arc::clone(&common.proxy),
            entry,
            room: Latest::new(room),
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
        Self { door: wanted.door.clone(), addresses: sockets.addresses, inlet, destination }
    }

    fn keep(self, wanted: &Wanted<'_>, room: Arc<Room>, entries: &Entries<'_>) -> Self {
        Room::move_to(&self.inlet.room, room);
        self.inlet.limits.replace(wanted.settings.limits.clone());
        self.inlet.explain.store(wanted.settings.explain, Relaxed);
        self.inlet.keeps_case.store(wanted.keeps_case, Relaxed);
        if let (Door::Own(name, _), Some(destination)) = (&self.door, &self.destination)
            && let Some(own) = entries.own(name)
        {
            destination.replace(own);
        }
        self
    }
}
