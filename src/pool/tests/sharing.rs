//! The reuse modes: which request takes which connection, and how a connection ends that no client may take.

use super::scene::{Got, Scene, Told};
use crate::pool::{ClientId, ConnectionId, EndReason, Reuse, Sharing};

const ANNA: ClientId = 1;
const BERT: ClientId = 2;

fn scene(sharing: Sharing) -> Scene {
    Scene::new(|s| (s.sharing, s.max_connections) = (sharing, 9))
}

/// Plays the dial of a request that found no connection, and collects the lease.
fn opened(scene: &mut Scene, got: Got) -> (ConnectionId, Reuse) {
    let Got::Wait(waiter) = got else { panic!("expected to wait, got {got:?}") };
    let id = scene.dial(waiter);
    scene.opens(id);
    let Told::Lease(leased, reuse) = scene.collect(waiter) else { panic!("its own dial was done") };
    assert_eq!(leased, id);
    (id, reuse)
}

fn first(scene: &mut Scene, client: ClientId) -> (ConnectionId, Reuse) {
    let got = scene.first_of(client);
    opened(scene, got)
}

#[test]
fn forty_clients_with_one_request_each_open_by_mode_so_many_connections() {
    for (sharing, most) in
        [(Sharing::Always, 1), (Sharing::Aggressive, 40), (Sharing::Safe, 40), (Sharing::Never, 40)]
    {
        let mut scene = Scene::new(|s| s.sharing = sharing);
        let mut ids = std::collections::BTreeSet::new();
        for client in 0..40 {
            let id = match scene.first_of(client) {
                Got::Lease(id, _) => id,
                got => opened(&mut scene, got).0,
            };
            scene.check_in(id);
            scene.leaves(client);
            ids.insert(id);
        }
        assert_eq!(ids.len(), most, "{sharing:?}");
    }
}

#[test]
fn safe_a_first_request_takes_no_used_one_a_later_one_takes_anybodys() {
    let mut scene = scene(Sharing::Safe);
    let (annas, _) = first(&mut scene, ANNA);
    scene.check_in(annas);
    let (berts, reuse) = first(&mut scene, BERT);
    assert_eq!(reuse, Reuse::Policy);
    assert_eq!(scene.next_of(BERT), Got::Lease(annas, Reuse::Reused));
    scene.check_in(berts);
    assert_eq!(scene.next_of(ANNA), Got::Lease(berts, Reuse::Reused));
}

#[test]
fn aggressive_a_first_request_takes_one_that_was_reused_before() {
    let mut scene = scene(Sharing::Aggressive);
    let (id, _) = first(&mut scene, ANNA);
    scene.check_in(id);
    let (other, reuse) = first(&mut scene, BERT);
    assert_eq!(reuse, Reuse::Policy, "one was idle, and not proven");
    assert_eq!(scene.next_of(ANNA), Got::Lease(id, Reuse::Reused));
    scene.check_in(id);
    scene.check_in(other);
    assert_eq!(scene.first_of(BERT), Got::Lease(id, Reuse::Reused), "rather than the newest");
}

#[test]
fn never_a_connection_is_its_first_clients_alone() {
    let mut scene = scene(Sharing::Never);
    let (annas, _) = first(&mut scene, ANNA);
    scene.check_in(annas);
    let (berts, reuse) = first(&mut scene, BERT);
    assert_eq!(reuse, Reuse::Policy);
    scene.check_in(berts);
    assert_eq!(scene.next_of(ANNA), Got::Lease(annas, Reuse::Reused), "rather than the newest");
    assert_eq!(scene.next_of(BERT), Got::Lease(berts, Reuse::Reused));
}

#[test]
fn never_what_is_idle_closes_when_its_client_leaves_and_the_rest_at_check_in() {
    let mut scene = scene(Sharing::Never);
    let (idle, _) = first(&mut scene, ANNA);
    let (busy, _) = first(&mut scene, ANNA);
    let (berts, _) = first(&mut scene, BERT);
    scene.check_in(idle);
    scene.check_in(berts);
    scene.leaves(ANNA);
    assert_eq!((&scene.closed[..], scene.counts()), (&[idle][..], [0, 1, 1, 1]));
    scene.check_in(busy);
    assert_eq!(scene.closed, [idle, busy]);
    scene.close_ends(idle);
    scene.close_ends(busy);
    assert_eq!(scene.ended, [(idle, EndReason::Policy), (busy, EndReason::Policy)]);
}

#[test]
fn never_a_dial_that_its_client_leaves_behind_is_anybodys() {
    let mut scene = scene(Sharing::Never);
    let Got::Wait(waiter) = scene.first_of(ANNA) else { panic!("nothing was idle") };
    let dial = scene.dial(waiter);
    scene.abandon(waiter);
    scene.leaves(ANNA);
    scene.opens(dial);
    assert_eq!(scene.first_of(BERT), Got::Lease(dial, Reuse::Reused));
    scene.check_in(dial);
    assert_eq!(scene.next_of(BERT), Got::Lease(dial, Reuse::Reused), "and his from then on");
}

#[test]
fn never_a_lease_that_was_not_collected_makes_no_owner() {
    let mut scene = scene(Sharing::Never);
    let Got::Wait(waiter) = scene.first_of(ANNA) else { panic!("nothing was idle") };
    let dial = scene.dial(waiter);
    scene.opens(dial);
    scene.abandon(waiter);
    scene.leaves(ANNA);
    assert_eq!(scene.first_of(BERT), Got::Lease(dial, Reuse::Reused));
}

#[test]
fn in_the_other_modes_it_does_not_matter_who_leaves() {
    for sharing in [Sharing::Always, Sharing::Aggressive, Sharing::Safe] {
        let mut scene = scene(sharing);
        let (id, _) = first(&mut scene, ANNA);
        scene.check_in(id);
        scene.leaves(ANNA);
        assert_eq!(scene.next_of(BERT), Got::Lease(id, Reuse::Reused), "{sharing:?}");
    }
}

#[test]
fn at_the_cap_the_oldest_idle_one_makes_room_for_who_may_take_none() {
    for sharing in [Sharing::Aggressive, Sharing::Safe, Sharing::Never] {
        let mut scene = Scene::new(|s| (s.sharing, s.max_connections) = (sharing, 2));
        let annas = [0; 2].map(|_| first(&mut scene, ANNA).0);
        for id in annas {
            scene.check_in(id);
        }
        let got = scene.first_of(BERT);
        assert_eq!(scene.closed, [annas[0]], "{sharing:?}");
        scene.close_ends(annas[0]);
        assert_eq!(opened(&mut scene, got).1, Reuse::Policy, "{sharing:?}");
    }
}

#[test]
fn at_the_cap_a_connection_that_comes_back_makes_room_for_who_may_not_take_it() {
    let mut scene = Scene::new(|s| (s.sharing, s.max_connections) = (Sharing::Never, 1));
    let (annas, _) = first(&mut scene, ANNA);
    let Got::Wait(bert) = scene.first_of(BERT) else { panic!("nothing was idle") };
    scene.collect(bert);
    scene.check_in(annas);
    assert_eq!(scene.closed, [annas]);
    scene.close_ends(annas);
    assert!(matches!(scene.collect_if_woken(bert), Told::Dial(_)));
}

#[test]
fn who_may_take_it_does_not_go_before_who_came_earlier_and_may_not() {
    let mut scene = Scene::new(|s| (s.sharing, s.max_connections) = (Sharing::Safe, 1));
    let (id, _) = first(&mut scene, ANNA);
    let Got::Wait(earlier) = scene.first_of(BERT) else { panic!("nothing was idle") };
    let Got::Wait(later) = scene.next_of(ANNA) else { panic!("nothing was idle") };
    scene.collect(earlier);
    scene.collect(later);
    scene.check_in(id);
    assert_eq!(scene.collect(later), Told::Nothing);
    scene.close_ends(id);
    let dial = scene.dial(earlier);
    scene.opens(dial);
    assert_eq!(scene.collect(earlier), Told::Lease(dial, Reuse::Policy));
    scene.check_in(dial);
    assert_eq!(scene.collect_if_woken(later), Told::Lease(dial, Reuse::Reused));
}

#[test]
fn from_shared_to_never_nobody_may_take_what_was_used() {
    let mut scene = scene(Sharing::Always);
    let (idle, _) = first(&mut scene, ANNA);
    let (busy, _) = first(&mut scene, BERT);
    scene.check_in(idle);
    scene.reconfigure(|s| s.sharing = Sharing::Never);
    assert_eq!(scene.closed, [idle]);
    scene.check_in(busy);
    assert_eq!(scene.closed, [idle, busy]);
    scene.close_ends(idle);
    assert_eq!(scene.ended, [(idle, EndReason::Policy)]);
}

#[test]
fn from_never_to_shared_who_waits_takes_what_is_idle() {
    let mut scene = Scene::new(|s| (s.sharing, s.max_connections) = (Sharing::Never, 2));
    let annas = [0; 2].map(|_| first(&mut scene, ANNA).0);
    for id in annas {
        scene.check_in(id);
    }
    let Got::Wait(bert) = scene.first_of(BERT) else { panic!("nothing was his") };
    scene.collect(bert);
    assert_eq!(scene.closed, [annas[0]], "for his place");
    scene.reconfigure(|s| s.sharing = Sharing::Always);
    assert_eq!(scene.collect_if_woken(bert), Told::Lease(annas[1], Reuse::Reused));
}

#[test]
fn with_nothing_idle_aggressive_says_why_there_is_none() {
    let mut scene = scene(Sharing::Aggressive);
    assert_eq!(first(&mut scene, ANNA).1, Reuse::First);
    assert_eq!(first(&mut scene, BERT).1, Reuse::Busy);
}
