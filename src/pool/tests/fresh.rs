//! Retries: each takes only a fresh connection, in its turn.

use super::scene::{Scene, Told};
use crate::pool::{EndReason, Reuse};

#[test]
fn a_retry_takes_no_idle_connection() {
    let mut scene = Scene::with_cap(2);
    let idle = scene.idle(1)[0];
    let retry = scene.wait_fresh();
    let dial = scene.dial(retry);
    scene.opens(dial);
    assert_eq!(scene.collect(retry), Told::Lease(dial, Reuse::Policy));
    assert_eq!(scene.reuse(), idle);
}

#[test]
fn a_retry_takes_no_connection_that_is_checked_in() {
    let mut scene = Scene::with_cap(2);
    let held = scene.lease_new();
    let retry = scene.wait_fresh();
    scene.dial(retry);
    scene.check_in(held);
    assert_eq!(scene.collect(retry), Told::Nothing);
    assert_eq!(scene.counts(), [1, 0, 1, 0], "it is kept: the retry has a dial");
}

#[test]
fn a_retry_takes_another_waiters_finished_dial() {
    let mut scene = Scene::with_cap(2);
    let (retry, other) = (scene.wait_fresh(), scene.wait());
    let (slow, quick) = (scene.dial(retry), scene.dial(other));
    scene.opens(quick);
    assert_eq!(scene.collect(retry), Told::Lease(quick, Reuse::Policy));
    scene.opens(slow);
    assert_eq!(scene.collect(other), Told::Lease(slow, Reuse::Busy));
}

#[test]
fn a_retry_at_the_cap_has_the_oldest_idle_connection_closed() {
    let mut scene = Scene::with_cap(2);
    let idle = scene.idle(2);
    let retry = scene.wait_fresh();
    assert_eq!(scene.collect(retry), Told::Nothing);
    assert_eq!(scene.closed, [idle[0]]);
    scene.close_ends(idle[0]);
    assert_eq!(scene.ended, [(idle[0], EndReason::Purged)]);
    assert!(matches!(scene.collect_if_woken(retry), Told::Dial(_)));
    assert_eq!(scene.reuse(), idle[1]);
}

#[test]
fn a_retry_at_the_cap_costs_one_connection_however_long_that_closes() {
    let mut scene = Scene::with_cap(3);
    let held = scene.lease_several(3);
    let retry = scene.wait_fresh();
    scene.collect(retry);
    for id in &held {
        scene.check_in(*id);
    }
    assert_eq!(scene.closed, [held[0]]);
    assert_eq!(scene.counts(), [0, 0, 2, 1]);
    scene.close_ends(held[0]);
    assert!(matches!(scene.collect_if_woken(retry), Told::Dial(_)));
}

#[test]
fn a_place_that_is_being_freed_suffices_for_a_retry() {
    let mut scene = Scene::with_cap(2);
    let held = scene.lease_several(2);
    scene.check_in(held[0]);
    scene.discard(held[1], EndReason::Stale);
    let retry = scene.wait_fresh();
    scene.collect(retry);
    assert_eq!(scene.counts(), [0, 0, 1, 1], "the idle one may stay");
    scene.close_ends(held[1]);
    assert!(matches!(scene.collect_if_woken(retry), Told::Dial(_)));
}

#[test]
fn each_of_several_retries_is_made_room_for() {
    let mut scene = Scene::with_cap(3);
    let idle = scene.idle(3);
    let retries = [scene.wait_fresh(), scene.wait_fresh()];
    assert_eq!(scene.closed, idle[..2]);
    scene.close_ends(idle[0]);
    scene.close_ends(idle[1]);
    for retry in retries {
        scene.dial(retry);
    }
}

#[test]
fn a_retry_is_not_passed_over_by_those_who_came_later() {
    let mut scene = Scene::with_cap(1);
    let held = scene.lease_new();
    let retry = scene.wait_fresh();
    let later = scene.wait();
    scene.collect(retry);
    scene.collect(later);
    scene.check_in(held);
    assert_eq!(scene.collect(later), Told::Nothing, "the retry is first in line for the place");
    scene.close_ends(held);
    let dial = match scene.collect_if_woken(retry) {
        Told::Dial(id) => id,
        other => panic!("it was told {other:?}"),
    };
    scene.opens(dial);
    assert_eq!(scene.collect(retry), Told::Lease(dial, Reuse::Policy));
    scene.check_in(dial);
    assert_eq!(scene.collect_if_woken(later), Told::Lease(dial, Reuse::Reused));
}

#[test]
fn while_a_retry_waits_for_its_place_others_go_on() {
    let mut scene = Scene::with_cap(2);
    let held = scene.lease_several(2);
    let retry = scene.wait_fresh();
    let later = scene.wait();
    scene.check_in(held[0]);
    scene.check_in(held[1]);
    assert_eq!(scene.closed, [held[0]]);
    assert_eq!(scene.collect(later), Told::Lease(held[1], Reuse::Reused));
    scene.close_ends(held[0]);
    scene.dial(retry);
}
