//! Worker threads: each accepts, serves, dials and drives on a runtime of its own.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{net::TcpListener, sync::Barrier, task::JoinSet};

use super::{Inlets, StartError, bound_drain, current_thread_runtime};
use crate::{
    connect::Resolver,
    drain::Drain,
    listener,
    upstream::{Upstream, Worker, all_emptied},
};

/// How long the pools have to close politely at the end.
const CLOSING_TIME: Duration = Duration::from_millis(1500);

/// What all workers share.
pub(super) struct Work {
    pub(super) inlets: Inlets,
    pub(super) upstreams: Vec<Arc<Upstream>>,
    pub(super) drain: Drain,
    pub(super) drain_time: Duration,
    pub(super) resolver: Option<Resolver>,
    /// Passed once no thread has an exchange left.
    pub(super) everyone_idle: Arc<Barrier>,
}

/// Starts the worker threads; their listeners accept when this returns.
pub(super) fn spawn(work: Work, threads: usize) -> Result<Vec<JoinHandle<()>>, StartError> {
    let work = Arc::new(work);
    (0..threads).map(|thread| spawn_one(&work, thread)).collect()
}

fn spawn_one(work: &Arc<Work>, thread: usize) -> Result<JoinHandle<()>, StartError> {
    let runtime = current_thread_runtime()?;
    let work = Arc::clone(work);
    thread::Builder::new()
        .name(format!("worker-{thread}"))
        .spawn(move || runtime.block_on(run(&work, thread)))
        .map_err(StartError::Thread)
}

async fn run(work: &Work, thread: usize) {
    let resolver = work.resolver.clone().unwrap_or_else(Resolver::system);
    let worker = Arc::new(Worker { thread, resolver });
    if thread == 0 {
        keep_house(work);
    }
    let mut accepting = accept_everywhere(work, &worker);
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

fn accept_everywhere(work: &Work, worker: &Arc<Worker>) -> JoinSet<()> {
    let mut accepting = JoinSet::new();
    for (bound, inlet) in &work.inlets {
        for bound in bound {
            let listener = bound.listener.try_clone().and_then(TcpListener::from_std);
            match listener {
                Ok(listener) => {
                    accepting.spawn(listener::accept(
                        listener,
                        Arc::clone(inlet),
                        Arc::clone(worker),
                    ));
                }
                Err(error) => {
                    tracing::error!(%error, address = %bound.address, "a thread cannot listen");
                }
            }
        }
    }
    accepting
}
