//! The limits `maxQueue` and `queueTimeout` apply to waiters without a dial, and the time at the cap is measured.

use super::scene::{Got, Scene, Told, millis};
use crate::pool::{Rejection, Reuse};

fn scene(cap: usize, max_queue: usize) -> Scene {
    Scene::new(|settings| (settings.max_connections, settings.max_queue) = (cap, max_queue))
}

#[test]
fn waiters_with_a_dial_take_no_place_in_the_queue() {
    let mut scene = scene(3, 1);
    for _ in 0..3 {
        scene.wait();
    }
    assert_eq!(scene.state.queued(), 0);
    scene.wait();
    assert_eq!(scene.state.queued(), 1);
    assert_eq!(scene.check_out(0, false), Got::Refused(Rejection::QueueFull));
}

#[test]
fn a_queue_of_none_refuses_at_the_cap_alone() {
    let mut scene = scene(1, 0);
    let id = scene.lease_new();
    assert_eq!(scene.check_out(0, false), Got::Refused(Rejection::QueueFull));
    scene.check_in(id);
    assert_eq!(scene.reuse(), id);
}

#[test]
fn each_that_leaves_the_queue_makes_room_in_it() {
    let mut scene = scene(1, 1);
    let id = scene.lease_new();
    let first = scene.wait();
    scene.abandon(first);
    let second = scene.wait();
    assert!(scene.time_out(second));
    let third = scene.wait();
    scene.check_in(id);
    scene.wait();
    assert_eq!(scene.state.queued(), 1);
    assert_eq!(scene.collect(third), Told::Lease(id, Reuse::Reused));
}

#[test]
fn only_a_waiter_without_a_dial_times_out() {
    let mut scene = scene(1, 9);
    let (dialling, queued) = (scene.wait(), scene.wait());
    assert!(!scene.time_out(dialling), "granted");
    let dial = scene.dial(dialling);
    assert!(!scene.time_out(dialling), "its own");
    assert!(scene.state.is_queued(queued));
    scene.abandon(dialling);
    assert!(!scene.time_out(queued), "adopted");
    scene.opens(dial);
    assert!(!scene.time_out(queued), "served");
    assert_eq!(scene.collect(queued), Told::Lease(dial, Reuse::Cap));
    assert!(!scene.time_out(queued), "gone");
}

#[test]
fn who_times_out_is_out_of_the_order() {
    let mut scene = scene(1, 9);
    let id = scene.lease_new();
    let (first, second) = (scene.wait(), scene.wait());
    assert!(scene.time_out(first));
    scene.check_in(id);
    assert_eq!(scene.collect(first), Told::Failed(None));
    assert_eq!(scene.collect(second), Told::Lease(id, Reuse::Reused));
}

#[test]
fn the_wait_at_the_cap_ends_with_a_dial_or_a_connection() {
    let mut scene = scene(2, 9);
    let held = scene.lease_new();
    let (unqueued, by_dial, by_connection) = (scene.wait(), scene.wait(), scene.wait());
    let dial = scene.dial(unqueued);
    scene.clock(millis(30));
    scene.opens(dial);
    scene.collect(unqueued);
    assert_eq!(scene.queued_for, None, "it never stood at the cap");
    scene.socket_ends(held, super::scene::PEER_POLITE);
    let dial_of_queued = scene.dial(by_dial);
    scene.clock(millis(70));
    scene.opens(dial_of_queued);
    assert_eq!(scene.collect(by_dial), Told::Lease(dial_of_queued, Reuse::Cap));
    assert_eq!(scene.queued_for, Some(millis(30)), "the dial itself is no wait at the cap");
    scene.check_in(dial);
    assert_eq!(scene.collect(by_connection), Told::Lease(dial, Reuse::Reused));
    assert_eq!(scene.queued_for, Some(millis(100)));
}

#[test]
fn a_retrys_wait_at_the_cap_is_measured_too() {
    let mut scene = scene(1, 9);
    let held = scene.lease_new();
    let retry = scene.wait_fresh();
    scene.clock(millis(20));
    scene.socket_ends(held, super::scene::PEER_POLITE);
    let dial = scene.dial(retry);
    scene.opens(dial);
    assert_eq!(scene.collect(retry), Told::Lease(dial, Reuse::Policy));
    assert_eq!(scene.queued_for, Some(millis(20)));
}

#[test]
fn a_wait_at_the_cap_after_a_dial_that_brought_nothing_is_added() {
    let mut scene = scene(1, 9);
    let held = scene.lease_new();
    let waiter = scene.wait();
    scene.clock(millis(20));
    scene.socket_ends(held, super::scene::PEER_POLITE);
    let outdated = scene.dial(waiter);
    scene.clock(millis(5));
    scene.rotate(1);
    scene.opens_under(outdated, 0);
    scene.clock(millis(30));
    scene.close_ends(outdated);
    let dial = scene.dial(waiter);
    scene.clock(millis(5));
    scene.opens_under(dial, 1);
    assert!(matches!(scene.collect(waiter), Told::Lease(id, _) if id == dial));
    assert_eq!(scene.queued_for, Some(millis(50)), "the dials themselves are no wait at the cap");
}
