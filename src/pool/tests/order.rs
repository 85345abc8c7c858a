//! The order in which waiters get connections and places.

use super::scene::{Got, Scene, Told};
use crate::pool::{EndReason, Reuse};

#[test]
fn a_checkout_takes_its_own_threads_newest() {
    let mut scene = Scene::with_cap(10);
    let here = [scene.lease_new_on(0), scene.lease_new_on(0)];
    let there = scene.lease_new_on(1);
    for id in [here[0], here[1], there] {
        scene.check_in(id);
    }
    assert_eq!(scene.check_out(0, false), Got::Lease(here[1], Reuse::Reused));
    assert_eq!(scene.check_out(0, false), Got::Lease(here[0], Reuse::Reused));
    assert_eq!(scene.check_out(0, false), Got::Lease(there, Reuse::Reused));
}

#[test]
fn without_one_of_its_own_it_takes_the_newest_of_the_others() {
    let mut scene = Scene::with_cap(10);
    let there = [scene.lease_new_on(1), scene.lease_new_on(1)];
    scene.check_in(there[1]);
    scene.check_in(there[0]);
    assert_eq!(scene.check_out(0, false), Got::Lease(there[0], Reuse::Reused));
}

#[test]
fn newest_means_checked_in_last_even_while_the_clock_stands_still() {
    let mut scene = Scene::with_cap(10);
    let ids = scene.lease_several(3);
    for id in [ids[1], ids[2], ids[0]] {
        scene.check_in(id);
    }
    assert_eq!([scene.reuse(), scene.reuse(), scene.reuse()], [ids[0], ids[2], ids[1]]);
}

#[test]
fn a_connection_stays_on_the_thread_that_dialled_it() {
    let mut scene = Scene::with_cap(10);
    let of_1 = scene.lease_new_on(1);
    let of_0 = scene.lease_new_on(0);
    scene.check_in(of_1);
    assert_eq!(scene.check_out(0, false), Got::Lease(of_1, Reuse::Reused));
    scene.check_in(of_1);
    scene.check_in(of_0);
    assert_eq!(scene.check_out(1, false), Got::Lease(of_1, Reuse::Reused));
}

#[test]
fn a_connection_checked_in_goes_to_the_oldest_waiter() {
    let mut scene = Scene::with_cap(1);
    let id = scene.lease_new();
    let waiters = [scene.wait(), scene.wait(), scene.wait()];
    for waiter in waiters {
        scene.collect(waiter);
    }
    for waiter in waiters {
        scene.check_in(id);
        assert_eq!(scene.woken, [waiter]);
        assert_eq!(scene.collect(waiter), Told::Lease(id, Reuse::Reused));
    }
}

#[test]
fn it_goes_to_the_oldest_even_while_that_one_dials() {
    let mut scene = Scene::with_cap(2);
    let held = scene.lease_new();
    let older = scene.wait();
    let dial = scene.dial(older);
    let younger = scene.wait();
    scene.collect(younger);
    scene.check_in(held);
    assert_eq!(scene.collect(older), Told::Lease(held, Reuse::Reused));
    scene.opens(dial);
    assert_eq!(scene.collect_if_woken(younger), Told::Lease(dial, Reuse::Cap));
}

#[test]
fn a_finished_dial_goes_to_the_oldest_waiter_whosever_it_was() {
    let mut scene = Scene::with_cap(2);
    let (older, younger) = (scene.wait(), scene.wait());
    let (slow, quick) = (scene.dial(older), scene.dial(younger));
    scene.opens(quick);
    assert_eq!(scene.collect(younger), Told::Nothing);
    assert_eq!(scene.collect_if_woken(older), Told::Lease(quick, Reuse::First));
    scene.opens(slow);
    assert_eq!(scene.collect_if_woken(younger), Told::Lease(slow, Reuse::Busy));
}

#[test]
fn a_freed_place_starts_a_dial_for_the_oldest_waiter_without_one() {
    let mut scene = Scene::with_cap(2);
    let held = scene.lease_new();
    let dialling = scene.wait();
    scene.dial(dialling);
    let queued = [scene.wait(), scene.wait()];
    for waiter in &queued {
        assert_eq!(scene.collect(*waiter), Told::Nothing);
    }
    scene.discard(held, EndReason::Unfit);
    assert!(scene.woken.is_empty(), "closing is not closed");
    scene.close_ends(held);
    assert_eq!(scene.woken, [queued[0]]);
    assert!(matches!(scene.collect(queued[0]), Told::Dial(_)));
    assert_eq!(scene.collect(queued[1]), Told::Nothing);
}

#[test]
fn each_waiter_starts_one_dial_while_the_cap_allows() {
    let mut scene = Scene::with_cap(3);
    let waiters: Vec<_> = (0..5).map(|_| scene.wait()).collect();
    let dials = waiters.iter().filter(|w| matches!(scene.collect(**w), Told::Dial(_))).count();
    assert_eq!(dials, 3);
    assert_eq!(scene.state.queued(), 2);
}
