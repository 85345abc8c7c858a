//! Connections between the end of HTTP and the end of their socket keep their place, and are not leased any more.

use super::scene::{Got, PEER_POLITE, Scene, Told, US_POLITE};
use crate::{
    pool::{EndReason, Reuse},
    telemetry::ends::Side,
};

#[test]
fn an_idle_connection_that_is_being_closed_is_not_idle() {
    let mut scene = Scene::with_cap(2);
    let id = scene.idle(1)[0];
    scene.socket_closes(id, Side::Peer);
    assert_eq!(scene.counts(), [0, 0, 0, 1]);
    assert_eq!(scene.closed, [id]);
    for thread in 0..2 {
        assert!(matches!(scene.check_out(thread, false), Got::Wait(_)));
    }
}

#[test]
fn it_keeps_its_place_until_the_socket_has_ended() {
    let mut scene = Scene::with_cap(1);
    let id = scene.idle(1)[0];
    scene.socket_closes(id, Side::Peer);
    let waiter = scene.wait();
    assert_eq!(scene.collect(waiter), Told::Nothing);
    assert!(scene.ended.is_empty());
    scene.socket_ends(id, PEER_POLITE);
    assert_eq!(scene.ended, [(id, EndReason::PeerClosed)]);
    assert!(matches!(scene.collect_if_woken(waiter), Told::Dial(_)));
}

#[test]
fn whose_doing_it_was_is_the_reason() {
    for (by, reason, reuse) in [
        (Side::Peer, EndReason::PeerClosed, Reuse::PeerClosed),
        (Side::Us, EndReason::Unfit, Reuse::Unfit),
    ] {
        let mut scene = Scene::with_cap(9);
        let id = scene.idle(1)[0];
        scene.socket_closes(id, by);
        assert_eq!(scene.reason_now(), reuse, "known before the socket has ended");
        scene.close_ends(id);
        assert_eq!(scene.ended, [(id, reason)]);
    }
}

#[test]
fn a_connection_that_the_pool_itself_closes_keeps_the_pools_reason() {
    let mut scene = Scene::with_cap(9);
    let id = scene.idle(1)[0];
    scene.drain();
    scene.socket_closes(id, Side::Us);
    scene.socket_ends(id, US_POLITE);
    assert_eq!((&scene.closed[..], &scene.ended[..]), (&[id][..], &[(id, EndReason::Drained)][..]));
}

#[test]
fn a_leased_one_is_left_to_its_lease() {
    let mut scene = Scene::with_cap(9);
    let id = scene.lease_new();
    scene.socket_closes(id, Side::Peer);
    assert_eq!(scene.counts(), [0, 1, 0, 0]);
    scene.discard(id, EndReason::Stale);
    scene.socket_ends(id, PEER_POLITE);
    assert_eq!((&scene.closed[..], &scene.ended[..]), (&[][..], &[(id, EndReason::Stale)][..]));
}

#[test]
fn a_leased_one_does_not_become_idle_at_check_in() {
    let mut scene = Scene::with_cap(9);
    let id = scene.lease_new();
    scene.socket_closes(id, Side::Peer);
    scene.check_in(id);
    assert_eq!((scene.counts(), &scene.closed[..]), ([0, 0, 0, 1], &[id][..]));
    scene.socket_ends(id, PEER_POLITE);
    assert_eq!(scene.ended, [(id, EndReason::PeerClosed)]);
}

#[test]
fn a_leased_one_goes_to_no_waiter_at_check_in() {
    let mut scene = Scene::with_cap(1);
    let id = scene.lease_new();
    let waiter = scene.wait();
    scene.collect(waiter);
    scene.socket_closes(id, Side::Us);
    scene.check_in(id);
    assert_eq!(scene.collect_if_woken(waiter), Told::Nothing);
    scene.socket_ends(id, US_POLITE);
    assert!(matches!(scene.collect_if_woken(waiter), Told::Dial(_)));
    assert_eq!(scene.ended, [(id, EndReason::Unfit)]);
}

#[test]
fn one_that_its_waiter_never_collected_is_closed_too() {
    let mut scene = Scene::with_cap(9);
    let leaving = scene.wait();
    let id = scene.dial(leaving);
    scene.opens(id);
    scene.socket_closes(id, Side::Peer);
    scene.abandon(leaving);
    assert_eq!((scene.counts(), &scene.closed[..]), ([0, 0, 0, 1], &[id][..]));
}

#[test]
fn a_place_that_comes_so_suffices_for_a_retry() {
    let mut scene = Scene::with_cap(2);
    let idle = scene.idle(2);
    scene.socket_closes(idle[1], Side::Peer);
    let retry = scene.wait_fresh();
    scene.collect(retry);
    assert_eq!(scene.closed, [idle[1]], "the other may stay");
    scene.socket_ends(idle[1], PEER_POLITE);
    assert!(matches!(scene.collect_if_woken(retry), Told::Dial(_)));
}

#[test]
fn fault_34_where_sockets_are_short_the_older_half_of_what_is_idle_closes_and_never_the_newest() {
    let mut scene = Scene::with_cap(9);
    let held = scene.lease_several(5);
    for id in &held[..4] {
        scene.check_in(*id);
    }
    scene.close_older_half();
    assert_eq!(scene.closed, held[..2], "and what is in use stays");
    scene.close_ends(held[0]);
    scene.close_ends(held[1]);
    assert_eq!(scene.ended[0], (held[0], EndReason::Purged));
    scene.close_older_half();
    assert_eq!(scene.closed, held[..3]);
    scene.close_ends(held[2]);
    scene.close_older_half();
    assert_eq!(scene.closed, held[..3], "the newest stays");
}

#[test]
fn fault_27_while_connections_are_closing_a_shortage_closes_no_others() {
    let mut scene = Scene::with_cap(9);
    let held = scene.idle(8);
    for _ in 0..5 {
        scene.close_older_half();
    }
    assert_eq!(scene.closed, held[..4], "the four that close free their sockets soon");
    for id in &held[..4] {
        scene.close_ends(*id);
    }
    scene.close_older_half();
    assert_eq!(scene.closed, held[..6]);
}
