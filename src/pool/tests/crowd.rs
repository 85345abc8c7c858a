//! A crowd of clients on two threads: random checkouts, cancellations and failures, with the cap checked at every
//! instant.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use tokio::{
    sync::{Barrier, oneshot},
    task::yield_now,
};

use super::scene::{DIALLED, PEER_POLITE, US_POLITE, defaults};
use crate::pool::{
    Ask, Checkout, Dialled, EndReason, Lease, Permit, Place, Pool, Settings, Verdict, WaiterStep,
};

const CAP: usize = 7;
const THREADS: u64 = 2;
const TASKS: u64 = 60;
const REQUESTS: usize = 150;

/// A connection's handle; the task that owns the socket waits for its drop.
type Handle = Arc<oneshot::Sender<()>>;
type CrowdPool = Pool<Handle, &'static str>;

/// The sockets as the outside sees them: each is open from before its dial until after its close.
#[derive(Default)]
struct World {
    open: AtomicUsize,
    /// The most sockets that were open at any instant.
    most: AtomicUsize,
    dials: AtomicUsize,
    served: AtomicUsize,
}

impl World {
    fn dial(&self) {
        self.dials.fetch_add(1, SeqCst);
        let open = self.open.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(open, SeqCst);
    }

    fn close(&self) {
        self.open.fetch_sub(1, SeqCst);
    }
}

#[derive(Clone)]
struct Crowd {
    pool: Arc<CrowdPool>,
    world: Arc<World>,
    thread: usize,
}

impl Crowd {
    /// Plays one client: many requests, some of whose checkouts are cancelled.
    async fn client(self, mut rng: Rng) {
        for _ in 0..REQUESTS {
            if let Some(lease) = self.lease(&mut rng).await {
                linger(&mut rng).await;
                self.world.served.fetch_add(1, SeqCst);
                end(lease, &mut rng);
            }
        }
    }

    async fn lease(&self, rng: &mut Rng) -> Option<Lease<Handle, &'static str>> {
        let fresh = rng.u8(..8) == 0;
        let urgency = rng.u8(..8);
        let ask =
            Ask { thread: self.thread, fresh, repeatable: true, client: 0, first: false, urgency };
        let mut waiter = match self.pool.check_out(Instant::now(), ask) {
            Ok(Checkout::Leased(lease)) => return Some(lease),
            Ok(Checkout::Waits(waiter)) => waiter,
            Err(rejection) => panic!("the queue is long enough: {rejection}"),
        };
        let mut patience = if rng.u8(..5) == 0 { rng.usize(..4) } else { usize::MAX };
        loop {
            let step = tokio::select! {
                biased;
                step = poll_fn(|cx| waiter.poll_step(cx)) => step,
                () = yield_times(patience) => return None,
            };
            match step {
                WaiterStep::Leased(lease) => return Some(lease),
                WaiterStep::Queued => {}
                WaiterStep::Failed(_) => return None,
                WaiterStep::Dial(permit) => {
                    patience = patience.saturating_sub(1);
                    tokio::spawn(self.clone().dial(permit, rng.fork()));
                }
            }
        }
    }

    async fn dial(self, permit: Permit<Handle, &'static str>, mut rng: Rng) {
        self.world.dial();
        linger(&mut rng).await;
        if rng.u8(..6) == 0 {
            self.world.close();
            return if rng.bool() {
                permit.failed("refused", Instant::now());
            } else {
                drop(permit);
            };
        }
        let (handle, dropped) = oneshot::channel();
        let dialled = Dialled { jitter: rng.f64(), ..DIALLED };
        let place = permit.established(Arc::new(handle), dialled, Instant::now());
        self.socket(place, dropped, rng).await;
    }

    /// Plays a socket: it ends when the handle is dropped, or the peer closes it at a random time.
    async fn socket(
        self,
        place: Place<Handle, &'static str>,
        dropped: oneshot::Receiver<()>,
        mut rng: Rng,
    ) {
        let life = if rng.u8(..3) == 0 { rng.usize(..200) } else { usize::MAX };
        let end = tokio::select! {
            _ = dropped => US_POLITE,
            () = yield_times(life) => PEER_POLITE,
        };
        if rng.bool() {
            place.closing(end.by, Instant::now());
        }
        linger(&mut rng).await;
        self.world.close();
        if rng.u8(..4) == 0 { drop(place) } else { place.socket_ended(end, Instant::now()) }
    }
}

fn end(lease: Lease<Handle, &'static str>, rng: &mut Rng) {
    match rng.u8(..10) {
        0 => lease.end(Verdict::Unfit(EndReason::Stale), Instant::now()),
        1 => drop(lease),
        _ => lease.end(Verdict::Fit(None), Instant::now()),
    }
}

async fn linger(rng: &mut Rng) {
    yield_times(rng.usize(..4)).await;
}

/// Yields so many times; `usize::MAX` waits for ever without keeping the thread busy.
async fn yield_times(times: usize) {
    if times == usize::MAX {
        std::future::pending::<()>().await;
    }
    for _ in 0..times {
        yield_now().await;
    }
}

/// Runs all that one thread does: its clients, and the sockets that they dialled.
fn run_thread(crowd: &Crowd, last_client: &Barrier) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let maintained = tokio::spawn({
            let pool = Arc::clone(&crowd.pool);
            async move { pool.maintain().await }
        });
        let clients: Vec<_> = (0..TASKS)
            .map(|task| {
                let seed = task * THREADS + crowd.thread as u64;
                tokio::spawn(crowd.clone().client(Rng::with_seed(seed)))
            })
            .collect();
        let all = async {
            for client in clients {
                client.await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("a client is stuck");
        let last = tokio::time::timeout(Duration::from_secs(30), last_client.wait());
        last.await.expect("the other thread is stuck");
        crowd.pool.drain();
        let emptied = tokio::time::timeout(Duration::from_secs(30), crowd.pool.emptied());
        emptied.await.expect("the pool keeps something");
        maintained.abort();
    });
}

#[test]
fn a_crowd_on_two_threads_never_exceeds_the_cap_and_loses_nothing() {
    let settings = Settings { max_connections: CAP, max_queue: usize::MAX, ..defaults() };
    let pool = Pool::new("crowd", settings, 1, THREADS as usize);
    let world = Arc::new(World::default());
    let last_client = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for thread in 0..THREADS as usize {
            let crowd = Crowd { pool: Arc::clone(&pool), world: Arc::clone(&world), thread };
            let last_client = &last_client;
            scope.spawn(move || run_thread(&crowd, last_client));
        }
    });
    let counters = pool.counters();
    assert_eq!(world.open.load(SeqCst), 0);
    assert_eq!(world.most.load(SeqCst), CAP, "sockets open at once");
    assert_eq!(counters.opened.get(), counters.closed.total());
    assert_eq!(counters.checkouts.total(), world.served.load(SeqCst) as u64);
    assert!(counters.opened.get() <= world.dials.load(SeqCst) as u64);
    assert!(counters.checkouts.total() > 1_000, "most of them were served");
}
