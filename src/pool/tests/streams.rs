//! Connections that allow more than one stream at a time.

use super::scene::{Got, Scene, Told, defaults, secs};
use crate::pool::{EndReason, Reuse, state::State};

/// Makes a stage whose new connections allow and expect so many streams.
fn scene(streams: u32) -> Scene {
    let mut scene = Scene::new(|_| {});
    scene.state = State::new(defaults(), streams, 2);
    scene.streams = streams;
    scene
}

/// Makes a connection with so many open streams.
fn leased(scene: &mut Scene, streams: usize) -> u64 {
    let id = scene.lease_new();
    for _ in 1..streams {
        assert_eq!(scene.reuse(), id);
    }
    id
}

/// Checks that a connection with two open streams takes no further one, and closes for this reason once both have ended.
fn ends_after_its_two_streams(scene: &mut Scene, id: u64, reason: EndReason) {
    assert!(matches!(scene.check_out(0, false), Got::Wait(_)));
    scene.check_in(id);
    assert!(scene.closed.is_empty());
    scene.check_in(id);
    assert_eq!(scene.closed, [id]);
    scene.close_ends(id);
    assert_eq!(scene.ended, [(id, reason)]);
}

#[test]
fn a_dial_serves_as_many_waiters_as_its_connection_has_room_for() {
    let mut scene = scene(3);
    let waiters: Vec<_> = (0..4).map(|_| scene.wait()).collect();
    let id = scene.dial(waiters[0]);
    scene.opens(id);
    for (waiter, reuse) in [(0, Reuse::First), (1, Reuse::Reused), (2, Reuse::Reused)] {
        assert_eq!(scene.collect(waiters[waiter]), Told::Lease(id, reuse));
    }
    assert!(matches!(scene.collect(waiters[3]), Told::Dial(_)));
}

#[test]
fn a_stream_that_ends_makes_room_for_the_next_waiter() {
    let mut scene = scene(2);
    scene.reconfigure(|settings| settings.max_connections = 1);
    let id = leased(&mut scene, 2);
    let waiter = scene.wait();
    assert_eq!(scene.collect(waiter), Told::Nothing);
    scene.check_in(id);
    assert_eq!(scene.collect_if_woken(waiter), Told::Lease(id, Reuse::Reused));
    assert_eq!(scene.counts(), [0, 1, 0, 0]);
}

#[test]
fn after_a_rotation_a_connection_takes_no_stream_and_closes_once_the_open_ones_have_ended() {
    let mut scene = scene(3);
    let id = leased(&mut scene, 2);
    assert_eq!(scene.rotate(1).in_use, 1);
    ends_after_its_two_streams(&mut scene, id, EndReason::Rotated);
}

#[test]
fn an_unfit_stream_leaves_the_others_on_its_connection_alone() {
    let mut scene = scene(3);
    let id = leased(&mut scene, 2);
    scene.discard(id, EndReason::Unfit);
    assert_eq!(scene.counts(), [0, 1, 0, 0]);
    assert!(matches!(scene.check_out(0, false), Got::Wait(_)));
    scene.check_in(id);
    assert_eq!(scene.closed, [id]);
    scene.close_ends(id);
    assert_eq!(scene.ended, [(id, EndReason::Unfit)]);
}

#[test]
fn a_stream_that_fails_makes_room_and_ends_neither_the_others_nor_their_connection() {
    let mut scene = scene(2);
    scene.reconfigure(|settings| settings.max_connections = 1);
    let id = leased(&mut scene, 2);
    let waiter = scene.wait();
    assert_eq!(scene.collect(waiter), Told::Nothing);
    scene.fail_stream(id);
    assert_eq!(scene.collect_if_woken(waiter), Told::Lease(id, Reuse::Reused));
    scene.fail_stream(id);
    scene.fail_stream(id);
    assert_eq!((scene.counts(), scene.closed.len()), ([0, 0, 1, 0], 0));
    assert_eq!(scene.reuse(), id);
}

#[test]
fn a_retiring_connection_closes_for_its_own_reason_when_its_last_stream_fails() {
    let mut scene = scene(3);
    let id = leased(&mut scene, 2);
    scene.rotate(1);
    scene.fail_stream(id);
    assert!(scene.closed.is_empty());
    scene.fail_stream(id);
    scene.close_ends(id);
    assert_eq!(scene.ended, [(id, EndReason::Rotated)]);
}

#[test]
fn a_socket_that_ends_under_streams_is_reported_once_the_last_has_ended() {
    let mut scene = scene(3);
    let id = leased(&mut scene, 2);
    scene.close_ends(id);
    assert_eq!(scene.counts(), [0, 0, 0, 0]);
    scene.check_in(id);
    assert!(scene.ended.is_empty());
    scene.discard(id, EndReason::Stale);
    assert_eq!(scene.ended, [(id, EndReason::Stale)]);
}

#[test]
fn while_a_peer_allows_no_stream_requests_dial_and_its_connection_stays_idle() {
    let mut scene = scene(3);
    let id = leased(&mut scene, 1);
    scene.check_in(id);
    scene.allow(id, 0);
    let waiter = scene.wait();
    assert_eq!(scene.census().idle, 1);
    scene.allow(id, 1);
    assert_eq!(scene.collect(waiter), Told::Lease(id, Reuse::Reused));
}

#[test]
fn after_a_burst_steady_streams_come_together_on_one_connection() {
    let mut scene = scene(10);
    let ids = scene.lease_several(10);
    let more: Vec<_> = (0..90).map(|_| scene.reuse()).collect();
    for id in more {
        scene.check_in(id);
    }
    let mut open = ids;
    let mut connections = Vec::new();
    for _ in 0..6 {
        scene.pass(secs(30));
        // Each stream that ends is followed by another one.
        for stream in &mut open {
            scene.check_in(*stream);
            *stream = scene.reuse();
        }
        for id in std::mem::take(&mut scene.closed) {
            scene.close_ends(id);
        }
        connections.push(scene.counts()[1]);
    }
    assert_eq!(connections, [10, 10, 5, 3, 2, 1]);
}

#[test]
fn in_a_drain_a_connection_with_room_takes_no_stream_and_closes_once_the_open_ones_have_ended() {
    let mut scene = scene(3);
    let id = leased(&mut scene, 2);
    scene.drain();
    ends_after_its_two_streams(&mut scene, id, EndReason::Drained);
}

#[test]
fn in_a_drain_a_dial_serves_the_waiters_that_count_on_it_and_no_later_request() {
    let mut scene = scene(3);
    let waiters = [scene.wait(), scene.wait()];
    let id = scene.dial(waiters[0]);
    scene.drain();
    scene.opens(id);
    for (waiter, reuse) in waiters.into_iter().zip([Reuse::First, Reuse::Reused]) {
        assert_eq!(scene.collect(waiter), Told::Lease(id, reuse));
    }
    assert!(matches!(scene.check_out(0, false), Got::Wait(_)));
}
