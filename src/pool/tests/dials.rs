//! Dials that fail, and waiters that leave.

use super::scene::{Got, PEER_POLITE, Scene, Told};
use crate::pool::{EndReason, Reuse, state::Effects};

#[test]
fn a_dial_that_fails_fails_the_waiter_that_started_it() {
    let mut scene = Scene::with_cap(2);
    let (first, second) = (scene.wait(), scene.wait());
    let (_, failing) = (scene.dial(first), scene.dial(second));
    scene.fails(failing);
    assert_eq!(scene.collect(first), Told::Nothing);
    assert_eq!(scene.collect_if_woken(second), Told::Failed(Some("refused")));
    assert_eq!(scene.counts(), [1, 0, 0, 0]);
}

#[test]
fn a_dial_dropped_half_way_fails_its_waiter_without_an_error() {
    let mut scene = Scene::with_cap(1);
    let waiter = scene.wait();
    let id = scene.dial(waiter);
    scene.state.at(scene.now, &mut Effects::default()).dial_failed(id, None);
    assert_eq!(scene.collect(waiter), Told::Failed(None));
}

#[test]
fn a_served_waiters_dial_that_fails_fails_nobody() {
    let mut scene = Scene::with_cap(2);
    let held = scene.lease_new();
    let waiter = scene.wait();
    let dial = scene.dial(waiter);
    scene.check_in(held);
    scene.fails(dial);
    assert_eq!(scene.collect(waiter), Told::Lease(held, Reuse::Reused));
}

#[test]
fn who_counts_on_anothers_dial_starts_its_own_when_that_fails() {
    let mut scene = Scene::with_cap(2);
    let held = scene.lease_new();
    let starter = scene.wait();
    let dial = scene.dial(starter);
    let next_waiter = scene.wait();
    scene.collect(next_waiter);
    scene.check_in(held);
    scene.collect(starter);
    assert!(!scene.state.is_queued(next_waiter), "it counts on the dial");
    scene.fails(dial);
    let own = match scene.collect_if_woken(next_waiter) {
        Told::Dial(id) => id,
        other => panic!("it was told {other:?}"),
    };
    scene.fails(own);
    assert_eq!(scene.collect(next_waiter), Told::Failed(Some("refused")));
}

#[test]
fn the_next_waiter_is_woken_when_the_adopted_dial_is_done() {
    let mut scene = Scene::with_cap(1);
    let starter = scene.wait();
    let dial = scene.dial(starter);
    let next_waiter = scene.wait();
    scene.collect(next_waiter);
    scene.abandon(starter);
    assert!(scene.woken.is_empty(), "there is nothing to collect yet");
    scene.opens(dial);
    assert_eq!(scene.collect_if_woken(next_waiter), Told::Lease(dial, Reuse::Cap));
}

#[test]
fn a_dial_passes_from_waiter_to_waiter() {
    let mut scene = Scene::with_cap(1);
    let starter = scene.wait();
    let dial = scene.dial(starter);
    let next_waiters = [scene.wait(), scene.wait(), scene.wait()];
    for next_waiter in &next_waiters {
        assert_eq!(scene.collect(*next_waiter), Told::Nothing);
    }
    scene.abandon(starter);
    scene.abandon(next_waiters[0]);
    scene.abandon(next_waiters[1]);
    scene.opens(dial);
    assert_eq!(scene.collect_if_woken(next_waiters[2]), Told::Lease(dial, Reuse::Cap));
}

#[test]
fn an_abandoned_waiters_finished_dial_is_kept() {
    let mut scene = Scene::with_cap(1);
    let waiter = scene.wait();
    let dial = scene.dial(waiter);
    scene.abandon(waiter);
    scene.opens(dial);
    assert_eq!(scene.counts(), [0, 0, 1, 0]);
    assert_eq!(scene.reuse(), dial);
}

#[test]
fn an_abandoned_waiters_failed_dial_is_forgotten() {
    let mut scene = Scene::with_cap(1);
    let waiter = scene.wait();
    let dial = scene.dial(waiter);
    scene.abandon(waiter);
    scene.fails(dial);
    assert!(scene.state.is_empty());
}

#[test]
fn a_place_granted_to_a_waiter_that_leaves_goes_to_the_next() {
    let mut scene = Scene::with_cap(1);
    let (granted, next) = (scene.wait(), scene.wait());
    scene.collect(next);
    scene.abandon(granted);
    assert!(matches!(scene.collect_if_woken(next), Told::Dial(_)));
    assert_eq!(scene.counts(), [1, 0, 0, 0]);
}

#[test]
fn a_place_granted_to_a_waiter_that_is_served_goes_to_the_next() {
    let mut scene = Scene::with_cap(2);
    let held = scene.lease_new();
    let (granted, next) = (scene.wait(), scene.wait());
    scene.collect(next);
    scene.check_in(held);
    assert_eq!(scene.collect(granted), Told::Lease(held, Reuse::Reused));
    assert!(matches!(scene.collect_if_woken(next), Told::Dial(_)));
    assert_eq!(scene.counts(), [1, 1, 0, 0]);
}

#[test]
fn a_connection_that_a_leaving_waiter_did_not_collect_goes_to_the_next() {
    let mut scene = Scene::with_cap(1);
    let held = scene.lease_new();
    let (leaving, next) = (scene.wait(), scene.wait());
    scene.collect(next);
    scene.check_in(held);
    scene.abandon(leaving);
    assert_eq!(scene.collect_if_woken(next), Told::Lease(held, Reuse::Reused));
}

#[test]
fn a_connection_that_nobody_collected_was_not_used() {
    let mut scene = Scene::with_cap(1);
    let leaving = scene.wait();
    let dial = scene.dial(leaving);
    scene.opens(dial);
    scene.abandon(leaving);
    assert_eq!(scene.counts(), [0, 0, 1, 0]);
    assert_eq!(scene.state.views(scene.now)[0].uses, 0);
}

#[test]
fn a_connection_that_ended_before_it_was_collected_still_has_one_end() {
    let mut scene = Scene::with_cap(1);
    let leaving = scene.wait();
    let dial = scene.dial(leaving);
    scene.opens(dial);
    scene.socket_ends(dial, PEER_POLITE);
    scene.abandon(leaving);
    assert_eq!(
        (&scene.closed[..], &scene.ended[..]),
        (&[dial][..], &[(dial, EndReason::PeerClosed)][..])
    );
    assert!(scene.state.is_empty());
}

#[test]
fn who_has_left_is_told_that_there_is_nothing() {
    let mut scene = Scene::with_cap(1);
    let waiter = scene.wait();
    scene.abandon(waiter);
    scene.abandon(waiter);
    assert_eq!(scene.collect(waiter), Told::Failed(None));
    assert!(scene.state.is_empty());
    assert!(matches!(scene.check_out(0, false), Got::Wait(_)));
}

/// Makes a stage with this cap, whose connections are expected to allow three streams.
fn sharing(cap: usize) -> Scene {
    let mut scene = Scene::with_cap(cap);
    scene.expect(3);
    scene
}

/// Plays a dial for the first of four waiters, of which three count on it. Returns the waiters and the dial.
fn shared(scene: &mut Scene) -> ([u64; 4], u64) {
    let waiters = [(); 4].map(|()| scene.wait());
    let dial = scene.dial(waiters[0]);
    for waiter in &waiters[1..] {
        assert_eq!(scene.collect(*waiter), Told::Nothing);
    }
    (waiters, dial)
}

fn queued(scene: &Scene, waiters: [u64; 4]) -> [bool; 4] {
    waiters.map(|waiter| scene.state.is_queued(waiter))
}

#[test]
fn as_many_waiters_count_on_a_dial_as_streams_are_expected_and_only_the_others_are_queued() {
    let mut scene = sharing(1);
    let (waiters, dial) = shared(&mut scene);
    assert_eq!(
        (scene.counts(), queued(&scene, waiters)),
        ([1, 0, 0, 0], [false, false, false, true])
    );
    scene.reconfigure(|settings| settings.max_queue = 1);
    assert!(matches!(scene.check_out(0, false), Got::Refused(_)), "the queue is full");
    scene.streams = 3;
    scene.opens(dial);
    for (waiter, reuse) in [(0, Reuse::First), (1, Reuse::Reused), (2, Reuse::Reused)] {
        assert!(
            matches!(scene.collect_if_woken(waiters[waiter]), Told::Lease(id, _) if id == dial),
            "{reuse}"
        );
    }
    assert_eq!(scene.collect_if_woken(waiters[3]), Told::Nothing);
}

#[test]
fn the_last_of_those_that_count_on_a_dial_queue_again_in_their_old_places_if_it_brings_fewer_streams()
 {
    let mut scene = sharing(1);
    let (waiters, dial) = shared(&mut scene);
    scene.opens(dial);
    assert!(matches!(scene.collect_if_woken(waiters[0]), Told::Lease(..)));
    assert_eq!(queued(&scene, waiters), [false, true, true, true]);
    for waiter in [waiters[1], waiters[2]] {
        assert_eq!(scene.collect_if_woken(waiter), Told::Queued, "its time in the queue begins");
    }
    for waiter in &waiters[1..] {
        scene.check_in(dial);
        assert_eq!(scene.collect_if_woken(*waiter), Told::Lease(dial, Reuse::Reused));
    }
}

#[test]
fn a_dial_that_fails_fails_all_for_which_it_began_and_the_rest_of_the_queue_dials() {
    let mut scene = sharing(1);
    let (waiters, dial) = shared(&mut scene);
    scene.fails(dial);
    for waiter in &waiters[..3] {
        assert_eq!(scene.collect_if_woken(*waiter), Told::Failed(Some("refused")));
    }
    assert!(matches!(scene.collect_if_woken(waiters[3]), Told::Dial(_)));
}

#[test]
fn who_joins_after_the_starter_has_left_fails_with_those_that_are_left() {
    let mut scene = sharing(1);
    let (waiters, dial) = shared(&mut scene);
    scene.abandon(waiters[0]);
    assert_eq!(queued(&scene, waiters), [false; 4], "the last one has got the room");
    scene.fails(dial);
    for waiter in &waiters[1..] {
        assert_eq!(scene.collect_if_woken(*waiter), Told::Failed(Some("refused")));
    }
}

#[test]
fn who_counts_on_a_dial_that_began_for_nobody_shares_the_next_one_when_that_fails() {
    let mut scene = sharing(1);
    let starter = scene.wait();
    let dial = scene.dial(starter);
    scene.abandon(starter);
    let waiters = [(); 3].map(|()| scene.wait());
    for waiter in &waiters {
        assert_eq!(scene.collect(*waiter), Told::Nothing);
    }
    scene.fails(dial);
    let Told::Dial(next) = scene.collect_if_woken(waiters[0]) else { panic!("nobody dials") };
    scene.fails(next);
    for waiter in &waiters {
        assert_eq!(scene.collect_if_woken(*waiter), Told::Failed(Some("refused")));
    }
}

#[test]
fn a_place_that_others_count_on_passes_to_the_first_of_them_if_its_waiter_leaves_before_it_dials() {
    let mut scene = sharing(1);
    let waiters = [(); 4].map(|()| scene.wait());
    for waiter in &waiters[1..] {
        assert_eq!(scene.collect(*waiter), Told::Nothing);
    }
    scene.abandon(waiters[0]);
    assert!(matches!(scene.collect_if_woken(waiters[1]), Told::Dial(_)));
    assert_eq!((scene.counts(), queued(&scene, waiters)), ([1, 0, 0, 0], [false; 4]));
}

#[test]
fn who_is_served_elsewhere_leaves_its_part_of_a_dial_to_the_queue() {
    let mut scene = sharing(2);
    let held = scene.lease_new();
    let (waiters, dial) = shared(&mut scene);
    scene.check_in(held);
    assert_eq!(scene.collect(waiters[0]), Told::Lease(held, Reuse::Reused));
    assert_eq!(queued(&scene, waiters), [false; 4]);
    scene.streams = 3;
    scene.opens(dial);
    for waiter in &waiters[1..] {
        assert!(matches!(scene.collect_if_woken(*waiter), Told::Lease(id, _) if id == dial));
    }
}
