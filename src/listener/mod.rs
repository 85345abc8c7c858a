//! Where applications come in: accepts, bounded, and serves each connection on the thread that accepted it.

mod connection;
mod stream;

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::{
    config::ListenerLimits,
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
    /// Bounds on what the application may send and hold.
    pub limits: ListenerLimits,
    /// How many more connections it may have, over all threads.
    pub room: Arc<Semaphore>,
    /// How connections ended.
    pub ends: Arc<Ends>,
}

/// Accepts until the drain begins, takes what the backlog holds, and returns when every connection has ended.
pub async fn accept(listener: TcpListener, inlet: Arc<Inlet>, worker: Arc<Worker>) {
    let mut connections = JoinSet::new();
    let drain = inlet.proxy.drain.clone();
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

type Accepted = io::Result<(TcpStream, OwnedSemaphorePermit)>;

/// Waits for room first: above the limit we stop accepting.
async fn next(listener: &TcpListener, inlet: &Inlet) -> Accepted {
    let room = Arc::clone(&inlet.room).acquire_owned().await.map_err(io::Error::other)?;
    match listener.accept().await {
        Ok((stream, _)) => Ok((stream, room)),
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be accepted");
            tokio::time::sleep(REST).await;
            Err(error)
        }
    }
}

fn spawn(
    connections: &mut JoinSet<()>,
    accepted: Accepted,
    inlet: &Arc<Inlet>,
    worker: &Arc<Worker>,
) {
    let Ok((stream, room)) = accepted else { return };
    if let Err(error) = socket::set_options(&stream) {
        tracing::debug!(%error, "a client connection takes no options");
    }
    let (inlet, worker) = (Arc::clone(inlet), Arc::clone(worker));
    connections.spawn(async move {
        connection::serve(stream, inlet, worker).await;
        drop(room);
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
    while let Ok(room) = Arc::clone(&inlet.room).try_acquire_owned() {
        let std::task::Poll::Ready(Ok((stream, _))) = listener.poll_accept(&mut cx) else { return };
        spawn(connections, Ok((stream, room)), inlet, worker);
    }
}
