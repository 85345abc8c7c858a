//! New settings under a living pool: they apply in place, and close no connection that still fits.

use std::{num::NonZeroU64, time::Duration};

use super::scene::{Got, Scene, Told, millis, secs};
use crate::pool::{EndReason, Rejection, Reuse};

#[test]
fn a_longer_purge_delay_closes_and_opens_nothing() {
    let mut scene = Scene::new(|s| (s.purge_delay, s.idle_timeout) = (secs(5), Duration::ZERO));
    let ids = scene.idle(8);
    scene.pass(secs(4));
    scene.reconfigure(|s| s.purge_delay = secs(200));
    scene.pass(secs(3 * 200 - 4) - millis(1));
    assert_eq!((&scene.closed[..], scene.counts()), (&[][..], [0, 0, 8, 0]));
    scene.pass(millis(1));
    assert_eq!(scene.closed, ids[..2], "the third period since the first check-in");
}

#[test]
fn a_shorter_purge_delay_counts_from_the_last_purge() {
    let mut scene = Scene::new(|s| s.purge_delay = secs(50));
    let ids = scene.idle(8);
    scene.pass(secs(50));
    scene.pass(secs(2));
    scene.reconfigure(|s| (s.purge_delay, s.idle_timeout) = (secs(20), Duration::ZERO));
    assert_eq!(scene.tick(), Some(scene.now + secs(18)));
    scene.pass(secs(18 + 20));
    assert_eq!(scene.closed, ids[..2]);
}

#[test]
fn a_lowered_cap_closes_the_oldest_of_the_idle_surplus_at_once() {
    let mut scene = Scene::with_cap(5);
    let busy = scene.lease_new();
    let idle = scene.idle(4);
    scene.reconfigure(|s| s.max_connections = 3);
    assert_eq!((&scene.closed[..], scene.counts()), (&idle[..2], [0, 1, 2, 2]));
    scene.close_ends(idle[0]);
    scene.close_ends(idle[1]);
    assert_eq!(scene.ended.iter().map(|e| e.1).collect::<Vec<_>>(), [EndReason::Reconfigured; 2]);
    scene.check_in(busy);
    assert_eq!(scene.counts(), [0, 0, 3, 0], "the rest fits");
}

#[test]
fn a_lowered_cap_closes_the_rest_at_check_in() {
    let mut scene = Scene::with_cap(3);
    let held = scene.lease_several(3);
    scene.reconfigure(|s| s.max_connections = 1);
    assert!(scene.closed.is_empty());
    for id in &held {
        scene.check_in(*id);
    }
    assert_eq!((&scene.closed[..], scene.counts()), (&held[..2], [0, 0, 1, 2]));
    assert_eq!(scene.reuse(), held[2]);
}

#[test]
fn a_connection_over_the_cap_goes_to_no_waiter() {
    let mut scene = Scene::with_cap(2);
    let held = scene.lease_several(2);
    let waiter = scene.wait();
    scene.collect(waiter);
    scene.reconfigure(|s| s.max_connections = 1);
    scene.check_in(held[0]);
    scene.close_ends(held[0]);
    assert_eq!(scene.collect_if_woken(waiter), Told::Nothing);
    scene.check_in(held[1]);
    assert_eq!(scene.collect_if_woken(waiter), Told::Lease(held[1], Reuse::Reused));
}

#[test]
fn a_dial_over_the_cap_closes_and_its_waiter_knows_that_it_queues() {
    let mut scene = Scene::with_cap(2);
    let held = scene.lease_new();
    let waiter = scene.wait();
    let dial = scene.dial(waiter);
    scene.reconfigure(|s| s.max_connections = 1);
    scene.opens(dial);
    scene.collect(waiter);
    assert_eq!((&scene.closed[..], scene.counts()), (&[dial][..], [0, 1, 0, 1]));
    assert!(scene.state.is_queued(waiter));
    scene.close_ends(dial);
    assert_eq!(scene.collect_if_woken(waiter), Told::Nothing);
    scene.check_in(held);
    assert_eq!(scene.collect_if_woken(waiter), Told::Lease(held, Reuse::Reused));
}

#[test]
fn a_lowered_cap_keeps_the_place_that_a_retry_waits_for() {
    let mut scene = Scene::with_cap(3);
    let idle = scene.idle(3);
    let retry = scene.wait_fresh();
    scene.collect(retry);
    assert_eq!(scene.closed, [idle[0]]);
    scene.reconfigure(|s| s.max_connections = 2);
    assert_eq!(scene.closed, [idle[0], idle[1]], "two fit, but then it would have none");
    scene.close_ends(idle[0]);
    scene.close_ends(idle[1]);
    assert!(matches!(scene.collect_if_woken(retry), Told::Dial(_)));
}

#[test]
fn a_raised_cap_starts_dials_for_those_who_queue() {
    let mut scene = Scene::with_cap(1);
    scene.lease_new();
    let waiters = [scene.wait(), scene.wait(), scene.wait()];
    for waiter in waiters {
        scene.collect(waiter);
    }
    scene.reconfigure(|s| s.max_connections = 3);
    assert_eq!(scene.woken, waiters[..2]);
    assert_eq!(scene.counts(), [2, 1, 0, 0]);
}

#[test]
fn a_lowered_max_idle_purges_the_oldest() {
    for (most, stay) in [(2, 2), (0, 0)] {
        let mut scene = Scene::with_cap(9);
        let idle = scene.idle(4);
        scene.reconfigure(|s| s.max_idle = Some(most));
        assert_eq!(scene.closed, idle[..4 - stay]);
        scene.close_ends(idle[0]);
        assert_eq!(scene.ended, [(idle[0], EndReason::Purged)]);
    }
}

#[test]
fn a_purge_delay_of_zero_purges_all_that_is_idle() {
    let mut scene = Scene::with_cap(9);
    let idle = scene.idle(3);
    scene.reconfigure(|s| s.purge_delay = Duration::ZERO);
    assert_eq!(scene.closed, idle);
    assert_eq!(scene.tick(), None, "no purge is due any more");
}

#[test]
fn another_idle_timeout_counts_from_the_last_check_in() {
    let mut scene = Scene::with_cap(9);
    let id = scene.idle(1)[0];
    scene.pass(secs(10));
    scene.reconfigure(|s| s.idle_timeout = secs(30));
    scene.pass(secs(20) - millis(1));
    assert!(scene.closed.is_empty());
    scene.pass(millis(1));
    assert_eq!(scene.closed, [id]);
    let idle = scene.idle(1)[0];
    scene.pass(secs(10));
    scene.reconfigure(|s| s.idle_timeout = secs(10));
    assert_eq!(scene.closed, [id, idle], "past its limit at once");
}

#[test]
fn another_age_limit_counts_from_the_established_connection_with_its_own_jitter() {
    let mut scene = Scene::new(|s| s.idle_timeout = Duration::ZERO);
    let waiter = scene.wait();
    let id = scene.dial(waiter);
    scene.opens_with(id, 0.5);
    scene.collect(waiter);
    scene.check_in(id);
    scene.pass(secs(10));
    scene.reconfigure(|s| s.max_age = secs(100));
    scene.pass(secs(85) - millis(1));
    assert!(scene.closed.is_empty());
    scene.pass(millis(1));
    assert_eq!(scene.closed, [id], "at 95 s: half a tenth earlier");
    scene.close_ends(id);
    assert_eq!(scene.ended, [(id, EndReason::Aged)]);
}

#[test]
fn a_lifted_age_limit_lets_connections_live() {
    let mut scene = Scene::new(|s| (s.max_age, s.idle_timeout) = (secs(100), Duration::ZERO));
    let id = scene.idle(1)[0];
    scene.reconfigure(|s| s.max_age = Duration::ZERO);
    scene.pass(secs(100_000));
    assert_eq!(scene.reuse(), id);
}

#[test]
fn fewer_requests_a_connection_close_those_that_carried_as_many() {
    let mut scene = Scene::with_cap(9);
    let used_up = scene.idle(1)[0];
    for _ in 1..3 {
        scene.reuse();
        scene.check_in(used_up);
    }
    let other = scene.lease_new();
    scene.check_in(other);
    scene.reconfigure(|s| s.max_requests = NonZeroU64::new(3));
    assert_eq!(scene.closed, [used_up]);
    scene.close_ends(used_up);
    assert_eq!(scene.ended, [(used_up, EndReason::Requests)]);
    assert_eq!(scene.reuse(), other);
}

#[test]
fn a_shorter_queue_turns_away_only_who_comes_later() {
    let mut scene = Scene::with_cap(1);
    let id = scene.lease_new();
    let waiters = [scene.wait(), scene.wait()];
    scene.reconfigure(|s| s.max_queue = 1);
    assert_eq!(scene.check_out(0, false), Got::Refused(Rejection::QueueFull));
    scene.check_in(id);
    assert_eq!(scene.collect(waiters[0]), Told::Lease(id, Reuse::Reused));
    scene.check_in(id);
    assert_eq!(scene.collect(waiters[1]), Told::Lease(id, Reuse::Reused));
}

#[test]
fn the_same_numbers_again_change_nothing() {
    let mut scene = Scene::with_cap(4);
    scene.idle(2);
    scene.lease_new();
    scene.wait_fresh();
    let before = (scene.counts(), scene.tick(), scene.state.queued());
    scene.reconfigure(|_| {});
    assert_eq!((scene.counts(), scene.tick(), scene.state.queued()), before);
    assert!(scene.closed.is_empty());
}
