//! Where applications come in: accepts, bounded, and serves each connection on the thread that accepted it.

mod connection;
pub mod escape;
mod rest;
mod stream;

use std::{
    future::poll_fn,
    io,
    sync::{Arc, atomic::AtomicBool},
    task::Poll,
    time::{Duration, Instant},
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
    resources::{ClientSeats, Resource, Resources, Room, Seat},
    socket,
    telemetry::ends::Ends,
    upstream::Worker,
};

/// How long accepting rests after an error that is ours: descriptors used up, above all.
const REST: Duration = Duration::from_millis(100);

/// One way in: what its connections share.
pub struct Inlet {
    /// Carries the requests.
    pub proxy: Arc<Proxy>,
    /// How its requests find their destination.
    pub entry: Entry,
    /// Bounds on what the application may send and hold; a connection keeps those that it began with.
    pub limits: Latest<ListenerLimits>,
    /// Whether answers say in their heads what they came by.
    pub explain: AtomicBool,
    /// True if an upstream behind it wants field names in the case in which applications write them.
    pub keeps_case: AtomicBool,
    /// How many connections it may have, over all addresses of its listener and all threads.
    pub room: Latest<Room>,
    /// How many connections and descriptors all clients of the process may have, among other bounds.
    pub resources: Arc<Resources>,
    /// How connections ended.
    pub ends: Arc<Ends>,
    /// Its own end: that of the process, or of the listener.
    pub drain: Drain,
}

/// Accepts until the drain begins, takes what the backlog holds, and returns when every connection has ended.
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
    accept_backlog(&listener, &mut connections, &inlet, &worker);
    drop(listener);
    while connections.join_next().await.is_some() {}
}

type Accepted = io::Result<(TcpStream, Seats)>;

/// The seats of one client connection; given back on drop.
struct Seats {
    _client: ClientSeats,
    _room: Seat,
}

/// Waits for room first: above the limits we stop accepting.
async fn next(listener: &TcpListener, inlet: &Inlet) -> Accepted {
    match let_in(listener, inlet).await {
        Ok(accepted) => Ok(accepted),
        Err(error) => {
            // No upstream's idle connection closes for a client that may never ask anything.
            if descriptors::is_shortage(&error) {
                inlet.resources.short_of(Resource::ClientDescriptors);
            } else {
                tracing::warn!(%error, "a connection cannot be accepted");
            }
            tokio::time::sleep(REST).await;
            Err(error)
        }
    }
}

/// The seats are given back while nobody comes: the listener's other addresses and threads have the same room.
async fn let_in(listener: &TcpListener, inlet: &Inlet) -> Accepted {
    loop {
        let mut seats = Some(inlet.seats().await);
        let somebody = poll_fn(|cx| match seats.take().or_else(|| inlet.free_seats()) {
            Some(seats) => listener.poll_accept(cx).map(|accepted| Some((accepted, seats))),
            None => Poll::Ready(None),
        });
        if let Some((accepted, seats)) = somebody.await {
            return accepted.map(|(stream, _)| (stream, seats));
        }
    }
}

impl Inlet {
    /// Waits for a seat in the newest room and in the bounds over all clients.
    async fn seats(&self) -> Seats {
        loop {
            // Before the room, so that this wait keeps nobody out of it.
            self.resources.client_vacancy().await;
            let room = Room::seat(&self.room).await;
            if let Some(client) = self.resources.client_seats() {
                return Seats { _client: client, _room: room };
            }
        }
    }

    /// Waits until no seat is left for a next client.
    async fn full(&self) {
        let room = self.room.share();
        tokio::select! {
            () = room.full() => {}
            () = self.resources.connections.full() => {}
            () = self.resources.clients.full() => {}
        }
    }

    fn free_seats(&self) -> Option<Seats> {
        let room = self.room.share().free_seat()?;
        let client = self.resources.client_seats()?;
        Some(Seats { _client: client, _room: room })
    }
}

fn spawn(
    connections: &mut JoinSet<()>,
    accepted: Accepted,
    inlet: &Arc<Inlet>,
    worker: &Arc<Worker>,
) {
    let Ok((stream, seats)) = accepted else { return };
    if let Err(error) = socket::set_options(&stream) {
        tracing::debug!(%error, "a client connection takes no options");
    }
    let (inlet, worker) = (Arc::clone(inlet), Arc::clone(worker));
    connections.spawn(async move {
        connection::serve(stream, inlet, worker).await;
        drop(seats);
    });
}

/// What had connected before the drain began is served.
fn accept_backlog(
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    inlet: &Arc<Inlet>,
    worker: &Arc<Worker>,
) {
    let waker = std::task::Waker::noop();
    let mut cx = std::task::Context::from_waker(waker);
    while let Some(seats) = inlet.free_seats() {
        let Poll::Ready(Ok((stream, _))) = listener.poll_accept(&mut cx) else { return };
        spawn(connections, Ok((stream, seats)), inlet, worker);
    }
}
