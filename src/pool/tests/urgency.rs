//! The order of the queue by urgency, and the refusal at once of requests that would wait in vain.

use super::scene::{Got, Scene, Told, millis, secs};
use crate::pool::{Rejection, Reuse, state::WaiterId};

/// Checks the only connection in, and returns the waiter that gets it.
fn next(scene: &mut Scene, waiters: &[WaiterId]) -> WaiterId {
    scene.check_in(1);
    let served = waiters.iter().copied().find(|waiter| scene.woken.contains(waiter));
    let served = served.expect("somebody is first in line");
    assert_eq!(scene.collect(served), Told::Lease(1, Reuse::Reused));
    served
}

#[test]
fn the_more_urgent_go_first_and_equals_in_order_of_arrival() {
    let mut scene = Scene::with_cap(1);
    scene.lease_new();
    let waiters = [3, 7, 0, 3, 0].map(|urgency| scene.wait_with(urgency));
    for waiter in waiters {
        scene.collect(waiter);
    }
    let [first, last, urgent, second, urgent_too] = waiters;
    for expected in [urgent, urgent_too, first, second, last] {
        assert_eq!(next(&mut scene, &waiters), expected);
    }
}

#[test]
fn a_freed_place_goes_to_the_most_urgent() {
    let mut scene = Scene::with_cap(1);
    let held = scene.lease_new();
    let (patient, urgent) = (scene.wait_with(7), scene.wait_with(0));
    scene.discard(held, crate::pool::EndReason::Unfit);
    scene.close_ends(held);
    assert_eq!(scene.collect(patient), Told::Nothing);
    assert!(matches!(scene.collect(urgent), Told::Dial(_)));
}

#[test]
fn a_finished_dial_goes_to_the_more_urgent_who_came_later_and_its_owner_queues() {
    let mut scene = Scene::with_cap(1);
    let patient = scene.wait_with(7);
    let dial = scene.dial(patient);
    scene.collect(patient);
    let urgent = scene.wait_with(0);
    scene.collect(urgent);
    scene.opens(dial);
    assert_eq!(scene.collect_if_woken(urgent), Told::Lease(dial, Reuse::Cap));
    assert_eq!(scene.collect_if_woken(patient), Told::Queued);
    assert!(scene.state.is_queued(patient));
    scene.check_in(dial);
    assert_eq!(scene.collect(patient), Told::Lease(dial, Reuse::Reused));
}

/// Makes a pool with a cap of one, whose connection was handed on ten times, once a second; then so many waiters queue.
fn busy(standing: usize) -> Scene {
    let mut scene = Scene::with_cap(1);
    scene.lease_new();
    for _ in 0..10 {
        let waiter = scene.wait();
        scene.clock(secs(1));
        scene.check_in(1);
        scene.collect(waiter);
    }
    for _ in 0..standing {
        scene.wait();
    }
    scene
}

#[test]
fn who_would_wait_for_longer_than_the_queue_timeout_is_told_at_once() {
    let mut scene = busy(4);
    assert!(matches!(scene.check_out(0, false), Got::Wait(_)), "five seconds are in time");
    assert_eq!(scene.check_out(0, false), Got::Refused(Rejection::Shed));
    scene.reconfigure(|s| s.queue_timeout = secs(6));
    assert!(matches!(scene.check_out(0, false), Got::Wait(_)));
}

#[test]
fn the_more_urgent_is_let_in_where_the_less_urgent_is_not() {
    let mut scene = busy(5);
    assert_eq!(scene.check_out(0, false), Got::Refused(Rejection::Shed));
    scene.wait_with(0);
}

#[test]
fn when_the_queue_becomes_faster_all_are_let_in_again() {
    let mut scene = busy(5);
    for _ in 0..5 {
        scene.clock(millis(10));
        scene.check_in(1);
    }
    for _ in 0..20 {
        let waiter = scene.wait();
        scene.clock(millis(10));
        scene.check_in(1);
        scene.collect(waiter);
    }
    for _ in 0..50 {
        scene.wait();
    }
}

#[test]
fn at_a_standstill_only_one_at_a_time_waits_to_see_whether_it_is_over() {
    let mut scene = Scene::with_cap(1);
    scene.lease_new();
    let waiters = [scene.wait(), scene.wait()];
    scene.clock(millis(5001));
    assert_eq!(scene.check_out(0, false), Got::Refused(Rejection::Shed));
    assert_eq!(waiters.map(|waiter| scene.time_out(waiter)), [true, true]);
    let probe = scene.wait();
    assert_eq!(scene.check_out(0, false), Got::Refused(Rejection::Shed));
    scene.clock(secs(3));
    scene.check_in(1);
    assert_eq!(scene.collect(probe), Told::Lease(1, Reuse::Reused));
    scene.wait();
    scene.wait();
}

#[test]
fn a_long_exchange_at_the_cap_long_ago_turns_nobody_away() {
    let mut scene = Scene::with_cap(1);
    scene.lease_new();
    let waiter = scene.wait();
    scene.clock(secs(5));
    scene.time_out(waiter);
    scene.clock(secs(3600));
    scene.wait();
    scene.wait();
    scene.wait();
}

#[test]
fn while_a_place_is_free_nobody_is_turned_away() {
    let mut scene = busy(5);
    scene.reconfigure(|s| s.max_connections = 20);
    for _ in 0..10 {
        scene.wait();
    }
}
