//! Days of a pool's life, on a clock that the test moves.

use super::scene::{Got, Scene, Told, secs};
use crate::pool::{ConnectionId, Reuse};

/// Plays one request: a checkout, a dial if there is no idle connection, and the check-in.
fn request(scene: &mut Scene) -> (ConnectionId, Reuse) {
    let (id, reuse) = match scene.check_out(0, false) {
        Got::Lease(id, reuse) => (id, reuse),
        Got::Wait(waiter) => {
            let id = scene.dial(waiter);
            scene.opens(id);
            match scene.collect(waiter) {
                Told::Lease(id, reuse) => (id, reuse),
                other => panic!("a lone request was told {other:?}"),
            }
        }
        Got::Refused(rejection) => panic!("a lone request was refused: {rejection}"),
    };
    scene.check_in(id);
    (id, reuse)
}

fn end_polite_closes(scene: &mut Scene) {
    for id in std::mem::take(&mut scene.closed) {
        scene.close_ends(id);
    }
}

#[test]
fn five_requests_twenty_seconds_apart_use_one_connection() {
    let mut scene = Scene::with_cap(100);
    let seen: Vec<_> = (0..5)
        .map(|_| {
            scene.pass(secs(20));
            request(&mut scene)
        })
        .collect();
    assert_eq!(seen[0].1, Reuse::First);
    assert!(seen[1..].iter().all(|(id, reuse)| *id == seen[0].0 && *reuse == Reuse::Reused));
}

#[test]
fn a_request_every_twenty_seconds_for_a_week_uses_one_connection_an_hour() {
    let mut scene = Scene::with_cap(100);
    let mut new = Vec::new();
    for _ in 0..7 * 24 * 3600 / 20 {
        scene.pass(secs(20));
        end_polite_closes(&mut scene);
        let (_, reuse) = request(&mut scene);
        if reuse != Reuse::Reused {
            new.push(reuse);
        }
    }
    assert_eq!(new[0], Reuse::First);
    assert!(new[1..].iter().all(|reuse| *reuse == Reuse::Aged), "{new:?}");
    assert_eq!(new.len(), 168, "one an hour");
}

#[test]
fn a_request_every_minute_finds_the_last_connection_idle_for_too_long() {
    let mut scene = Scene::with_cap(100);
    for minute in 0..24 * 60 {
        scene.pass(secs(60));
        end_polite_closes(&mut scene);
        let expected = if minute == 0 { Reuse::First } else { Reuse::Idle };
        assert_eq!(request(&mut scene).1, expected);
    }
}

#[test]
fn a_noon_peak_every_day_is_forgotten_by_the_evening() {
    let mut scene = Scene::new(|s| s.idle_timeout = secs(0));
    let mut opened = 0;
    for day in 0..5 {
        let held: Vec<_> = (0..80)
            .map(|_| match scene.check_out(0, false) {
                Got::Lease(id, _) => id,
                Got::Wait(waiter) => {
                    opened += 1;
                    let id = scene.dial(waiter);
                    scene.opens(id);
                    scene.collect(waiter);
                    id
                }
                Got::Refused(rejection) => panic!("refused: {rejection}"),
            })
            .collect();
        for id in &held {
            scene.check_in(*id);
        }
        for _ in 0..24 * 60 {
            scene.pass(secs(60));
            end_polite_closes(&mut scene);
            request(&mut scene);
        }
        assert_eq!(scene.counts(), [0, 0, 1, 0], "after day {day}");
    }
    assert!(opened >= 80 * 4, "each peak dialled anew: {opened}");
}
