//! The drop of each token gives back exactly what the pool has counted for it, and handles are dropped once, outside of
//! the lock.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use super::scene::{ANYBODY, DIALLED, PEER_POLITE, US_POLITE, defaults, millis};
use crate::pool::{
    Census, Checkout, EndReason, Lease, Permit, Place, Pool, Rejection, Reuse, Settings, Verdict,
    Waiter, WaiterStep,
};

/// A handle that counts the drops of last clones and locks the pool in each: dropped under the lock, it would hang.
type Handle = Arc<Counted>;

struct Counted {
    drops: Arc<AtomicUsize>,
    pool: Arc<Pool<Handle, &'static str>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let _ = self.pool.snapshot(Instant::now());
        self.drops.fetch_add(1, SeqCst);
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

type TestPermit = Permit<Handle, &'static str>;
type TestPlace = Place<Handle, &'static str>;
type TestLease = Lease<Handle, &'static str>;
type TestWaiter = Waiter<Handle, &'static str>;

struct Scene {
    pool: Arc<Pool<Handle, &'static str>>,
    drops: Arc<AtomicUsize>,
    wakes: Arc<Wakes>,
}

impl Scene {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings { max_connections: 1, ..defaults() };
        change(&mut settings);
        Self {
            pool: Pool::new("test", settings, 1, 1),
            drops: Arc::default(),
            wakes: Arc::default(),
        }
    }

    fn waiter(&self) -> TestWaiter {
        match self.pool.check_out(Instant::now(), ANYBODY) {
            Ok(Checkout::Waits(waiter)) => waiter,
            Ok(Checkout::Leased(_)) => panic!("one was idle"),
            Err(rejection) => panic!("refused: {rejection}"),
        }
    }

    fn step(&self, waiter: &mut TestWaiter) -> Poll<WaiterStep<Handle, &'static str>> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        waiter.poll_step(&mut Context::from_waker(&waker))
    }

    fn permit(&self, waiter: &mut TestWaiter) -> TestPermit {
        match self.step(waiter) {
            Poll::Ready(WaiterStep::Dial(permit)) => permit,
            _ => panic!("expected a permit"),
        }
    }

    fn establish(&self, permit: TestPermit) -> TestPlace {
        let handle = Counted { drops: Arc::clone(&self.drops), pool: Arc::clone(&self.pool) };
        permit.established(Arc::new(handle), DIALLED, Instant::now())
    }

    fn lease(&self, waiter: &mut TestWaiter) -> TestLease {
        match self.step(waiter) {
            Poll::Ready(WaiterStep::Leased(lease)) => lease,
            _ => panic!("expected a lease"),
        }
    }

    fn new_lease(&self) -> (TestPlace, TestLease) {
        let mut waiter = self.waiter();
        let place = self.establish(self.permit(&mut waiter));
        (place, self.lease(&mut waiter))
    }

    /// Returns the numbers of connections: connecting, active, idle, closing.
    fn counts(&self) -> [usize; 4] {
        let Census { connecting, active, idle, closing } =
            self.pool.snapshot(Instant::now()).census;
        [connecting, active, idle, closing]
    }

    fn drops(&self) -> usize {
        self.drops.load(SeqCst)
    }

    fn wakes(&self) -> usize {
        self.wakes.0.load(SeqCst)
    }
}

#[test]
fn a_dropped_waiter_leaves_the_queue() {
    let scene = Scene::new(|_| {});
    let (_place, _lease) = scene.new_lease();
    let waiter = scene.waiter();
    assert_eq!(scene.pool.snapshot(Instant::now()).queued, 1);
    drop(waiter);
    assert_eq!(scene.pool.snapshot(Instant::now()).queued, 0);
}

#[test]
fn a_dropped_waiter_gives_back_its_granted_place() {
    let scene = Scene::new(|_| {});
    let waiter = scene.waiter();
    assert_eq!(scene.counts(), [1, 0, 0, 0]);
    drop(waiter);
    assert_eq!(scene.counts(), [0, 0, 0, 0]);
}

#[test]
fn a_dropped_waiter_gives_back_the_connection_that_it_did_not_collect() {
    let scene = Scene::new(|_| {});
    let mut waiter = scene.waiter();
    let _place = scene.establish(scene.permit(&mut waiter));
    assert_eq!(scene.counts(), [0, 1, 0, 0]);
    drop(waiter);
    assert_eq!((scene.counts(), scene.drops()), ([0, 0, 1, 0], 0));
}

#[test]
fn a_dropped_permit_is_a_failed_dial_without_an_error() {
    let scene = Scene::new(|_| {});
    let mut waiter = scene.waiter();
    drop(scene.permit(&mut waiter));
    assert_eq!(scene.counts(), [0, 0, 0, 0]);
    assert!(matches!(scene.step(&mut waiter), Poll::Ready(WaiterStep::Failed(None))));
}

#[test]
fn a_permits_error_reaches_its_waiter() {
    let scene = Scene::new(|_| {});
    let mut waiter = scene.waiter();
    let permit = scene.permit(&mut waiter);
    assert!(scene.step(&mut waiter).is_pending());
    permit.failed("no route", Instant::now());
    assert_eq!(scene.wakes(), 1);
    assert!(
        matches!(scene.step(&mut waiter), Poll::Ready(WaiterStep::Failed(Some(error))) if *error == "no route")
    );
}

#[test]
fn fault_27_a_failed_dials_waiter_is_told_at_once_and_its_place_is_free_once_its_socket_is_closed()
{
    let scene = Scene::new(|_| {});
    let mut waiter = scene.waiter();
    let permit = scene.permit(&mut waiter);
    let mut second = scene.waiter();
    assert!(scene.step(&mut waiter).is_pending() && scene.step(&mut second).is_pending());
    let open = permit.failed_open("an alert", Instant::now());
    assert!(
        matches!(scene.step(&mut waiter), Poll::Ready(WaiterStep::Failed(Some(error))) if *error == "an alert")
    );
    assert_eq!(scene.counts(), [0, 0, 0, 1], "the socket is closing");
    assert!(scene.step(&mut second).is_pending(), "there is no place for the next one yet");
    drop(open);
    let permit = scene.permit(&mut second);
    assert_eq!(scene.counts(), [1, 0, 0, 0]);
    assert_eq!(scene.pool.counters().closed.total(), 0, "it was never opened");
    drop(permit);
}

#[test]
fn a_permit_keeps_its_place_when_its_waiter_is_dropped() {
    let scene = Scene::new(|_| {});
    let mut waiter = scene.waiter();
    let permit = scene.permit(&mut waiter);
    drop(waiter);
    assert_eq!(scene.counts(), [1, 0, 0, 0]);
    let _place = scene.establish(permit);
    assert_eq!(scene.counts(), [0, 0, 1, 0]);
}

#[test]
fn a_dropped_lease_closes_its_connection_and_keeps_the_place_for_the_socket() {
    let scene = Scene::new(|_| {});
    let (place, lease) = scene.new_lease();
    drop(lease);
    assert_eq!((scene.counts(), scene.drops()), ([0, 0, 0, 1], 1));
    place.socket_ended(US_POLITE, Instant::now());
    assert_eq!(scene.counts(), [0, 0, 0, 0]);
    assert_eq!(scene.pool.counters().closed.get(EndReason::Unfit), 1);
}

#[test]
fn a_dropped_place_is_an_ended_socket() {
    let scene = Scene::new(|_| {});
    let (place, lease) = scene.new_lease();
    lease.end(Verdict::Fit(None), Instant::now());
    assert_eq!((scene.counts(), scene.drops()), ([0, 0, 1, 0], 0));
    drop(place);
    assert_eq!((scene.counts(), scene.drops()), ([0, 0, 0, 0], 1));
}

#[test]
fn a_place_that_is_closing_drops_an_idle_handle_and_stays_taken_until_the_socket_ends() {
    let scene = Scene::new(|_| {});
    let (place, lease) = scene.new_lease();
    lease.end(Verdict::Fit(None), Instant::now());
    place.closing(PEER_POLITE.by, Instant::now());
    assert_eq!((scene.counts(), scene.drops()), ([0, 0, 0, 1], 1));
    place.socket_ended(PEER_POLITE, Instant::now());
    assert_eq!((scene.counts(), scene.drops()), ([0, 0, 0, 0], 1));
    assert_eq!(scene.pool.counters().closed.get(EndReason::PeerClosed), 1);
}

#[test]
fn a_checked_in_lease_drops_no_handle_and_a_discarded_one_drops_it_once() {
    let scene = Scene::new(|_| {});
    let (_place, lease) = scene.new_lease();
    lease.end(Verdict::Fit(None), Instant::now());
    assert_eq!(scene.drops(), 0);
    match scene.pool.check_out(Instant::now(), ANYBODY) {
        Ok(Checkout::Leased(lease)) => lease.end(Verdict::Unfit(EndReason::Stale), Instant::now()),
        _ => panic!("none was idle"),
    }
    assert_eq!((scene.counts(), scene.drops()), ([0, 0, 0, 1], 1));
}

#[test]
fn a_connection_that_ends_under_its_lease_is_counted_when_the_lease_ends() {
    let scene = Scene::new(|_| {});
    let (place, lease) = scene.new_lease();
    place.socket_ended(PEER_POLITE, Instant::now());
    assert_eq!((scene.counts(), scene.pool.counters().closed.total()), ([0, 0, 0, 0], 0));
    lease.end(Verdict::Unfit(EndReason::Stale), Instant::now());
    assert_eq!(scene.pool.counters().closed.get(EndReason::Stale), 1);
    assert_eq!(scene.drops(), 1);
}

#[test]
fn draining_drops_the_idle_handles() {
    let scene = Scene::new(|_| {});
    let (_place, lease) = scene.new_lease();
    lease.end(Verdict::Fit(None), Instant::now());
    scene.pool.drain();
    assert_eq!((scene.counts(), scene.drops()), ([0, 0, 0, 1], 1));
}

#[test]
fn a_waiter_is_woken_for_a_connection_and_for_a_place() {
    let scene = Scene::new(|_| {});
    let (place, lease) = scene.new_lease();
    let (mut first, mut second) = (scene.waiter(), scene.waiter());
    assert!(scene.step(&mut first).is_pending() && scene.step(&mut second).is_pending());
    let before = scene.wakes();
    lease.end(Verdict::Fit(None), Instant::now());
    assert_eq!(scene.wakes() - before, 1);
    scene.lease(&mut first).end(Verdict::Unfit(EndReason::Unfit), Instant::now());
    assert_eq!(scene.wakes() - before, 1);
    place.socket_ended(US_POLITE, Instant::now());
    assert_eq!(scene.wakes() - before, 2);
    drop(scene.permit(&mut second));
}

#[test]
fn checkouts_refusals_and_waits_are_counted() {
    let scene = Scene::new(|settings| settings.max_queue = 1);
    let (_place, lease) = scene.new_lease();
    let mut waiter = scene.waiter();
    let refused = scene.pool.check_out(Instant::now(), ANYBODY);
    assert!(matches!(refused, Err(Rejection::QueueFull)));
    lease.end(Verdict::Fit(None), Instant::now());
    let lease = scene.lease(&mut waiter);
    assert!(lease.queued.is_some());
    let mut late = scene.waiter();
    assert!(late.is_queued());
    assert_eq!(late.time_out(), Some(Rejection::QueueTimeout));
    drop(late);
    let counters = scene.pool.counters();
    assert_eq!(counters.opened.get(), 1);
    assert_eq!(counters.checkouts.get(Reuse::First), 1);
    assert_eq!(counters.checkouts.get(Reuse::Reused), 1);
    assert_eq!(counters.rejections.get(Rejection::QueueFull), 1);
    assert_eq!(counters.rejections.get(Rejection::QueueTimeout), 1);
    assert_eq!(counters.queue_wait.snapshot().counts.iter().sum::<u64>(), 1);
}

#[test]
fn emptied_resolves_when_the_last_waiter_collects_its_failure() {
    let scene = Scene::new(|_| {});
    let mut waiter = scene.waiter();
    scene.permit(&mut waiter).failed("refused", Instant::now());
    let mut emptied = pin!(scene.pool.emptied());
    let waker = Waker::from(Arc::clone(&scene.wakes));
    let mut cx = Context::from_waker(&waker);
    let before = scene.wakes();
    assert!(emptied.as_mut().poll(&mut cx).is_pending());
    assert!(
        matches!(scene.step(&mut waiter), Poll::Ready(WaiterStep::Failed(Some(error))) if *error == "refused")
    );
    assert_eq!(scene.wakes() - before, 1, "whoever awaits it is told");
    assert!(emptied.as_mut().poll(&mut cx).is_ready());
}

#[test]
fn exchanges_wake_nobody_that_waits_for_the_end_of_a_pool_whose_end_has_not_begun() {
    let scene = Scene::new(|_| {});
    let mut drained = pin!(scene.pool.drained());
    let waker = Waker::from(Arc::clone(&scene.wakes));
    let mut cx = Context::from_waker(&waker);
    assert!(drained.as_mut().poll(&mut cx).is_pending());
    let (place, lease) = scene.new_lease();
    let before = scene.wakes();
    lease.end(Verdict::Fit(None), Instant::now());
    let Ok(Checkout::Leased(lease)) = scene.pool.check_out(Instant::now(), ANYBODY) else {
        panic!("one is idle")
    };
    lease.end(Verdict::Fit(None), Instant::now());
    assert_eq!(scene.wakes(), before);
    scene.pool.drain();
    assert_eq!(scene.wakes(), before + 1);
    assert!(drained.as_mut().poll(&mut cx).is_pending());
    scene.pool.resume();
    assert!(drained.as_mut().poll(&mut cx).is_pending());
    scene.pool.drain();
    assert!(drained.as_mut().poll(&mut cx).is_pending());
    place.socket_ended(US_POLITE, Instant::now());
    assert!(drained.as_mut().poll(&mut cx).is_ready());
}

#[tokio::test]
async fn maintain_closes_what_has_been_idle_for_too_long_also_when_it_slept_already() {
    let scene = Scene::new(|settings| settings.idle_timeout = millis(50));
    let maintained = tokio::spawn({
        let pool = Arc::clone(&scene.pool);
        async move { pool.maintain().await }
    });
    tokio::task::yield_now().await;
    let (place, lease) = scene.new_lease();
    lease.end(Verdict::Fit(None), Instant::now());
    let closed = async {
        while scene.drops() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), closed).await.unwrap();
    place.socket_ended(US_POLITE, Instant::now());
    assert_eq!(scene.pool.counters().closed.get(EndReason::Idle), 1);
    maintained.abort();
}

#[tokio::test]
async fn what_the_warm_floor_wants_is_given_at_once_and_again_when_one_is_taken() {
    let scene = Scene::new(|settings| (settings.min_idle, settings.max_connections) = (1, 2));
    let mut warmed = pin!(scene.pool.warmed());
    let waker = Waker::from(Arc::clone(&scene.wakes));
    assert!(warmed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let place = scene.establish(scene.pool.wanted(0, 0.0).await);
    assert!(warmed.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    let mut wanted = pin!(scene.pool.wanted(0, 0.0));
    assert!(wanted.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let before = scene.wakes();
    let Ok(Checkout::Leased(lease)) = scene.pool.check_out(Instant::now(), ANYBODY) else {
        panic!("one is warm")
    };
    assert_eq!(scene.wakes(), before + 1);
    let Poll::Ready(permit) = wanted.as_mut().poll(&mut Context::from_waker(&waker)) else {
        panic!("the floor lacks one")
    };
    assert_eq!(scene.counts(), [1, 1, 0, 0]);
    lease.end(Verdict::Fit(None), Instant::now());
    drop((permit, place));
}

#[tokio::test]
async fn what_the_warm_floor_wants_comes_again_after_a_failure_and_its_pause() {
    let scene = Scene::new(|settings| settings.min_idle = 1);
    scene.pool.wanted(0, 1.0).await.failed("refused", Instant::now());
    let failed = Instant::now();
    drop(scene.pool.wanted(0, 1.0).await);
    assert!(failed.elapsed() > millis(40), "without a pause");
}

#[test]
fn fault_29_counts_are_had_without_a_copy_of_each_connection() {
    let scene = Scene::new(|_| ());
    let (_place, lease) = scene.new_lease();
    let (counts, whole) = (scene.pool.counts(), scene.pool.snapshot(Instant::now()));
    assert_eq!((counts.census, counts.connections.len()), (whole.census, 0));
    assert_eq!(whole.connections.len(), 1);
    drop(lease);
}
