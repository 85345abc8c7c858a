//! The learned idle limit in force: the pool closes idle connections before the upstream does.

use std::time::Duration;

use super::scene::{PEER_POLITE, Scene, Told, millis, secs};
use crate::{
    pool::{End, EndReason, Learned, Source, state::Effects},
    telemetry::ends::{Manner, Side},
};

/// Plays a connection that the upstream closes after it has been idle for this long.
fn closed_by_the_peer_after(scene: &mut Scene, idle: Duration) {
    let id = scene.idle(1)[0];
    scene.pass(idle);
    scene.socket_ends(id, PEER_POLITE);
}

#[test]
fn a_connection_that_the_network_no_longer_carries_went_stale_and_teaches_no_idle_limit() {
    let mut scene = Scene::new(|s| s.idle_timeout = secs(0));
    for _ in 0..5 {
        let id = scene.idle(1)[0];
        scene.pass(secs(100));
        scene.path_forgotten(id);
        scene.socket_ends(id, End { by: Side::Peer, how: Manner::Reset });
        assert_eq!(scene.ended.pop(), Some((id, EndReason::Stale)));
    }
    assert_eq!(scene.state.learned(), None);
    for _ in 0..5 {
        closed_by_the_peer_after(&mut scene, secs(100));
    }
    assert!(scene.state.learned().is_some(), "the upstream's own closes teach one");
}

#[test]
fn what_is_announced_is_in_force_with_a_margin() {
    let mut scene = Scene::with_cap(9);
    let id = scene.lease_new();
    scene.check_in_told(id, Some(5), None);
    let announced = Learned { limit: secs(4), from: Source::Announced };
    assert_eq!(scene.state.learned(), Some(announced));
    scene.pass(secs(4) - millis(1));
    assert!(scene.closed.is_empty());
    scene.pass(millis(1));
    scene.close_ends(id);
    assert_eq!(scene.ended, [(id, EndReason::Idle)]);
}

#[test]
fn the_configured_limit_stays_in_force_where_it_is_lower() {
    let mut scene = Scene::new(|s| s.idle_timeout = secs(2));
    let id = scene.lease_new();
    scene.check_in_told(id, Some(60), None);
    scene.pass(secs(2));
    assert_eq!(scene.closed, [id]);
}

#[test]
fn an_announcement_holds_for_a_connection_that_has_not_answered_yet_and_not_for_one_whose_answers_had_none()
 {
    let mut scene = Scene::with_cap(9);
    let answered = scene.idle(1)[0];
    let told = scene.lease_new();
    scene.reconfigure(|s| s.min_idle = 2);
    let unused = scene.warm_up()[0];
    scene.check_in_told(told, Some(10), None);
    scene.pass(secs(9));
    assert_eq!(scene.closed, [unused, told]);
    assert_eq!(scene.reuse(), answered);
}

#[test]
fn no_time_at_all_is_said_of_one_connection_alone() {
    let mut scene = Scene::with_cap(9);
    let id = scene.lease_new();
    scene.check_in_told(id, Some(0), None);
    assert_eq!(scene.closed, [id]);
    assert_eq!(scene.state.learned(), None);
}

#[test]
fn one_that_nobody_used_and_that_ends_at_once_teaches_nothing() {
    let mut scene = Scene::new(|s| (s.min_idle, s.max_connections) = (1, 9));
    for _ in 0..20 {
        for id in scene.wanted() {
            scene.opens(id);
            scene.pass(millis(1));
            scene.socket_ends(id, PEER_POLITE);
        }
        scene.pass(secs(40));
    }
    assert_eq!(scene.state.learned(), None);
    assert!(!scene.state.closes_at_any_time());
}

#[test]
fn what_was_learned_is_forgotten_with_another_upstream_and_kept_with_another_certificate() {
    let mut scene = Scene::with_cap(9);
    let id = scene.lease_new();
    scene.check_in_told(id, Some(5), None);
    scene.rotate(1);
    assert!(scene.state.learned().is_some());
    scene.advance(2, EndReason::Reconfigured);
    assert_eq!(scene.state.learned(), None);
}

#[test]
fn so_many_requests_as_are_announced_and_no_more() {
    let mut scene = Scene::with_cap(9);
    let id = scene.lease_new();
    scene.check_in_told(id, None, Some(2));
    assert_eq!(scene.reuse(), id);
    scene.check_in_told(id, None, Some(1));
    assert_eq!(scene.reuse(), id);
    scene.check_in(id);
    scene.close_ends(id);
    assert_eq!(scene.ended, [(id, EndReason::Requests)]);
}

#[test]
fn no_time_at_all_means_that_not_even_who_waits_gets_it() {
    let mut scene = Scene::with_cap(1);
    let id = scene.lease_new();
    let waiter = scene.wait();
    scene.collect(waiter);
    scene.check_in_told(id, Some(0), None);
    assert_eq!(scene.closed, [id]);
    scene.close_ends(id);
    assert!(matches!(scene.collect_if_woken(waiter), Told::Dial(_)));
}

#[test]
fn an_upstream_that_closes_after_five_seconds_is_forestalled_after_three_closes() {
    let mut scene = Scene::with_cap(9);
    for _ in 0..3 {
        assert_eq!(scene.state.learned(), None);
        closed_by_the_peer_after(&mut scene, secs(5));
    }
    let seen = Learned { limit: secs(4), from: Source::Seen };
    assert_eq!(scene.state.learned(), Some(seen));
    scene.closed.clear();
    let id = scene.idle(1)[0];
    scene.pass(secs(4));
    assert_eq!(scene.closed, [id]);
}

#[test]
fn what_is_idle_already_as_the_limit_is_learned_closes_by_it() {
    let mut scene = Scene::with_cap(9);
    let ids = scene.lease_several(4);
    for id in &ids[..3] {
        scene.check_in(*id);
        scene.pass(secs(1));
    }
    scene.pass(secs(2));
    for id in &ids[..2] {
        scene.socket_closes(*id, Side::Peer);
        scene.pass(secs(1));
    }
    scene.check_in(ids[3]);
    scene.pass(millis(1));
    scene.socket_closes(ids[2], Side::Peer);
    scene.pass(secs(4) - millis(2));
    assert!(!scene.closed.contains(&ids[3]));
    scene.pass(millis(1));
    assert!(scene.closed.contains(&ids[3]));
}

#[test]
fn one_found_dead_when_it_is_used_had_been_closed_while_it_was_idle() {
    let mut scene = Scene::with_cap(9);
    for _ in 0..3 {
        let id = scene.idle(1)[0];
        scene.pass(secs(5));
        assert_eq!(scene.reuse(), id);
        scene.discard(id, EndReason::Stale);
        scene.close_ends(id);
    }
    assert_eq!(scene.state.learned().map(|learned| learned.limit), Some(secs(4)));
}

#[test]
fn one_that_breaks_in_mid_exchange_says_nothing_of_idleness() {
    let mut scene = Scene::with_cap(9);
    for _ in 0..9 {
        let id = scene.idle(1)[0];
        scene.pass(secs(5));
        assert_eq!(scene.reuse(), id);
        scene.discard(id, EndReason::Unfit);
        scene.close_ends(id);
    }
    assert_eq!(scene.state.learned(), None);
}

#[test]
fn a_limit_that_was_seen_is_watched_although_a_lower_one_was_announced_on_other_connections() {
    let mut scene = Scene::new(|s| {
        (s.idle_timeout, s.max_age, s.purge_delay) = (secs(0), secs(0), Duration::MAX);
    });
    let told = scene.lease_new();
    scene.check_in_told(told, Some(10), None);
    scene.pass(secs(9));
    let since = scene.now;
    scene.idle(1);
    assert_eq!(scene.tick(), None, "its answers announced nothing");
    let mut effects = Effects::default();
    for _ in 0..3 {
        scene.clock(secs(1));
        scene.state.at(scene.now, &mut effects).learn_from_close(secs(20));
    }
    assert!(effects.rearm, "the tick is due earlier than it said");
    assert_eq!(scene.tick(), Some(since + secs(18)));
}
