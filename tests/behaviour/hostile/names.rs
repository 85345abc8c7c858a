//! Names whose addresses change, vanish or are partly dead. Real DNS, with times to live and negative answers, is
//! tested in `src/connect/resolve/tests.rs`.

use crate::support::{
    names::Names,
    origin::{End, Gate, Leaving, NAME, Origin},
    setup::Setup,
};

/// Returns `count` addresses on which nothing listens.
fn dead(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("127.0.1.{}", number + 1)).collect()
}

fn locals(origin: &Origin) -> Vec<String> {
    let record = origin.record();
    record.connections.iter().map(|connection| connection.local.ip().to_string()).collect()
}

#[test]
fn case_51_after_a_name_has_moved_the_old_addresss_connection_drains_once_the_address_is_lost() {
    let leaving = Leaving { asked: Gate::new(), left: Gate::new() };
    let origin = Origin::serving().addresses(&["127.0.0.2", "127.0.0.3"]);
    let origin = origin.leaving_first_address(&leaving).start();
    let names = Names::default().in_turn(NAME, &[&["127.0.0.2"], &["127.0.0.2"], &["127.0.0.3"]]);
    let warmline = Setup::before(&origin).names(&names).start();
    let mut held = warmline.ask("/hold");
    origin.wait_for("it is in flight", |record| record.request_count == 1);
    leaving.happens();
    assert_eq!(warmline.one_shot("/any").status, 200, "a dial that is refused asks again");
    assert_eq!(names.queries(), 3);
    origin.release();
    assert_eq!(held.response().status, 200, "what is in flight finishes where it is");
    origin.wait_for("the old one's end", |record| record.ends() == [Some(End::Polite), None]);
    assert_eq!(warmline.one_shot("/any").status, 200);
    assert_eq!(locals(&origin), ["127.0.0.2", "127.0.0.3"]);
    warmline.wait_for_closed("moved", 1);
}

#[test]
fn case_51_a_name_that_flips_at_each_answer_loses_no_request() {
    let origin = Origin::serving().addresses(&["127.0.0.2", "127.0.0.3"]).start();
    let names = Names::default().in_turn(NAME, &[&["127.0.0.2"], &["127.0.0.3"]]);
    let warmline = Setup::before(&origin).set("pool.maxRequests", 1).names(&names).start();
    for _ in 0..20 {
        assert_eq!(warmline.one_shot("/any").status, 200);
    }
    let locals = locals(&origin);
    assert_eq!((locals.len(), names.queries()), (20, 20), "every dial asks anew");
    assert!(locals.chunks(2).all(|pair| pair == ["127.0.0.2", "127.0.0.3"]), "{locals:?}");
}

#[test]
fn case_51_a_name_that_is_gone_and_comes_back_is_found_at_once() {
    let origin = Origin::serving().start();
    let names = Names::default().in_turn(NAME, &[&[], &["127.0.0.1"], &[], &["127.0.0.1"]]);
    let warmline = Setup::before(&origin).set("pool.maxRequests", 1).names(&names).start();
    for _ in 0..2 {
        let answer = warmline.one_shot("/any");
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert!(answer.text().contains("cannot be resolved"), "{}", answer.text());
        assert_eq!(warmline.one_shot("/any").status, 200, "the answer that was none did not stick");
    }
}

#[test]
fn case_51_a_name_that_is_gone_does_not_close_what_is_there() {
    let origin = Origin::serving().start();
    let names = Names::default().in_turn(NAME, &[&["127.0.0.1"], &[]]);
    let warmline = Setup::before(&origin).names(&names).start();
    let mut held = warmline.ask("/hold");
    origin.wait_for("it is in flight", |record| record.request_count == 1);
    assert_eq!(warmline.one_shot("/any").status, 502, "the second dial finds no address");
    origin.release();
    assert_eq!(held.response().status, 200);
    assert_eq!(warmline.one_shot("/any").status, 200, "on the connection that was there");
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn case_51_of_fifty_addresses_the_one_that_lives_is_found_wherever_it_stands() {
    let origin = Origin::serving().start();
    for place in [0, 25, 49] {
        let mut addresses = dead(49);
        addresses.insert(place, "127.0.0.1".into());
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let names = Names::default().fixed(NAME, &addresses);
        let warmline = Setup::before(&origin).names(&names).start();
        assert_eq!(warmline.one_shot("/any").status, 200, "{place}");
        assert_eq!(names.queries(), 1);
    }
    assert_eq!(origin.record().connections.len(), 3);
}

#[test]
fn case_51_if_no_address_answers_each_of_the_first_few_is_named() {
    let endpoint = format!("{NAME}:1");
    let names = Names::default().fixed(NAME, &["127.0.1.1", "127.0.1.2"]);
    let warmline = Setup::new().upstream_at("origin", &endpoint).names(&names).start();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 502);
    let told =
        "127.0.1.2:1: Connection refused (os error 111); nor to 127.0.1.1:1: Connection refused";
    assert!(answer.text().contains(told), "{}", answer.text());
}

#[test]
fn case_51_of_two_addresses_of_which_one_is_dead_the_other_is_taken_in_either_order() {
    let origin = Origin::serving().start();
    for addresses in [["127.0.0.1", "127.0.1.1"], ["127.0.1.1", "127.0.0.1"]] {
        let names = Names::default().fixed(NAME, &addresses);
        let warmline = Setup::before(&origin).names(&names).start();
        assert_eq!(warmline.one_shot("/any").status, 200, "{addresses:?}");
    }
    let names = Names::default().fixed(NAME, &["127.0.1.1", "127.0.1.2"]);
    let warmline = Setup::before(&origin).names(&names).start();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 502, "where all are dead, the last refusal is told");
    assert!(answer.text().contains("127.0.1.2"), "{}", answer.text());
}
