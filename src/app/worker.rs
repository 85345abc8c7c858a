//! Worker threads: each accepts, serves, dials and drives connections on a runtime of its own, as it gets jobs.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    sync::{Barrier, mpsc::UnboundedReceiver},
    task::JoinSet,
};

use super::{StartError, current_thread_runtime};
use crate::{
    connect::Resolver,
    drain::Drain,
    latest::Latest,
    listener::{self, Inlet},
    resources::Resources,
    upstream::{Upstream, Worker, all_emptied},
};

/// The time that the pools have to close their connections politely at the end.
const CLOSING_TIME: Duration = Duration::from_millis(1500);

/// A worker's descriptor of a listening socket. The address closes when all workers have dropped theirs.
pub(super) type ListeningSocket = std::net::TcpListener;

pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A job for a worker.
pub(super) enum Job {
    /// Accept on this socket until the inlet's drain begins.
    Accept(ListeningSocket, Arc<Inlet>),
    /// Run the task that this function makes.
    Run(Box<dyn FnOnce(Arc<Worker>) -> Task + Send>),
}

/// The state that all workers share.
pub(super) struct WorkerContext {
    pub(super) drain: Drain,
    pub(super) resolver: Resolver,
    pub(super) resources: Arc<Resources>,
    /// The barrier at which each worker waits, once it has no exchange left, for the others.
    pub(super) everyone_idle: Barrier,
    /// Every upstream that has, or may get, connections.
    pub(super) upstreams: Arc<Latest<Vec<Arc<Upstream>>>>,
}

/// Starts one worker thread with this index, which ends after the drain. Fails if the runtime or the thread cannot be
/// made.
pub(super) fn spawn(
    work: &Arc<WorkerContext>,
    jobs: UnboundedReceiver<Job>,
    thread: usize,
) -> Result<JoinHandle<()>, StartError> {
    let runtime = current_thread_runtime()?;
    let work = Arc::clone(work);
    thread::Builder::new()
        .name(format!("worker-{thread}"))
        .spawn(move || runtime.block_on(run(&work, jobs, thread)))
        .map_err(StartError::Thread)
}

/// Runs one worker until the end: serves until the drain, waits until all workers have no exchange left, then drains
/// the pools, and gives their connections 1.5 s to close.
async fn run(work: &WorkerContext, mut jobs: UnboundedReceiver<Job>, thread: usize) {
    let (resolver, resources) = (work.resolver.clone(), Arc::clone(&work.resources));
    let worker = Arc::new(Worker { thread, resolver, resources });
    let mut accepting = JoinSet::new();
    serve(work, &mut jobs, &worker, &mut accepting).await;
    // Other workers may still serve, and their requests may wait for a dial that this thread was given.
    let mut everyone_idle = pin!(work.everyone_idle.wait());
    loop {
        tokio::select! {
            biased;
            Some(job) = jobs.recv() => take(job, &worker, &mut accepting),
            _ = &mut everyone_idle => break,
        }
    }
    let upstreams = work.upstreams.share();
    upstreams.iter().for_each(|upstream| upstream.pool().drain());
    all_emptied(&upstreams, CLOSING_TIME).await;
}

/// Serves until the drain has begun and this thread has no client left. Jobs are taken first, so that a client that
/// connected in time is served, even if the socket's job was still in the queue.
async fn serve(
    work: &WorkerContext,
    jobs: &mut UnboundedReceiver<Job>,
    worker: &Arc<Worker>,
    accepting: &mut JoinSet<()>,
) {
    loop {
        tokio::select! {
            biased;
            Some(job) = jobs.recv() => take(job, worker, accepting),
            Some(_) = accepting.join_next() => {}
            () = work.drain.begun(), if accepting.is_empty() => return,
        }
    }
}

/// Begins a job without waiting for its end. A socket that cannot be registered with the runtime is logged and dropped.
fn take(job: Job, worker: &Arc<Worker>, accepting: &mut JoinSet<()>) {
    match job {
        Job::Run(task) => drop(tokio::spawn(task(Arc::clone(worker)))),
        Job::Accept(listener, inlet) => match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                accepting.spawn(listener::accept(listener, inlet, Arc::clone(worker)));
            }
            Err(error) => tracing::error!(%error, "a thread cannot listen"),
        },
    }
}
