//! Every reason for an end, and for a new connection: the first one that applies is reported.

use super::scene::{Got, PEER_POLITE, Scene, Told, US_POLITE, secs};
use crate::pool::{EndReason, Reuse};

#[test]
fn the_first_connection_is_new_because_there_never_was_one() {
    assert_eq!(Scene::with_cap(1).reason_now(), Reuse::First);
}

#[test]
fn a_retry_is_new_by_policy_whatever_else_holds() {
    let mut scene = Scene::with_cap(2);
    let id = scene.lease_new();
    let retries = [scene.wait_fresh(), scene.wait_fresh()];
    let dial = scene.dial(retries[0]);
    scene.opens(dial);
    assert_eq!(scene.collect(retries[0]), Told::Lease(dial, Reuse::Policy), "rather than busy");
    scene.discard(id, EndReason::Unfit);
    scene.close_ends(id);
    let dial = scene.dial(retries[1]);
    scene.opens(dial);
    assert_eq!(scene.collect(retries[1]), Told::Lease(dial, Reuse::Policy), "rather than cap");
}

#[test]
fn who_waited_at_the_cap_and_then_dialled_says_cap_rather_than_busy() {
    let mut scene = Scene::with_cap(2);
    let held = scene.lease_several(2);
    let waiter = scene.wait();
    scene.socket_ends(held[0], PEER_POLITE);
    let dial = scene.dial(waiter);
    scene.opens(dial);
    assert_eq!(scene.collect(waiter), Told::Lease(dial, Reuse::Cap));
}

#[test]
fn who_waited_at_the_cap_and_then_got_a_used_one_reused() {
    let mut scene = Scene::with_cap(1);
    let id = scene.lease_new();
    let waiter = scene.wait();
    scene.check_in(id);
    assert_eq!(scene.collect(waiter), Told::Lease(id, Reuse::Reused));
}

#[test]
fn with_others_in_use_or_under_way_a_new_one_says_busy() {
    let mut scene = Scene::with_cap(9);
    let (dialling, other) = (scene.wait(), scene.wait());
    let first = scene.dial(dialling);
    let second = scene.dial(other);
    scene.opens(first);
    scene.opens(second);
    scene.collect(dialling);
    assert_eq!(scene.collect(other), Told::Lease(second, Reuse::Busy), "one was under way");
    let closing = scene.lease_new();
    scene.discard(closing, EndReason::Stale);
    assert_eq!(scene.reason_now(), Reuse::Busy, "rather than why the last one ended");
}

#[test]
fn one_that_is_only_closing_is_past() {
    let mut scene = Scene::with_cap(9);
    let id = scene.lease_new();
    scene.discard(id, EndReason::Stale);
    assert_eq!(scene.counts(), [0, 0, 0, 1]);
    assert_eq!(scene.reason_now(), Reuse::Stale);
}

#[test]
fn else_it_says_why_the_lease_of_the_last_one_ended_it() {
    for (reason, reuse) in [
        (EndReason::Unfit, Reuse::Unfit),
        (EndReason::Stale, Reuse::Stale),
        (EndReason::Moved, Reuse::Moved),
        (EndReason::PeerClosed, Reuse::PeerClosed),
    ] {
        let mut scene = Scene::with_cap(9);
        let id = scene.lease_new();
        scene.discard(id, reason);
        scene.close_ends(id);
        assert_eq!(scene.ended, [(id, reason)]);
        assert_eq!(scene.reason_now(), reuse);
    }
}

#[test]
fn aged() {
    let mut scene = Scene::new(|s| s.max_age = secs(10));
    let id = scene.lease_new();
    scene.clock(secs(10));
    scene.check_in(id);
    scene.close_ends(id);
    assert_eq!(scene.ended, [(id, EndReason::Aged)]);
    assert_eq!(scene.reason_now(), Reuse::Aged);
}

#[test]
fn requests() {
    let mut scene = Scene::new(|s| s.max_requests = std::num::NonZeroU64::new(1));
    let id = scene.lease_new();
    scene.check_in(id);
    scene.close_ends(id);
    assert_eq!(scene.ended, [(id, EndReason::Requests)]);
    assert_eq!(scene.reason_now(), Reuse::Requests);
}

#[test]
fn idle() {
    let mut scene = Scene::with_cap(9);
    let id = scene.idle(1)[0];
    scene.pass(secs(55));
    scene.close_ends(id);
    assert_eq!(scene.ended, [(id, EndReason::Idle)]);
    assert_eq!(scene.reason_now(), Reuse::Idle);
}

#[test]
fn purged() {
    let mut scene = Scene::new(|s| s.max_idle = Some(0));
    let id = scene.idle(1)[0];
    scene.close_ends(id);
    assert_eq!(scene.ended, [(id, EndReason::Purged)]);
    assert_eq!(scene.reason_now(), Reuse::Purged);
}

#[test]
fn peer_closed() {
    let mut scene = Scene::with_cap(9);
    let id = scene.idle(1)[0];
    scene.socket_ends(id, PEER_POLITE);
    assert_eq!(scene.closed, [id]);
    assert_eq!(scene.ended, [(id, EndReason::PeerClosed)]);
    assert_eq!(scene.reason_now(), Reuse::PeerClosed);
}

#[test]
fn an_idle_one_that_our_own_side_gave_up_was_unfit() {
    let mut scene = Scene::with_cap(9);
    let id = scene.idle(1)[0];
    scene.socket_ends(id, US_POLITE);
    assert_eq!(scene.ended, [(id, EndReason::Unfit)]);
    assert_eq!(scene.reason_now(), Reuse::Unfit);
}

#[test]
fn drained() {
    let mut scene = Scene::with_cap(9);
    let id = scene.idle(1)[0];
    scene.drain();
    scene.close_ends(id);
    assert_eq!(scene.ended, [(id, EndReason::Drained)]);
    assert_eq!(scene.reason_now(), Reuse::Drained);
}

#[test]
fn the_last_one_is_the_last_that_the_pool_gave_up_not_the_last_to_be_closed() {
    let mut scene = Scene::with_cap(9);
    let held = scene.lease_several(2);
    scene.discard(held[0], EndReason::Stale);
    scene.discard(held[1], EndReason::Moved);
    scene.close_ends(held[1]);
    scene.close_ends(held[0]);
    assert_eq!(scene.reason_now(), Reuse::Moved);
}

#[test]
fn one_lost_under_its_lease_is_known_before_the_lease_ends() {
    let mut scene = Scene::with_cap(9);
    let id = scene.lease_new();
    scene.socket_ends(id, PEER_POLITE);
    assert_eq!(scene.reason_now(), Reuse::PeerClosed, "rather than first");
    assert!(scene.ended.is_empty(), "its lease has the last word");
    scene.discard(id, EndReason::Stale);
    assert_eq!(scene.ended, [(id, EndReason::Stale)]);
}

#[test]
fn one_lost_under_its_lease_and_then_checked_in_was_closed_by_the_peer() {
    let mut scene = Scene::with_cap(9);
    let id = scene.lease_new();
    scene.socket_ends(id, PEER_POLITE);
    scene.check_in(id);
    assert_eq!(scene.closed, [id]);
    assert_eq!(scene.ended, [(id, EndReason::PeerClosed)]);
}

#[test]
fn a_connection_remembers_why_its_last_checkout_did_or_did_not_reuse() {
    let mut scene = Scene::with_cap(9);
    let id = scene.lease_new();
    assert_eq!(scene.state.views(scene.now)[0].last_reuse, Some(Reuse::Policy));
    scene.check_in(id);
    assert_eq!(scene.check_out(0, false), Got::Lease(id, Reuse::Reused));
    let view = &scene.state.views(scene.now)[0];
    assert_eq!((view.last_reuse, view.uses), (Some(Reuse::Reused), 2));
}

#[test]
fn fault_30_what_is_idle_to_a_lost_address_closes_and_what_is_in_use_stays() {
    let mut scene = Scene::with_cap(3);
    let ids = scene.idle(2);
    let used = scene.lease_new();
    scene.addresses_go(false);
    assert!(scene.closed.is_empty());
    scene.addresses_go(true);
    assert_eq!(scene.closed, ids);
    scene.discard(used, EndReason::Moved);
    for id in [ids[0], ids[1], used] {
        scene.close_ends(id);
    }
    assert!(scene.ended.iter().all(|(_, reason)| *reason == EndReason::Moved), "{:?}", scene.ended);
}
