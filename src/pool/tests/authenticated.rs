//! Connections on which a client has authenticated itself (NTLM, Negotiate) are for that client alone, in every mode.

use super::scene::{Got, PEER_POLITE, Scene, Told, UNREPEATABLE, millis, secs};
use crate::{
    pool::{Ask, ClientId, ConnectionId, EndReason, Reuse, Sharing},
    telemetry::ends::Side,
};

const ANNA: ClientId = 1;
const BERT: ClientId = 2;

/// Makes three idle connections, oldest first: a shared one, one that Anna has claimed, and another shared one.
fn annas_between_others(scene: &mut Scene) -> [ConnectionId; 3] {
    let ids = [0; 3].map(|_| scene.lease_new());
    scene.claim(ids[1], ANNA);
    for id in ids {
        scene.check_in(id);
    }
    ids
}

#[test]
fn fault_01_in_every_mode_nobody_is_given_a_connection_that_another_client_authenticated_itself_on()
{
    for sharing in [Sharing::Always, Sharing::Aggressive, Sharing::Safe, Sharing::Never] {
        let mut scene = Scene::new(|s| s.sharing = sharing);
        let id = scene.lease_new();
        scene.claim(id, ANNA);
        scene.check_in(id);
        for got in [scene.first_of(BERT), scene.next_of(BERT)] {
            let Got::Wait(waiter) = got else { panic!("{sharing:?}: Bert was given {got:?}") };
            scene.abandon(waiter);
        }
        assert_eq!(scene.next_of(ANNA), Got::Lease(id, Reuse::Reused), "{sharing:?}");
    }
}

#[test]
fn fault_01_a_client_takes_the_connection_that_it_authenticated_itself_on_rather_than_the_newest() {
    let mut scene = Scene::new(|_| ());
    let [_, annas, newest] = annas_between_others(&mut scene);
    assert_eq!(scene.next_of(BERT), Got::Lease(newest, Reuse::Reused));
    assert_eq!(scene.next_of(ANNA), Got::Lease(annas, Reuse::Reused));
}

#[test]
fn fault_01_a_request_that_cannot_be_repeated_takes_its_own_where_the_upstream_closes_at_any_time()
{
    let mut scene = Scene::new(|_| ());
    for idle in [3, 40, 17, 29, 8, 35] {
        let id = scene.idle(1)[0];
        scene.pass(millis(idle));
        scene.socket_ends(id, PEER_POLITE);
    }
    assert!(scene.state.closes_at_any_time());
    let id = scene.lease_new();
    scene.claim(id, ANNA);
    scene.check_in(id);
    assert_eq!(scene.ask(Ask { client: ANNA, ..UNREPEATABLE }), Got::Lease(id, Reuse::Reused));
}

#[test]
fn fault_01_a_retry_takes_no_used_connection_even_if_it_is_its_own() {
    let mut scene = Scene::new(|_| ());
    let [_, annas, _] = annas_between_others(&mut scene);
    let Got::Wait(waiter) = scene.ask(Ask { client: ANNA, fresh: true, ..UNREPEATABLE }) else {
        panic!("a retry was given a used connection")
    };
    scene.abandon(waiter);
    assert_eq!(scene.next_of(ANNA), Got::Lease(annas, Reuse::Reused));
}

#[test]
fn fault_01_when_its_client_leaves_an_idle_one_closes_at_once_and_a_leased_one_at_check_in() {
    let mut scene = Scene::new(|_| ());
    let [_, idle, _] = annas_between_others(&mut scene);
    let busy = scene.lease_new();
    scene.claim(busy, ANNA);
    scene.leaves(ANNA);
    assert_eq!(scene.closed, [idle]);
    scene.check_in(busy);
    assert_eq!(scene.closed, [idle, busy]);
    scene.close_ends(idle);
    scene.close_ends(busy);
    let authenticated = EndReason::Authenticated;
    assert_eq!(scene.ended, [(idle, authenticated), (busy, authenticated)]);
}

#[test]
fn fault_01_a_client_that_authenticated_itself_nowhere_takes_nothing_with_it() {
    let mut scene = Scene::new(|_| ());
    annas_between_others(&mut scene);
    scene.leaves(BERT);
    assert!(scene.closed.is_empty());
}

#[test]
fn fault_01_another_reuse_mode_makes_it_nobody_elses() {
    let mut scene = Scene::new(|s| s.sharing = Sharing::Never);
    let id = scene.lease_new();
    scene.claim(id, ANNA);
    scene.check_in(id);
    scene.reconfigure(|s| s.sharing = Sharing::Always);
    let Got::Wait(_) = scene.next_of(BERT) else { panic!("Bert was given Anna's") };
    scene.leaves(ANNA);
    assert_eq!(scene.closed, [id]);
}

#[test]
fn fault_01_at_the_cap_it_makes_room_for_whoever_may_not_take_it() {
    let mut scene = Scene::with_cap(1);
    let id = scene.lease_new();
    scene.claim(id, ANNA);
    scene.check_in(id);
    let Got::Wait(waiter) = scene.next_of(BERT) else { panic!("Bert was given Anna's") };
    assert_eq!(scene.closed, [id]);
    scene.close_ends(id);
    let dial = scene.dial(waiter);
    scene.opens(dial);
    assert_eq!(scene.collect(waiter), Told::Lease(dial, Reuse::Authenticated));
}

#[test]
fn fault_01_a_new_connection_beside_others_clients_idle_ones_says_why_it_is_new() {
    let mut scene = Scene::new(|_| ());
    let id = scene.lease_new();
    scene.claim(id, ANNA);
    scene.check_in(id);
    assert_eq!(scene.reason_now(), Reuse::Authenticated);
}

#[test]
fn fault_01_idle_time_age_and_the_purge_rule_concern_it_as_any_other() {
    let mut scene = Scene::new(|s| s.purge_delay = secs(3600));
    let id = scene.lease_new();
    scene.claim(id, ANNA);
    scene.check_in(id);
    scene.pass(secs(55));
    assert_eq!(scene.closed, [id]);
}

#[test]
fn fault_01_a_lease_that_goes_on_counts_each_request_until_its_socket_ends() {
    let mut scene = Scene::new(|_| ());
    let id = scene.lease_new();
    let again = |scene: &mut Scene| scene.state.lease_again(id, scene.now).map(|(uses, _)| uses);
    assert_eq!([again(&mut scene), again(&mut scene)], [Some(2), Some(3)]);
    scene.socket_closes(id, Side::Peer);
    assert_eq!(again(&mut scene), None);
    scene.socket_ends(id, PEER_POLITE);
    assert_eq!(again(&mut scene), None);
}
