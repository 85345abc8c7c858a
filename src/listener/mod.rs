//! The listeners for applications: they accept connections, within bounds, and serve each on the thread that accepted
//! it.

mod connection;
pub mod escape;
mod rest;
mod stream;

use std::{
    future::poll_fn,
    io,
    sync::{Arc, atomic::AtomicBool},
    task::Poll,
    time::Instant,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    config::ListenerLimits,
    descriptors,
    drain::Drain,
    latest::Latest,
    memory::Crowd,
    proxy::{Entry, Proxy},
    resources::{ClientSlots, ConnectionBound, Resource, Resources, Slot},
    socket,
    telemetry::ends::Ends,
    upstream::Worker,
};

/// An inlet: what the connections of one address share.
pub struct Inlet {
    /// The proxy that serves the requests.
    pub proxy: Arc<Proxy>,
    /// The way in which its requests find their upstream.
    pub entry: Entry,
    /// The bounds on what a client may send and hold; a connection keeps the bounds that it began with.
    pub limits: Latest<ListenerLimits>,
    /// True if responses tell in their heads how they were made (`explain`).
    pub explain: AtomicBool,
    /// True if an upstream behind it wants field names in the client's spelling.
    pub keeps_case: AtomicBool,
    /// The bound on connections, shared by all addresses of its listener and all threads.
    pub bound: Latest<ConnectionBound>,
    /// The process-wide bounds, such as those on client connections and descriptors.
    pub resources: Arc<Resources>,
    /// The counters of how connections ended.
    pub ends: Arc<Ends>,
    /// The drain of the listener, or of the process.
    pub drain: Drain,
}

/// Accepts connections until the drain begins, then those in the kernel's backlog; returns when every connection has
/// ended.
pub async fn accept(listener: TcpListener, inlet: Arc<Inlet>, worker: Arc<Worker>) {
    let mut connections = JoinSet::new();
    let drain = inlet.drain.clone();
    let mut crowd = Crowd::default();
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => break,
            Some(_) = connections.join_next() => crowd.note(Instant::now(), connections.len()),
            accepted = next(&listener, &inlet) => {
                spawn(&mut connections, accepted, &inlet, &worker);
                crowd.note(Instant::now(), connections.len());
            }
            () = crowd.gives_back() => {}
        }
    }
    match listener.into_std() {
        Ok(listener) => accept_backlog(&listener, &mut connections, &inlet, &worker),
        Err(error) => tracing::warn!(%error, "the connections of the backlog cannot be accepted"),
    }
    while connections.join_next().await.is_some() {}
}

type Accepted = io::Result<(TcpStream, Slots)>;

/// The slots of one client connection; given back when dropped.
struct Slots {
    _client: ClientSlots,
    _listener: Slot,
}

/// Accepts the next connection, after waiting for slots: above the limits nothing is accepted. Fails, after a pause, if
/// the kernel does not accept; a shortage of descriptors is counted, every other error is logged.
async fn next(listener: &TcpListener, inlet: &Inlet) -> Accepted {
    match let_in(listener, inlet).await {
        Ok(accepted) => Ok(accepted),
        Err(error) => {
            // Upstreams' idle connections are not closed for a client that may never send a request.
            if descriptors::is_shortage(&error) {
                inlet.resources.short_of(Resource::ClientDescriptors);
            } else {
                tracing::warn!(%error, "a connection cannot be accepted");
            }
            tokio::time::sleep(socket::ACCEPT_PAUSE).await;
            Err(error)
        }
    }
}

/// Waits for slots and a connection. Slots are given back while no client comes, as the listener's other addresses and
/// threads share the bound.
async fn let_in(listener: &TcpListener, inlet: &Inlet) -> Accepted {
    loop {
        let mut slots = Some(inlet.slots().await);
        let somebody = poll_fn(|cx| match slots.take().or_else(|| inlet.free_slots()) {
            Some(slots) => listener.poll_accept(cx).map(|accepted| Some((accepted, slots))),
            None => Poll::Ready(None),
        });
        if let Some((accepted, slots)) = somebody.await {
            return accepted.map(|(stream, _)| (stream, slots));
        }
    }
}

impl Inlet {
    /// Waits for a slot of the newest bound and within the process-wide bounds.
    async fn slots(&self) -> Slots {
        loop {
            // This wait comes before the one for the bound, so that it holds no slot of that.
            self.resources.until_client_slot_free().await;
            let listener = ConnectionBound::slot(&self.bound).await;
            if let Some(client) = self.resources.client_slots() {
                return Slots { _client: client, _listener: listener };
            }
        }
    }

    /// Waits until no slot is left for a next client.
    async fn full(&self) {
        let bound = self.bound.share();
        tokio::select! {
            () = bound.full() => {}
            () = self.resources.connections.full() => {}
            () = self.resources.clients.full() => {}
        }
    }

    fn free_slots(&self) -> Option<Slots> {
        let listener = self.bound.share().free_slot()?;
        let client = self.resources.client_slots()?;
        Some(Slots { _client: client, _listener: listener })
    }
}

/// Serves an accepted connection in a task of its own, which gives its slots back at the end. Does nothing if accepting
/// failed.
fn spawn(
    connections: &mut JoinSet<()>,
    accepted: Accepted,
    inlet: &Arc<Inlet>,
    worker: &Arc<Worker>,
) {
    let Ok((stream, slots)) = accepted else { return };
    if let Err(error) = socket::set_options(&stream) {
        tracing::debug!(%error, "a client connection takes no options");
    }
    let (inlet, worker) = (Arc::clone(inlet), Arc::clone(worker));
    connections.spawn(async move {
        connection::serve(stream, inlet, worker).await;
        drop(slots);
    });
}

/// Serves the connections that were made before the drain began and wait in the kernel's backlog. The kernel is asked, as
/// the runtime may not have told of them yet.
fn accept_backlog(
    listener: &std::net::TcpListener,
    connections: &mut JoinSet<()>,
    inlet: &Arc<Inlet>,
    worker: &Arc<Worker>,
) {
    while let Some(slots) = inlet.free_slots() {
        let Some(stream) = socket::accept_waiting(listener) else { return };
        spawn(connections, Ok((stream, slots)), inlet, worker);
    }
}
