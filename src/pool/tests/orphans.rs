//! Dials that no waiter counts on any more: a new request adopts them, before it gets a dial of its own.

use super::scene::{Got, PEER_POLITE, Scene, Told, millis};
use crate::pool::{ConnectionId, EndReason, Rejection, Reuse, state::Effects};

/// Makes one dial under way whose waiter has left.
fn orphan(scene: &mut Scene) -> ConnectionId {
    orphans(scene, 1)[0]
}

/// Makes so many dials under way whose waiters have left, oldest first.
fn orphans(scene: &mut Scene, count: usize) -> Vec<ConnectionId> {
    let waiters: Vec<_> = (0..count).map(|_| scene.wait()).collect();
    let dials = waiters.iter().map(|waiter| scene.dial(*waiter)).collect();
    for waiter in waiters {
        scene.abandon(waiter);
    }
    dials
}

#[test]
fn who_comes_adopts_an_orphan_dial_and_starts_none() {
    let mut scene = Scene::with_cap(9);
    let dial = orphan(&mut scene);
    let waiter = scene.wait();
    assert_eq!(scene.collect(waiter), Told::Nothing);
    assert_eq!(scene.counts(), [1, 0, 0, 0]);
    scene.opens(dial);
    assert_eq!(scene.collect_if_woken(waiter), Told::Lease(dial, Reuse::Busy));
}

#[test]
fn a_served_waiters_dial_is_an_orphan_too() {
    let mut scene = Scene::with_cap(9);
    let held = scene.lease_new();
    let served = scene.wait();
    let dial = scene.dial(served);
    scene.check_in(held);
    scene.collect(served);
    let waiter = scene.wait();
    assert_eq!(scene.collect(waiter), Told::Nothing);
    scene.opens(dial);
    assert_eq!(scene.collect_if_woken(waiter), Told::Lease(dial, Reuse::Busy));
}

#[test]
fn waiters_that_are_served_by_others_start_one_dial_between_them() {
    let mut scene = Scene::with_cap(9);
    let held = scene.lease_new();
    let first = scene.wait();
    scene.dial(first);
    scene.check_in(held);
    scene.collect(first);
    for _ in 0..5 {
        let waiter = scene.wait();
        assert_eq!(scene.collect(waiter), Told::Nothing);
        scene.check_in(held);
        assert_eq!(scene.collect_if_woken(waiter), Told::Lease(held, Reuse::Reused));
    }
    assert_eq!(scene.counts(), [1, 1, 0, 0]);
}

#[test]
fn each_orphan_is_adopted_once_the_oldest_first_and_then_dials_begin() {
    let mut scene = Scene::with_cap(9);
    let dials = orphans(&mut scene, 2);
    let waiters = [scene.wait(), scene.wait(), scene.wait()];
    assert_eq!(scene.collect(waiters[0]), Told::Nothing);
    assert_eq!(scene.collect(waiters[1]), Told::Nothing);
    scene.dial(waiters[2]);
    assert_eq!(scene.counts(), [3, 0, 0, 0]);
    scene.fails(dials[1]);
    assert_eq!(scene.collect_if_woken(waiters[0]), Told::Nothing, "it counts on the oldest");
    assert!(matches!(scene.collect_if_woken(waiters[1]), Told::Dial(_)));
}

#[test]
fn an_adopted_dial_is_no_orphan_until_its_waiter_leaves() {
    let mut scene = Scene::with_cap(9);
    let dial = orphan(&mut scene);
    let adopter = scene.wait();
    let other = scene.wait();
    scene.dial(other);
    scene.abandon(adopter);
    let next = scene.wait();
    assert_eq!(scene.collect(next), Told::Nothing);
    assert_eq!(scene.counts(), [2, 0, 0, 0]);
    scene.abandon(other);
    scene.opens(dial);
    assert_eq!(scene.collect_if_woken(next), Told::Lease(dial, Reuse::Busy));
}

#[test]
fn an_orphan_that_is_done_or_has_failed_is_adopted_by_nobody() {
    let mut scene = Scene::with_cap(9);
    let dials = orphans(&mut scene, 2);
    scene.fails(dials[0]);
    scene.opens(dials[1]);
    assert_eq!(scene.reuse(), dials[1]);
    let waiter = scene.wait();
    scene.dial(waiter);
}

#[test]
fn a_retry_adopts_too() {
    let mut scene = Scene::with_cap(1);
    let dial = orphan(&mut scene);
    let retry = scene.wait_fresh();
    scene.opens(dial);
    assert_eq!(scene.collect(retry), Told::Lease(dial, Reuse::Policy));
}

#[test]
fn a_retry_that_adopts_has_no_idle_connection_closed() {
    let mut scene = Scene::with_cap(2);
    let held = scene.lease_new();
    let dial = orphan(&mut scene);
    scene.check_in(held);
    let retry = scene.wait_fresh();
    assert!(scene.closed.is_empty());
    scene.opens(dial);
    assert_eq!(scene.collect(retry), Told::Lease(dial, Reuse::Policy));
}

#[test]
fn who_adopts_is_not_queued_and_neither_refused_nor_timed_out() {
    let mut scene = Scene::new(|s| (s.max_connections, s.max_queue) = (1, 0));
    let dial = orphan(&mut scene);
    let waiter = scene.wait();
    assert_eq!(scene.state.queued(), 0);
    assert!(!scene.time_out(waiter));
    assert_eq!(scene.check_out(0, false), Got::Refused(Rejection::QueueFull));
    scene.clock(millis(30));
    scene.opens(dial);
    assert_eq!(scene.collect(waiter), Told::Lease(dial, Reuse::Cap));
    assert_eq!(scene.queued_for, None, "it never queued");
}

#[test]
fn who_loses_an_adopted_dial_gets_its_place_also_beside_another_orphan() {
    let mut scene = Scene::with_cap(2);
    let dials = orphans(&mut scene, 2);
    let waiter = scene.wait();
    scene.collect(waiter);
    scene.fails(dials[0]);
    let own = match scene.collect_if_woken(waiter) {
        Told::Dial(id) => id,
        other => panic!("it was told {other:?}"),
    };
    scene.fails(own);
    assert_eq!(scene.collect(waiter), Told::Failed(Some("refused")));
}

#[test]
fn who_loses_an_adopted_dial_is_first_in_line_before_those_who_came_later() {
    let mut scene = Scene::with_cap(1);
    let dial = orphan(&mut scene);
    let (adopter, later) = (scene.wait(), scene.wait());
    scene.collect(adopter);
    scene.collect(later);
    scene.state.at(scene.now, &mut Effects::default()).dial_failed(dial, None);
    assert!(matches!(scene.collect(adopter), Told::Dial(_)));
    assert_eq!(scene.collect(later), Told::Nothing);
}

#[test]
fn who_loses_its_own_dials_connection_to_an_older_one_adopts_an_orphan() {
    let mut scene = Scene::with_cap(9);
    let leaving = scene.wait();
    let orphan = scene.dial(leaving);
    let (granted, dialling) = (scene.wait(), scene.wait());
    let dial = scene.dial(dialling);
    scene.abandon(leaving);
    scene.opens(dial);
    assert_eq!(scene.collect(granted), Told::Lease(dial, Reuse::Busy));
    assert_eq!(scene.collect(dialling), Told::Nothing);
    assert_eq!(scene.counts(), [1, 1, 0, 0], "no third connection");
    scene.opens(orphan);
    assert_eq!(scene.collect_if_woken(dialling), Told::Lease(orphan, Reuse::Busy));
}

#[test]
fn why_an_adopted_connection_is_new_was_decided_at_checkout() {
    let mut scene = Scene::with_cap(9);
    let held = scene.lease_new();
    let dial = orphan(&mut scene);
    let waiter = scene.wait();
    scene.discard(held, EndReason::Stale);
    scene.socket_ends(held, PEER_POLITE);
    scene.opens(dial);
    assert_eq!(scene.collect(waiter), Told::Lease(dial, Reuse::Busy));
}
