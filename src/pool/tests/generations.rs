//! Generations of certificates: a connection of an older generation is never leased again.

use super::scene::{PEER_POLITE, Scene, Told, US_POLITE};
use crate::pool::{Advanced, EndReason, Reuse};

#[test]
fn a_new_generation_closes_what_is_idle() {
    let mut scene = Scene::with_cap(9);
    let idle = scene.idle(3);
    assert_eq!(scene.rotate(1), Advanced { idle_closed: 3, in_use: 0 });
    assert_eq!((&scene.closed[..], scene.counts()), (&idle[..], [0, 0, 0, 3]));
    scene.close_ends(idle[0]);
    assert_eq!(scene.ended, [(idle[0], EndReason::Rotated)]);
    assert_eq!(scene.reason_now(), Reuse::Rotated);
}

#[test]
fn what_is_in_use_finishes_its_exchange_and_closes_at_check_in() {
    let mut scene = Scene::with_cap(9);
    let id = scene.lease_new();
    assert_eq!(scene.rotate(1), Advanced { idle_closed: 0, in_use: 1 });
    assert!(scene.closed.is_empty());
    scene.check_in(id);
    assert_eq!((scene.counts(), &scene.closed[..]), ([0, 0, 0, 1], &[id][..]));
}

#[test]
fn an_old_one_goes_to_no_waiter_at_check_in_but_its_place_does() {
    let mut scene = Scene::with_cap(1);
    let id = scene.lease_new();
    let waiter = scene.wait();
    scene.collect(waiter);
    scene.rotate(1);
    scene.check_in(id);
    assert_eq!(scene.collect_if_woken(waiter), Told::Nothing);
    scene.close_ends(id);
    let dial = scene.dial(waiter);
    scene.opens_under(dial, 1);
    assert_eq!(scene.collect(waiter), Told::Lease(dial, Reuse::Cap));
}

#[test]
fn an_old_one_that_its_waiter_never_collected_closes_too() {
    let mut scene = Scene::with_cap(9);
    let waiter = scene.wait();
    let id = scene.dial(waiter);
    scene.opens(id);
    assert_eq!(scene.rotate(1).in_use, 1);
    scene.abandon(waiter);
    assert_eq!((scene.counts(), &scene.closed[..]), ([0, 0, 0, 1], &[id][..]));
}

#[test]
fn a_dial_of_the_old_generation_that_finishes_later_closes_and_its_waiter_dials_again() {
    let mut scene = Scene::with_cap(2);
    let waiter = scene.wait();
    let old = scene.dial(waiter);
    scene.rotate(1);
    scene.opens_under(old, 0);
    assert_eq!((&scene.closed[..], scene.counts()), (&[old][..], [1, 0, 0, 1]));
    let new = scene.dial(waiter);
    scene.opens_under(new, 1);
    assert_eq!(scene.collect(waiter), Told::Lease(new, Reuse::First));
    scene.close_ends(old);
    assert_eq!(scene.ended, [(old, EndReason::Rotated)]);
}

#[test]
fn at_the_cap_that_waiter_gets_the_place_once_the_old_one_has_closed_and_knows_that_it_queues() {
    let mut scene = Scene::with_cap(1);
    let waiter = scene.wait();
    let old = scene.dial(waiter);
    scene.collect(waiter);
    scene.rotate(1);
    scene.opens_under(old, 0);
    assert_eq!(scene.collect_if_woken(waiter), Told::Queued);
    assert_eq!(scene.collect(waiter), Told::Nothing, "it is told once");
    assert!(scene.state.is_queued(waiter));
    scene.close_ends(old);
    let new = scene.dial(waiter);
    scene.opens_under(new, 1);
    assert_eq!(scene.collect(waiter), Told::Lease(new, Reuse::First));
}

#[test]
fn an_old_dial_that_nobody_waits_for_closes() {
    let mut scene = Scene::with_cap(9);
    let waiter = scene.wait();
    let old = scene.dial(waiter);
    scene.abandon(waiter);
    scene.rotate(1);
    scene.opens_under(old, 0);
    assert_eq!((&scene.closed[..], scene.counts()), (&[old][..], [0, 0, 0, 1]));
}

#[test]
fn a_dial_may_be_ahead_of_the_pool() {
    let mut scene = Scene::with_cap(9);
    let waiter = scene.wait();
    let dial = scene.dial(waiter);
    scene.opens_under(dial, 1);
    scene.collect(waiter);
    scene.check_in(dial);
    assert_eq!(scene.rotate(1), Advanced::default());
    assert_eq!(scene.reuse(), dial);
}

#[test]
fn of_several_generations_the_newest_ones_reason_counts() {
    let mut scene = Scene::with_cap(9);
    let id = scene.lease_new();
    assert_eq!(scene.advance(1, EndReason::Rotated).in_use, 1);
    assert_eq!(scene.advance(2, EndReason::Reconfigured).in_use, 1);
    assert_eq!(scene.advance(2, EndReason::Rotated).in_use, 1, "not a new one");
    assert_eq!(scene.advance(1, EndReason::Rotated).in_use, 1, "an older one still");
    scene.check_in(id);
    scene.close_ends(id);
    assert_eq!(scene.ended, [(id, EndReason::Reconfigured)]);
    assert_eq!(scene.reason_now(), Reuse::Reconfigured);
}

#[test]
fn a_generation_is_outlived_when_its_last_socket_is_closed() {
    let mut scene = Scene::with_cap(9);
    let held = scene.lease_several(2);
    scene.rotate(1);
    let newer = scene.lease_new();
    scene.check_in(held[0]);
    scene.close_ends(held[0]);
    assert!(!scene.state.has_outlived(1), "one is in use");
    scene.check_in(held[1]);
    assert!(!scene.state.has_outlived(1), "one is closing");
    scene.socket_ends(held[1], US_POLITE);
    assert!(scene.state.has_outlived(1));
    assert!(!scene.state.has_outlived(2), "but not the newest");
    scene.socket_ends(newer, PEER_POLITE);
    assert!(scene.state.has_outlived(2), "a lease without a socket is no connection");
}

#[test]
fn a_connection_shows_its_generation() {
    let mut scene = Scene::with_cap(9);
    scene.lease_new();
    scene.rotate(7);
    scene.lease_new();
    let views = scene.state.views(scene.now);
    assert_eq!(views.iter().map(|view| view.generation).collect::<Vec<_>>(), [0, 7]);
}
