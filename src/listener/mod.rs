//! Where applications come in: accepts, bounded, and serves each connection on the thread that accepted it.

mod connection;
mod room;
mod stream;

use std::{
    future::poll_fn,
    io,
    sync::{Arc, atomic::AtomicBool},
    task::Poll,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

pub use room::Room;
use room::Seat;

use crate::{
    config::ListenerLimits,
    descriptors,
    drain::Drain,
    latest::Latest,
    proxy::{Entry, Proxy},
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
    /// How many connections it may have, over all addresses of its listener and all threads.
    pub room: Latest<Room>,
    /// How connections ended.
    pub ends: Arc<Ends>,
    /// Its own end: that of the process, or of the listener.
    pub drain: Drain,
}

/// Accepts until the drain begins, takes what the backlog holds, and returns when every connection has ended.
pub async fn accept(listener: TcpListener, inlet: Arc<Inlet>, worker: Arc<Worker>) {
    let mut connections = JoinSet::new();
    let drain = inlet.drain.clone();
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => break,
            Some(_) = connections.join_next() => {}
            accepted = next(&listener, &inlet) => spawn(&mut connections, accepted, &inlet, &worker),
        }
    }
    accept_backlog(&listener, &mut connections, &inlet, &worker);
    drop(listener);
    while connections.join_next().await.is_some() {}
}

type Accepted = io::Result<(TcpStream, Seat)>;

/// Waits for room first: above the limit we stop accepting.
async fn next(listener: &TcpListener, inlet: &Inlet) -> Accepted {
    match let_in(listener, &inlet.room).await {
        Ok(accepted) => Ok(accepted),
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be accepted");
            if descriptors::is_shortage(&error) {
                descriptors::tell_used_up();
            }
            tokio::time::sleep(REST).await;
            Err(error)
        }
    }
}

/// The seat is given back while nobody comes: the listener's other addresses and threads have the same room.
async fn let_in(listener: &TcpListener, room: &Latest<Room>) -> Accepted {
    loop {
        let mut seat = Some(Room::seat(room).await);
        let somebody = poll_fn(|cx| match seat.take().or_else(|| room.share().free_seat()) {
            Some(seat) => listener.poll_accept(cx).map(|accepted| Some((accepted, seat))),
            None => Poll::Ready(None),
        });
        if let Some((accepted, seat)) = somebody.await {
            return accepted.map(|(stream, _)| (stream, seat));
        }
    }
}

fn spawn(
    connections: &mut JoinSet<()>,
    accepted: Accepted,
    inlet: &Arc<Inlet>,
    worker: &Arc<Worker>,
) {
    let Ok((stream, seat)) = accepted else { return };
    if let Err(error) = socket::set_options(&stream) {
        tracing::debug!(%error, "a client connection takes no options");
    }
    let (inlet, worker) = (Arc::clone(inlet), Arc::clone(worker));
    connections.spawn(async move {
        connection::serve(stream, inlet, worker).await;
        drop(seat);
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
    while let Some(seat) = inlet.room.share().free_seat() {
        let Poll::Ready(Ok((stream, _))) = listener.poll_accept(&mut cx) else { return };
        spawn(connections, Ok((stream, seat)), inlet, worker);
    }
}
