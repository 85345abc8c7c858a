//! The drain: no connection is kept idle, and every waiter is served.

use super::scene::{Scene, Told};
use crate::pool::{EndReason, Reuse};

#[test]
fn what_is_idle_closes_at_once_and_what_is_leased_at_check_in() {
    let mut scene = Scene::with_cap(9);
    let held = scene.lease_several(3);
    scene.check_in(held[0]);
    scene.check_in(held[1]);
    scene.drain();
    assert_eq!(scene.closed, held[..2]);
    scene.check_in(held[2]);
    assert_eq!(scene.closed, held);
    for id in &held {
        scene.close_ends(*id);
    }
    assert!(scene.ended.iter().all(|(_, reason)| *reason == EndReason::Drained));
    assert!(scene.state.is_empty());
}

#[test]
fn waiters_still_get_connections_one_after_the_other() {
    let mut scene = Scene::with_cap(1);
    let id = scene.lease_new();
    let waiters = [scene.wait(), scene.wait()];
    scene.drain();
    for waiter in waiters {
        scene.check_in(id);
        assert_eq!(scene.collect(waiter), Told::Lease(id, Reuse::Reused));
    }
    scene.check_in(id);
    assert_eq!(scene.closed, [id]);
}

#[test]
fn a_checkout_still_dials() {
    let mut scene = Scene::with_cap(1);
    scene.drain();
    assert_eq!(scene.reason_now(), Reuse::First);
}

#[test]
fn a_dial_that_nobody_waits_for_any_more_closes_when_done() {
    let mut scene = Scene::with_cap(1);
    let waiter = scene.wait();
    let id = scene.dial(waiter);
    scene.abandon(waiter);
    scene.drain();
    assert!(!scene.state.is_empty());
    scene.opens(id);
    assert_eq!(scene.closed, [id]);
    scene.close_ends(id);
    assert!(scene.state.is_empty());
}

#[test]
fn a_flush_closes_what_is_idle_and_ends_nothing() {
    let mut scene = Scene::with_cap(9);
    let held = scene.lease_several(3);
    scene.check_in(held[0]);
    scene.check_in(held[1]);
    assert_eq!(scene.flush(), 2);
    assert_eq!(scene.closed, held[..2]);
    scene.check_in(held[2]);
    assert_eq!(
        scene.counts(),
        [0, 0, 1, 2],
        "what was in use is kept, and those closing have their places"
    );
    assert_eq!(scene.flush(), 1);
    assert_eq!(scene.flush(), 0);
}
