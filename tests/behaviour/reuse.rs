//! A single connection serves many clients: no property of the client's own connection keeps an upstream connection
//! from reuse.

use crate::support::{
    client::Client,
    names::Names,
    origin::{self, Handshakes, Origin},
    setup::Setup,
    together,
};

const FOUR: [&str; 4] = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];

fn forty_one_shot_clients_take_one_connection(threads: usize) {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set_global("threads", threads).start();
    for turn in 0..40 {
        assert_eq!(warmline.one_shot("/any").status, 200, "request {turn}");
    }
    let record = origin.record();
    assert_eq!((record.connections.len(), record.request_count), (1, 40));
    assert_eq!(record.handshakes(), Handshakes { full: 1, resumed: 0 });
    let checkouts =
        |result| warmline.metric("warmline_pool_checkouts_total", &[("result", result)]);
    assert_eq!((checkouts("new"), checkouts("reused")), (1, 39));
}

#[test]
fn forty_one_shot_clients_take_one_connection_with_one_thread() {
    forty_one_shot_clients_take_one_connection(1);
}

#[test]
fn forty_one_shot_clients_take_one_connection_with_two_threads() {
    forty_one_shot_clients_take_one_connection(2);
}

#[test]
fn a_keep_alive_client_finds_its_own_connection_again_at_once() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set_global("threads", 2).start();
    let mut client = warmline.connect();
    for target in ["/any", "/bytes/100000", "/chunked/100000", "/trailers", "/status/204"].repeat(8)
    {
        client.get(origin::NAME, target);
    }
    assert_eq!(origin.record().connections.len(), 1);
}

/// Returns names of which the origin's has one address at a time, another at every query.
fn changing() -> Names {
    let turns: Vec<&[&str]> = FOUR.iter().map(std::slice::from_ref).collect();
    Names::default().in_turn(origin::NAME, &turns)
}

#[test]
fn a_name_that_changes_at_every_query_still_takes_one_connection() {
    let origin = Origin::serving().addresses(&FOUR).start();
    let warmline = Setup::before(&origin).names(&changing()).start();
    for _ in 0..40 {
        assert_eq!(warmline.one_shot("/any").status, 200);
    }
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn a_name_whose_four_addresses_rotate_still_takes_one_connection() {
    let [a, b, c, d] = FOUR;
    let turns: [&[&str]; 4] = [&[a, b, c, d], &[b, c, d, a], &[c, d, a, b], &[d, a, b, c]];
    let names = Names::default().in_turn(origin::NAME, &turns);
    let origin = Origin::serving().addresses(&FOUR).start();
    let warmline = Setup::before(&origin).names(&names).start();
    for _ in 0..40 {
        assert_eq!(warmline.one_shot("/any").status, 200);
    }
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn a_name_that_changes_at_every_query_never_gets_more_than_the_cap() {
    let origin = Origin::serving().addresses(&FOUR).start();
    let setup = Setup::before(&origin).names(&changing());
    let warmline = setup.set("pool.maxConnections", 3).set("pool.queueTimeout", "20s").start();
    together(30, |_| {
        for _ in 0..10 {
            assert_eq!(warmline.one_shot("/bytes/50000").status, 200);
        }
    });
    let most = origin.read(|record| record.most_open);
    assert!(most <= 3, "{most} connections at once");
}

#[test]
fn a_connection_whose_address_one_answer_lacks_stays() {
    let names = Names::default().in_turn(origin::NAME, &[&["127.0.0.1"], &["127.0.0.2"]]);
    let origin = Origin::serving().addresses(&FOUR).start();
    let warmline = Setup::before(&origin).names(&names).start();
    let mut slow = warmline.connect();
    slow.send(format!("GET /hold HTTP/1.1\r\nHost: {}\r\n\r\n", origin::NAME));
    origin.wait_for("the first request", |record| record.request_count == 1);
    assert_eq!(warmline.one_shot("/any").status, 200);
    origin.release();
    assert_eq!(slow.response().text(), "held\n");
    warmline.wait_for_pool("both are idle", |pool| pool.census.idle == 2);
    assert_eq!(warmline.one_shot("/any").head.field("x-connection"), Some("0"));
    assert_eq!(origin.record().ends(), [None, None]);
}

#[test]
fn the_newest_idle_connection_is_taken_first() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let mut clients: Vec<Client> = (0..3).map(|_| warmline.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET /hold HTTP/1.1\r\nHost: {}\r\n\r\n", origin::NAME));
        origin.wait_for("its request", |record| record.request_count == number + 1);
    }
    origin.release();
    for client in &mut clients {
        client.response();
    }
    warmline.wait_for_pool("three idle", |pool| pool.census.idle == 3);
    let mut client = warmline.connect();
    let carrier = client.get(origin::NAME, "/any").head;
    for _ in 0..10 {
        let again = client.get(origin::NAME, "/any").head;
        assert_eq!(again.field("x-connection"), carrier.field("x-connection"));
    }
}
