//! Worker threads: each accepts, serves, dials and drives on a runtime of its own.

use std::{
    io,
    net::TcpListener,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{sync::Barrier, task::JoinSet};

use super::{Inlets, StartError, bound_drain, current_thread_runtime};
use crate::{
    connect::Resolver,
    drain::Drain,
    listener::{self, Inlet},
    upstream::{Upstream, Worker, all_emptied},
};

/// How long the pools have to close politely at the end.
const CLOSING_TIME: Duration = Duration::from_millis(1500);

/// What all workers share.
pub(super) struct Work {
    pub(super) upstreams: Vec<Arc<Upstream>>,
    pub(super) drain: Drain,
    pub(super) drain_time: Duration,
    pub(super) resolver: Option<Resolver>,
    /// Passed once no thread has an exchange left.
    pub(super) everyone_idle: Arc<Barrier>,
}

/// One thread's own descriptors of the listening sockets: an address closes when the last thread has dropped its own.
type Listening = Vec<(TcpListener, Arc<Inlet>)>;

/// Starts the worker threads, each with its own descriptors; the addresses accept already.
pub(super) fn spawn(
    work: Work,
    inlets: &Inlets,
    threads: usize,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let work = Arc::new(work);
    let workers = (0..threads).map(|thread| {
        let listening = duplicate(inlets).map_err(StartError::Thread)?;
        spawn_one(&work, listening, thread)
    });
    workers.collect()
}

fn duplicate(inlets: &Inlets) -> io::Result<Listening> {
    let bound = inlets.iter().flat_map(|(bound, inlet)| bound.iter().map(move |b| (b, inlet)));
    bound.map(|(bound, inlet)| Ok((bound.listener.try_clone()?, Arc::clone(inlet)))).collect()
}

fn spawn_one(
    work: &Arc<Work>,
    listening: Listening,
    thread: usize,
) -> Result<JoinHandle<()>, StartError> {
    let runtime = current_thread_runtime()?;
    let work = Arc::clone(work);
    thread::Builder::new()
        .name(format!("worker-{thread}"))
        .spawn(move || runtime.block_on(run(&work, listening, thread)))
        .map_err(StartError::Thread)
}

async fn run(work: &Work, listening: Listening, thread: usize) {
    let resolver = work.resolver.clone().unwrap_or_else(Resolver::system);
    let worker = Arc::new(Worker { thread, resolver });
    if thread == 0 {
        keep_house(work);
    }
    let mut accepting = accept_everywhere(listening, &worker);
    while accepting.join_next().await.is_some() {}
    work.everyone_idle.wait().await;
    for upstream in &work.upstreams {
        upstream.pool().drain();
    }
    all_emptied(&work.upstreams, CLOSING_TIME).await;
}

/// What one thread does for all.
fn keep_house(work: &Work) {
    for upstream in &work.upstreams {
        let pool = Arc::clone(upstream.pool());
        tokio::spawn(async move { pool.maintain().await });
    }
    tokio::spawn(bound_drain(work.drain.clone(), work.drain_time));
}

fn accept_everywhere(listening: Listening, worker: &Arc<Worker>) -> JoinSet<()> {
    let mut accepting = JoinSet::new();
    for (listener, inlet) in listening {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                accepting.spawn(listener::accept(listener, inlet, Arc::clone(worker)));
            }
            Err(error) => tracing::error!(%error, "a thread cannot listen"),
        }
    }
    accepting
}
