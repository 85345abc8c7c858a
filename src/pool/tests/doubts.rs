//! Connections that the network path may have dropped: idle ones are only leased again once their peers are proven
//! alive.

use super::scene::{Got, PEER_POLITE, Scene, Told, US_POLITE, millis, secs};
use crate::{
    pool::{EndReason, PROOF_TIME, Reuse},
    telemetry::ends::Side,
};

/// Makes two connections that have been idle for five seconds.
fn idle_for_long(scene: &mut Scene) -> [u64; 2] {
    let ids = scene.idle(2);
    scene.pass(secs(5));
    [ids[0], ids[1]]
}

#[test]
fn fault_08_a_doubted_connection_is_lent_to_nobody_and_new_requests_dial_meanwhile() {
    let mut scene = Scene::new(|_| ());
    let ids = idle_for_long(&mut scene);
    assert_eq!(scene.doubt(secs(1)), ids);
    let waiter = scene.wait();
    let dial = scene.dial(waiter);
    scene.opens(dial);
    assert_eq!(scene.collect(waiter), Told::Lease(dial, Reuse::Stale));
    scene.check_in(dial);
    assert_eq!(scene.reuse(), dial);
    assert_eq!(scene.counts(), [0, 1, 2, 0]);
}

#[test]
fn fault_08_one_whose_peer_is_alive_is_lent_again_in_its_old_order() {
    let mut scene = Scene::new(|_| ());
    let [older, newer] = idle_for_long(&mut scene);
    scene.doubt(secs(1));
    scene.trust(newer);
    scene.trust(older);
    assert_eq!([scene.reuse(), scene.reuse()], [newer, older]);
}

#[test]
fn fault_08_without_a_proof_it_closes_as_stale_within_two_seconds() {
    let mut scene = Scene::new(|_| ());
    let [older, newer] = idle_for_long(&mut scene);
    scene.doubt(secs(1));
    scene.trust(newer);
    scene.pass(PROOF_TIME - millis(1));
    assert!(scene.closed.is_empty());
    scene.pass(millis(1));
    assert_eq!(scene.closed, [older]);
    scene.close_ends(older);
    assert_eq!(scene.ended, [(older, EndReason::Stale)]);
}

#[test]
fn fault_08_when_its_socket_ends_it_was_stale_and_teaches_nothing_of_idle_times() {
    let mut scene = Scene::new(|_| ());
    for end in [PEER_POLITE, US_POLITE].repeat(5) {
        let id = scene.idle(1)[0];
        scene.pass(secs(5));
        scene.doubt(secs(1));
        scene.socket_closes(id, end.by);
        scene.socket_ends(id, end);
        assert_eq!(scene.ended.pop(), Some((id, EndReason::Stale)));
    }
    assert_eq!((scene.state.learned(), scene.state.closes_at_any_time()), (None, false));
}

#[test]
fn fault_08_what_was_answered_since_and_what_is_in_use_is_not_doubted() {
    let mut scene = Scene::new(|_| ());
    let [older, newer] = idle_for_long(&mut scene);
    assert_eq!([scene.reuse(), scene.reuse()], [newer, older]);
    scene.check_in(newer);
    scene.clock(millis(500));
    assert!(scene.doubt(secs(1)).is_empty());
    assert_eq!(scene.reuse(), newer);
}

#[test]
fn fault_08_a_proof_without_a_doubt_and_a_doubt_twice_change_nothing() {
    let mut scene = Scene::new(|_| ());
    let [older, newer] = idle_for_long(&mut scene);
    scene.trust(older);
    assert_eq!(scene.doubt(secs(1)), [older, newer]);
    scene.pass(secs(1));
    assert!(scene.doubt(secs(1)).is_empty());
    scene.pass(secs(1));
    assert_eq!(scene.closed, [older, newer], "the first doubt's time counts");
}

#[test]
fn fault_08_whoever_waits_is_served_by_the_connection_that_is_proven_alive() {
    let mut scene = Scene::new(|_| ());
    let [older, _] = idle_for_long(&mut scene);
    scene.doubt(secs(1));
    let waiter = scene.wait();
    scene.dial(waiter);
    scene.trust(older);
    assert_eq!(scene.collect_if_woken(waiter), Told::Lease(older, Reuse::Reused));
}

#[test]
fn fault_08_at_the_cap_a_doubted_connection_makes_room() {
    let mut scene = Scene::with_cap(2);
    let [older, _] = idle_for_long(&mut scene);
    scene.doubt(secs(1));
    let Got::Wait(waiter) = scene.check_out(0, false) else { panic!("a doubted one was lent") };
    assert_eq!(scene.closed, [older]);
    scene.socket_closes(older, Side::Us);
    scene.close_ends(older);
    assert!(matches!(scene.collect(waiter), Told::Dial(_)));
}
