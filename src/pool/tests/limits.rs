//! `maxIdle`, `purgeDelay`, `idleTimeout`, `maxAge` and `maxRequests`.

use std::{num::NonZeroU64, time::Duration};

use super::scene::{Scene, Told, millis, secs};
use crate::pool::{EndReason, Reuse};

#[test]
fn max_idle_closes_the_oldest_for_the_newest() {
    let mut scene = Scene::new(|s| s.max_idle = Some(2));
    let ids = scene.idle(3);
    assert_eq!(scene.closed, [ids[0]]);
    assert_eq!([scene.reuse(), scene.reuse()], [ids[2], ids[1]]);
}

#[test]
fn with_max_idle_or_purge_delay_at_zero_none_is_kept_but_waiters_still_take_them() {
    for keeps_none in [(|s| s.max_idle = Some(0)) as fn(&mut crate::pool::Settings), |s| {
        s.purge_delay = Duration::ZERO;
    }] {
        let mut scene = Scene::new(|s| {
            s.max_connections = 1;
            keeps_none(s);
        });
        let id = scene.lease_new();
        let waiter = scene.wait();
        scene.check_in(id);
        assert_eq!(scene.collect(waiter), Told::Lease(id, Reuse::Reused));
        scene.check_in(id);
        assert_eq!((scene.counts(), &scene.closed[..]), ([0, 0, 0, 1], &[id][..]));
    }
}

#[test]
fn idle_for_the_idle_timeout_it_closes_on_the_millisecond() {
    let mut scene = Scene::with_cap(9);
    let ids = scene.lease_several(2);
    scene.check_in(ids[0]);
    scene.clock(secs(1));
    scene.check_in(ids[1]);
    scene.pass(secs(54) - millis(1));
    assert!(scene.closed.is_empty());
    scene.pass(millis(1));
    assert_eq!(scene.closed, [ids[0]]);
    scene.pass(secs(1));
    assert_eq!(scene.closed, ids);
}

#[test]
fn idle_time_counts_from_the_last_check_in() {
    let mut scene = Scene::with_cap(9);
    let id = scene.idle(1)[0];
    for _ in 0..10 {
        scene.pass(secs(54));
        assert_eq!(scene.reuse(), id);
        scene.check_in(id);
    }
    assert!(scene.closed.is_empty());
}

#[test]
fn a_checkout_before_a_late_tick_takes_nothing_that_is_past_its_limit() {
    let mut scene = Scene::with_cap(9);
    let old = scene.idle(1)[0];
    scene.clock(secs(56));
    assert_eq!(scene.reason_now(), Reuse::Idle);
    assert_eq!(scene.closed, [old]);
}

#[test]
fn an_idle_connection_closes_at_its_age_and_a_leased_one_at_check_in() {
    let mut scene = Scene::new(|s| (s.max_age, s.idle_timeout) = (secs(60), Duration::ZERO));
    let ids = scene.lease_several(2);
    scene.check_in(ids[0]);
    scene.pass(secs(60) - millis(1));
    assert!(scene.closed.is_empty());
    scene.pass(millis(1));
    assert_eq!(scene.closed, [ids[0]]);
    scene.check_in(ids[1]);
    assert_eq!(scene.closed, ids);
}

#[test]
fn an_aged_connection_is_closed_even_while_somebody_waits() {
    let mut scene = Scene::new(|s| (s.max_age, s.max_connections) = (secs(60), 1));
    let id = scene.lease_new();
    let waiter = scene.wait();
    scene.collect(waiter);
    scene.clock(secs(60));
    scene.check_in(id);
    assert_eq!(scene.collect(waiter), Told::Nothing);
    scene.close_ends(id);
    assert!(matches!(scene.collect_if_woken(waiter), Told::Dial(_)));
}

#[test]
fn jitter_shortens_the_age_by_up_to_a_tenth_and_never_lengthens_it() {
    for (jitter, age) in [(0.0, 1000), (0.5, 950), (1.0, 900), (-3.0, 1000), (7.0, 900)] {
        let mut scene =
            Scene::new(|s| (s.max_age, s.idle_timeout) = (millis(1000), Duration::ZERO));
        let waiter = scene.wait();
        let id = scene.dial(waiter);
        scene.opens_with(id, jitter);
        scene.collect(waiter);
        scene.check_in(id);
        scene.pass(millis(age - 1));
        assert!(scene.closed.is_empty(), "jitter {jitter}: closed before {age} ms");
        scene.pass(millis(1));
        assert_eq!(scene.closed, [id], "jitter {jitter}: not closed at {age} ms");
    }
}

#[test]
fn age_counts_from_the_established_connection() {
    let mut scene = Scene::new(|s| s.max_age = secs(10));
    let waiter = scene.wait();
    let id = scene.dial(waiter);
    scene.clock(secs(4));
    scene.opens(id);
    scene.collect(waiter);
    scene.clock(secs(9));
    scene.check_in(id);
    assert_eq!(scene.counts(), [0, 0, 1, 0]);
}

#[test]
fn a_connection_carries_max_requests_and_no_more() {
    let mut scene = Scene::new(|s| s.max_requests = NonZeroU64::new(3));
    let id = scene.idle(1)[0];
    for _ in 1..3 {
        assert!(scene.closed.is_empty());
        assert_eq!(scene.reuse(), id);
        scene.check_in(id);
    }
    assert_eq!(scene.closed, [id]);
    scene.close_ends(id);
    assert_eq!(scene.ended, [(id, EndReason::Requests)]);
}

#[test]
fn zero_means_no_limit_and_so_does_more_time_than_there_is() {
    for limit in [Duration::ZERO, Duration::MAX] {
        let mut scene = Scene::new(|s| {
            (s.max_age, s.idle_timeout, s.purge_delay) = (limit, limit, Duration::MAX);
        });
        let id = scene.idle(1)[0];
        scene.pass(secs(30 * 365 * 86400));
        assert_eq!(scene.reuse(), id);
    }
}

#[test]
fn the_purge_closes_half_of_the_excess_oldest_first_and_never_the_newest() {
    let mut scene = Scene::new(|s| s.idle_timeout = Duration::ZERO);
    let ids = scene.idle(8);
    scene.pass(secs(30));
    assert!(scene.closed.is_empty(), "eight were in use in that period");
    scene.pass(secs(30));
    assert!(scene.closed.is_empty(), "and are needed, as far as was known then");
    scene.pass(secs(30));
    assert_eq!(scene.closed, ids[..2], "need is four: half of four go");
    scene.pass(secs(30));
    assert_eq!(scene.closed, ids[..4], "need is two: half of four go");
    scene.pass(secs(3000));
    assert_eq!(scene.closed, ids[..7], "all but the newest");
    assert_eq!(scene.reuse(), ids[7]);
}

#[test]
fn what_is_in_use_now_and_then_is_not_purged() {
    let mut scene = Scene::new(|s| s.idle_timeout = Duration::ZERO);
    let ids = scene.idle(3);
    for _ in 0..100 {
        for _ in 0..3 {
            scene.reuse();
        }
        for id in &ids {
            scene.check_in(*id);
        }
        scene.pass(secs(25));
    }
    assert!(scene.closed.is_empty());
}

#[test]
fn without_idle_connections_there_is_no_deadline() {
    let mut scene = Scene::with_cap(9);
    assert_eq!(scene.tick(), None);
    let id = scene.idle(1)[0];
    assert_eq!(scene.tick(), Some(scene.now + secs(30)));
    scene.reuse();
    scene.pass(secs(30));
    assert_eq!(scene.tick(), None);
    scene.check_in(id);
    assert_eq!(scene.tick(), Some(scene.now + secs(30)));
}
