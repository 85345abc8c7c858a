//! `maxConnections` is strict in every phase.

use super::scene::{Got, PEER_POLITE, Scene, Told};
use crate::pool::{EndReason, Reuse};

#[test]
fn a_place_is_taken_from_the_grant_of_a_dial_to_the_end_of_the_socket() {
    let mut scene = Scene::with_cap(1);
    let first = scene.wait();
    assert_eq!(scene.counts(), [1, 0, 0, 0], "granted");
    let id = scene.dial(first);
    let second = scene.wait();
    assert_eq!(scene.collect(second), Told::Nothing, "under way");
    scene.opens(id);
    assert_eq!(scene.collect(first), Told::Lease(id, Reuse::First));
    assert_eq!(scene.counts(), [0, 1, 0, 0], "in use");
    assert_eq!(scene.collect(second), Told::Nothing);
    scene.discard(id, EndReason::Unfit);
    assert_eq!(scene.counts(), [0, 0, 0, 1], "closing");
    assert_eq!(scene.collect(second), Told::Nothing);
    scene.close_ends(id);
    assert_eq!(scene.counts(), [1, 0, 0, 0]);
    assert!(matches!(scene.collect(second), Told::Dial(_)));
}

#[test]
fn an_idle_connection_takes_a_place_whatever_thread_asks() {
    let mut scene = Scene::with_cap(1);
    let id = scene.idle(1)[0];
    assert_eq!(scene.check_out(1, false), Got::Lease(id, Reuse::Reused));
    assert!(matches!(scene.check_out(0, false), Got::Wait(_)));
    assert_eq!(scene.counts(), [0, 1, 0, 0]);
}

#[test]
fn a_dial_whose_waiter_left_keeps_its_place() {
    let mut scene = Scene::with_cap(1);
    let first = scene.wait();
    scene.dial(first);
    scene.abandon(first);
    let second = scene.wait();
    assert_eq!(scene.collect(second), Told::Nothing);
    assert_eq!(scene.counts(), [1, 0, 0, 0]);
}

#[test]
fn a_connection_lost_under_its_lease_frees_its_place_at_once_and_only_once() {
    let mut scene = Scene::with_cap(1);
    let id = scene.lease_new();
    let waiter = scene.wait();
    scene.collect(waiter);
    scene.socket_ends(id, PEER_POLITE);
    assert_eq!(scene.counts(), [1, 0, 0, 0]);
    assert!(matches!(scene.collect_if_woken(waiter), Told::Dial(_)));
    scene.discard(id, EndReason::Unfit);
    assert_eq!(scene.counts(), [1, 0, 0, 0]);
    assert_eq!(scene.ended, [(id, EndReason::Unfit)]);
}

#[test]
fn a_failed_dial_gives_its_place_to_the_next() {
    let mut scene = Scene::with_cap(1);
    let (first, second) = (scene.wait(), scene.wait());
    scene.collect(second);
    let id = scene.dial(first);
    scene.fails(id);
    assert!(matches!(scene.collect_if_woken(second), Told::Dial(_)));
}

#[test]
fn what_is_done_twice_counts_once() {
    let mut scene = Scene::with_cap(3);
    let id = scene.lease_new();
    scene.discard(id, EndReason::Unfit);
    scene.discard(id, EndReason::Unfit);
    scene.check_in(id);
    assert_eq!(scene.counts(), [0, 0, 0, 1]);
    scene.close_ends(id);
    scene.close_ends(id);
    scene.fails(id);
    scene.opens(id);
    assert_eq!(scene.counts(), [0, 0, 0, 0]);
    assert_eq!(scene.ended.len(), 1);
}

#[test]
fn fault_10_each_further_socket_of_a_dial_takes_a_place_and_gives_it_to_the_next_in_line() {
    let mut scene = Scene::with_cap(2);
    let first = scene.wait();
    let dial = scene.dial(first);
    let spare = scene.spare().expect("a place is free");
    assert_eq!(scene.counts(), [2, 0, 0, 0]);
    assert_eq!(scene.spare(), None, "no place is left");
    let second = scene.wait();
    assert_eq!(scene.collect(second), Told::Nothing, "it is no dial that anybody could count on");
    scene.spare_ends(spare);
    let Told::Dial(other) = scene.collect_if_woken(second) else { panic!("the place is free") };
    assert_eq!(scene.counts(), [2, 0, 0, 0]);
    scene.spare_ends(spare);
    assert_eq!(scene.counts(), [2, 0, 0, 0], "what is done twice counts once");
    scene.opens(dial);
    scene.opens(other);
    assert_eq!(scene.counts(), [0, 2, 0, 0]);
}

#[test]
fn fault_10_a_place_that_somebody_waits_for_is_nobody_s_spare() {
    let mut scene = Scene::with_cap(1);
    let first = scene.wait();
    scene.dial(first);
    scene.wait();
    assert_eq!(scene.spare(), None);
    assert_eq!(scene.counts(), [1, 0, 0, 0]);
}
