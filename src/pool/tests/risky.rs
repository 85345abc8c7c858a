//! An upstream that closes idle connections at any time: requests that cannot be sent again take no used connection.

use super::scene::{PEER_POLITE, Scene, Told, UNREPEATABLE, millis, secs};
use crate::pool::{EndReason, Reuse};

/// Makes a pool whose upstream has closed six connections after they had been idle for some milliseconds.
fn before_a_closer(cap: usize) -> Scene {
    let mut scene = Scene::with_cap(cap);
    for idle in [3, 40, 17, 29, 8, 35] {
        let id = scene.idle(1)[0];
        scene.pass(millis(idle));
        scene.socket_ends(id, PEER_POLITE);
    }
    assert!(scene.state.closes_at_any_time());
    scene.closed.clear();
    scene.ended.clear();
    scene
}

#[test]
fn what_can_be_sent_again_takes_an_idle_one_and_what_cannot_dials() {
    let mut scene = before_a_closer(9);
    let idle = scene.idle(1)[0];
    assert_eq!(scene.counts(), [0, 0, 1, 0], "it is kept");
    let waiter = scene.wait_unrepeatable();
    let dial = scene.dial(waiter);
    scene.opens(dial);
    assert_eq!(scene.collect(waiter), Told::Lease(dial, Reuse::Risky));
    assert_eq!(scene.reuse(), idle);
}

#[test]
fn before_the_upstream_is_known_for_it_what_cannot_be_sent_again_takes_an_idle_one_too() {
    let mut scene = Scene::with_cap(9);
    scene.idle(1);
    assert!(matches!(scene.ask(UNREPEATABLE), super::scene::Got::Lease(_, Reuse::Reused)));
}

#[test]
fn it_is_new_for_the_risk_whatever_else_holds_but_a_retry_is_one_by_policy() {
    let mut scene = before_a_closer(9);
    let waiter = scene.wait_unrepeatable();
    let dial = scene.dial(waiter);
    scene.opens(dial);
    assert_eq!(scene.collect(waiter), Told::Lease(dial, Reuse::Risky), "rather than peer-closed");
    assert_eq!(scene.reason_now(), Reuse::Busy, "what can be sent again just found none");
    let retry = scene.wait_fresh();
    let dial = scene.dial(retry);
    scene.opens(dial);
    assert_eq!(scene.collect(retry), Told::Lease(dial, Reuse::Policy));
}

#[test]
fn it_takes_none_that_is_just_checked_in_either() {
    let mut scene = before_a_closer(2);
    let held = scene.lease_new();
    let waiter = scene.wait_unrepeatable();
    scene.dial(waiter);
    scene.check_in(held);
    assert_eq!(scene.collect(waiter), Told::Nothing);
    assert_eq!(scene.counts(), [1, 0, 1, 0], "it is kept: the waiter has a dial");
}

#[test]
fn at_the_cap_room_is_made_for_it_and_others_go_on() {
    let mut scene = before_a_closer(2);
    let held = scene.lease_several(2);
    let waiter = scene.wait_unrepeatable();
    let later = scene.wait();
    scene.check_in(held[0]);
    assert_eq!(scene.closed, [held[0]], "its place is wanted");
    scene.check_in(held[1]);
    assert_eq!(scene.collect(later), Told::Lease(held[1], Reuse::Reused));
    scene.close_ends(held[0]);
    let dial = scene.dial(waiter);
    scene.opens(dial);
    assert_eq!(scene.collect(waiter), Told::Lease(dial, Reuse::Risky));
}

#[test]
fn at_the_cap_the_oldest_idle_one_closes_for_it() {
    let mut scene = before_a_closer(2);
    let idle = scene.idle(2);
    let waiter = scene.wait_unrepeatable();
    assert_eq!(scene.closed, [idle[0]]);
    scene.close_ends(idle[0]);
    assert_eq!(scene.ended, [(idle[0], EndReason::Purged)]);
    scene.dial(waiter);
}

#[test]
fn no_more_are_kept_idle_than_were_in_use_at_once() {
    let mut scene = before_a_closer(9);
    for _ in 0..20 {
        let pair = [scene.wait_unrepeatable(), scene.wait_unrepeatable()].map(|waiter| {
            let id = scene.dial(waiter);
            scene.opens(id);
            scene.collect(waiter);
            id
        });
        for id in &pair {
            scene.check_in(*id);
        }
        assert_eq!(scene.census().idle, 2);
        let closed = std::mem::take(&mut scene.closed);
        for id in closed {
            scene.close_ends(id);
        }
    }
}

#[test]
fn the_warm_floor_is_kept_all_the_same() {
    let mut scene = before_a_closer(9);
    scene.reconfigure(|settings| settings.min_idle = 3);
    scene.warm_up();
    assert_eq!(scene.counts(), [0, 0, 3, 0]);
}

#[test]
fn an_announced_limit_stays_in_force() {
    let mut scene = before_a_closer(9);
    let id = scene.lease_new();
    scene.check_in_told(id, Some(5), None);
    scene.pass(secs(4));
    assert_eq!(scene.closed, [id]);
}
