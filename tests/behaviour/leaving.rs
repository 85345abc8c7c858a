//! The application leaves: whatever it leaves unread or unsent, the next request gets only its own response's bytes.

use crate::support::{
    origin::{self, Gate, Origin},
    running::Running,
    setup::Setup,
    soaking, wait_for,
};

fn aborted(warmline: &Running) -> u64 {
    warmline.metric("warmline_requests_total", &[("upstream", "origin"), ("code", "aborted")])
}

#[test]
fn case_27_a_client_that_leaves_while_connecting_leaves_its_connection_to_the_next() {
    let gate = Gate::new();
    let opened = gate.clone();
    let origin = Origin::serving().before_handshake(gate).start();
    let warmline = Setup::before(&origin).start();
    let client = warmline.ask("/left");
    origin.wait_for("the connection", |record| record.connections.len() == 1);
    drop(client);
    wait_for("its end", || aborted(&warmline) == 1);
    opened.open();
    warmline.wait_for_pool("the finished dial", |pool| pool.census.idle == 1);
    assert_eq!(warmline.one_shot("/next").status, 200);
    let record = origin.record();
    assert_eq!((record.connections.len(), record.request_count), (1, 1));
}

#[test]
fn case_27_a_client_that_leaves_before_the_response_costs_the_connection() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let client = warmline.ask("/hold");
    origin.wait_for("the request", |record| record.request_count == 1);
    drop(client);
    wait_for("its end", || aborted(&warmline) == 1);
    assert_eq!(warmline.one_shot("/next").text(), "hello\n");
    assert_eq!(origin.record().connections.len(), 2);
}

#[test]
fn case_27_a_client_that_leaves_within_the_response_costs_the_connection() {
    for reset in [false, true] {
        let origin = Origin::serving().start();
        let warmline = Setup::before(&origin).start();
        let mut client = warmline.ask("/bytes/100000000");
        client.response_head();
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        origin.wait_for("its end", |record| record.open == 0);
        assert_eq!(warmline.one_shot("/next").text(), "hello\n");
        assert_eq!(origin.record().connections.len(), 2, "reset: {reset}");
    }
}

#[test]
fn case_27_a_client_that_leaves_within_its_request_costs_the_connection() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 100\r\n\r\nhalf");
    origin.wait_for("the request", |record| record.request_count == 1);
    drop(client);
    origin.wait_for("its end", |record| record.open == 0);
    assert_eq!(warmline.one_shot("/next").text(), "hello\n");
    assert_eq!(origin.record().connections.len(), 2);
}

#[test]
fn case_27_whenever_clients_leave_the_next_request_sees_its_own_bytes_alone() {
    let rounds = if soaking() { 100_000 } else { 2_000 };
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set("pool.maxConnections", 4);
    let warmline = setup.set_global("threads", 2).set("pool.queueTimeout", "20s").start();
    let mut random = fastrand::Rng::with_seed(27);
    for round in 0..rounds {
        leave(&warmline, &mut random);
        let own = format!("the content of round {round}");
        assert_eq!(warmline.connect().post(origin::NAME, "/echo", &own).text(), own);
    }
    let most = origin.read(|record| record.most_open);
    assert!(most <= 4, "{most} connections at once");
    warmline.wait_for_pool("everything's return", |pool| pool.census.active == 0);
}

/// Connects a client that leaves at a random stage of its request, in a random manner.
fn leave(warmline: &Running, random: &mut fastrand::Rng) {
    let mut client = warmline.connect();
    let request = match random.u8(0..5) {
        0 => "GET /bytes/300000 HTTP/1.1\r\nHost: api.test\r\n\r\n",
        1 => "GET /chunked/300000 HTTP/1.1\r\nHost: api.test\r\n\r\n",
        2 => "POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 9\r\n\r\nforeign",
        3 => "POST /echo HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfor",
        _ => "GET /any HTTP/1.1\r\nHost: api.test\r\n",
    };
    let sent = random.usize(1..=request.len());
    client.send(&request[..sent]);
    if sent == request.len() && request.starts_with("GET /") && request.contains("00000") {
        for _ in 0..random.u8(0..3) {
            let _ = client.read_some();
        }
    }
    if random.bool() {
        client.reset();
    }
}
