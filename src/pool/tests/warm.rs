//! The warm floor: connections that are dialled without a request, kept, and replaced without a storm of dials.

use std::time::Duration;

use super::scene::{PEER_POLITE, Scene, Told, millis, secs};
use crate::pool::{PROVEN_AGE, Reuse, state::WarmStep};

fn scene(min_idle: usize) -> Scene {
    Scene::new(|s| (s.min_idle, s.max_connections, s.idle_timeout) = (min_idle, 9, Duration::ZERO))
}

#[test]
fn without_a_floor_nothing_is_wanted_and_it_is_warm() {
    let mut scene = scene(0);
    assert_eq!(scene.want(), WarmStep::Nothing);
    assert!(scene.state.is_warm() && !scene.state.reports_shortage());
}

#[test]
fn the_floor_is_dialled_at_once_and_warm_when_all_of_it_is_there() {
    let mut scene = scene(3);
    assert!(scene.state.reports_shortage());
    let dials = scene.wanted();
    assert_eq!(scene.counts(), [3, 0, 0, 0]);
    for id in dials {
        assert!(!scene.state.is_warm());
        scene.opens(id);
    }
    assert!(scene.state.is_warm());
    assert_eq!((scene.counts(), scene.want()), ([0, 0, 3, 0], WarmStep::Nothing));
}

#[test]
fn once_warm_it_stays_so() {
    let mut scene = scene(1);
    let id = scene.warm_up()[0];
    scene.socket_ends(id, PEER_POLITE);
    assert!(scene.state.is_warm());
    scene.reconfigure(|s| s.min_idle = 5);
    assert!(scene.state.is_warm());
}

#[test]
fn connections_in_use_are_as_warm_as_idle_ones() {
    let mut scene = scene(2);
    scene.lease_new();
    scene.lease_new();
    assert!(scene.state.is_warm());
}

#[test]
fn a_large_floor_is_filled_in_turns() {
    let mut scene = Scene::new(|s| s.min_idle = 50);
    assert_eq!(scene.wanted().len(), 8);
    let one = 1;
    scene.opens(one);
    assert_eq!(scene.wanted().len(), 1);
}

#[test]
fn the_cap_allows_no_more_and_those_who_wait_go_first() {
    let mut scene = Scene::new(|s| (s.min_idle, s.max_connections) = (5, 2));
    let held = scene.lease_new();
    let dial = scene.wanted();
    assert_eq!(dial.len(), 1);
    let waiter = scene.wait();
    scene.opens(dial[0]);
    assert_eq!(scene.collect(waiter), Told::Lease(dial[0], Reuse::Cap), "it adopts the dial");
    let waiter = scene.wait();
    scene.collect(waiter);
    scene.socket_ends(held, PEER_POLITE);
    assert_eq!(scene.want(), WarmStep::Nothing, "the place is the waiter's");
    assert!(matches!(scene.collect_if_woken(waiter), Told::Dial(_)));
}

#[test]
fn one_that_is_taken_is_replaced() {
    let mut scene = scene(2);
    let ids = scene.warm_up();
    assert!(!scene.state.reports_shortage());
    assert_eq!(scene.reuse(), ids[1]);
    assert!(scene.state.reports_shortage(), "it says so");
    assert!(!scene.state.reports_shortage(), "once");
    assert_eq!(scene.wanted().len(), 1);
}

#[test]
fn neither_purge_nor_max_idle_goes_below_the_floor() {
    let mut scene = scene(3);
    scene.reconfigure(|s| (s.max_idle, s.max_age) = (Some(1), Duration::ZERO));
    scene.warm_up();
    scene.pass(secs(30_000));
    assert_eq!((scene.counts(), &scene.closed[..]), ([0, 0, 3, 0], &[][..]));
    scene.reconfigure(|s| (s.purge_delay, s.max_idle) = (Duration::ZERO, None));
    assert_eq!((scene.counts(), scene.tick()), ([0, 0, 3, 0], None));
    let above = scene.lease_new();
    scene.check_in(above);
    assert_eq!(scene.counts(), [0, 0, 3, 1], "but nothing above it is kept");
}

#[test]
fn time_limits_close_it_and_it_is_replaced() {
    let mut scene = scene(2);
    scene.reconfigure(|s| s.idle_timeout = secs(55));
    let ids = scene.warm_up();
    scene.pass(secs(55));
    assert_eq!(scene.closed, ids);
    assert_eq!(scene.warm_up().len(), 2, "without a pause: they were there for long");
}

#[test]
fn rotation_closes_it_and_it_is_replaced_at_once() {
    let mut scene = scene(2);
    let old = scene.warm_up();
    assert_eq!(scene.rotate(1).idle_closed, 2);
    let new = scene.warm_up();
    assert_eq!((&scene.closed[..], new.len()), (&old[..], 2));
}

#[test]
fn at_the_cap_it_is_replaced_when_the_old_ones_have_closed() {
    let mut scene = Scene::new(|s| (s.min_idle, s.max_connections) = (2, 2));
    let old = scene.warm_up();
    scene.rotate(1);
    assert_eq!(scene.want(), WarmStep::Nothing);
    scene.close_ends(old[0]);
    assert!(scene.state.reports_shortage());
    assert_eq!(scene.warm_up().len(), 1);
}

#[test]
fn while_dials_fail_the_next_come_later_and_later() {
    let mut scene = scene(1);
    for pause in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
        let dials = scene.wanted();
        assert_eq!(dials.len(), 1);
        scene.fails(dials[0]);
        assert_eq!(scene.want(), WarmStep::After(scene.now + millis(pause)));
        assert!(!scene.state.reports_shortage(), "who waits so long is not told before");
        scene.clock(millis(pause));
    }
}

/// Counts the dials in an hour against an upstream that closes each connection, unused, after `life`.
fn dials_in_an_hour(min_idle: usize, life: Duration) -> usize {
    let mut scene = scene(min_idle);
    let end = scene.now + secs(3600);
    let mut dials = 0;
    while scene.now < end {
        let ids = scene.warm_up();
        dials += ids.len();
        scene.clock(life);
        for id in ids {
            scene.socket_ends(id, PEER_POLITE);
        }
        match scene.want() {
            WarmStep::After(at) => scene.now = at,
            WarmStep::Dial(id) => scene.fails(id),
            WarmStep::Nothing => panic!("nothing is left of the floor"),
        }
    }
    dials
}

#[test]
fn an_upstream_that_closes_at_once_causes_no_storm() {
    assert!(dials_in_an_hour(8, Duration::ZERO) < 8 * 135);
    assert!(dials_in_an_hour(8, millis(50)) < 8 * 135);
}

#[test]
fn draining_nothing_is_wanted() {
    let mut scene = scene(2);
    scene.drain();
    assert_eq!(scene.want(), WarmStep::Nothing);
    assert!(!scene.state.reports_shortage());
}

#[test]
fn a_raised_floor_is_filled_and_a_lowered_one_closes_nothing() {
    let mut scene = scene(1);
    scene.warm_up();
    scene.reconfigure(|s| s.min_idle = 3);
    assert!(scene.state.reports_shortage());
    scene.warm_up();
    scene.reconfigure(|s| s.min_idle = 0);
    assert_eq!(scene.counts(), [0, 0, 3, 0]);
}

#[test]
fn a_floor_is_proven_by_what_lasts_or_was_used() {
    let mut scene = scene(2);
    scene.warm_up();
    assert!(scene.state.is_warm() && !scene.proven());
    scene.pass(PROVEN_AGE);
    assert!(scene.proven());

    let mut scene = self::scene(1);
    scene.warm_up();
    let id = scene.reuse();
    assert!(scene.proven(), "it is in use");
    scene.check_in(id);
    assert!(scene.proven());
    assert!(self::scene(0).proven(), "none is wanted");
}
