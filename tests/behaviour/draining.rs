//! The drain: exchanges in flight finish, idle connections close, exchanges that take too long are aborted, and metrics
//! end last.

use std::{
    net::{TcpListener, TcpStream},
    thread,
};

use serde_json::{Value, json};

use crate::support::{
    client::{Client, Ending},
    origin::{self, End, Gate, Origin},
    program::Program,
    running::Running,
    setup::Setup,
    wait_for,
};

/// Starts a drain while a request that began before is held by the origin; returns the origin, Warmline and the
/// request's client.
fn draining(set: impl FnOnce(Setup) -> Setup) -> (Origin, Running, Client) {
    let origin = Origin::serving().start();
    let warmline = set(Setup::before(&origin)).start();
    let client = warmline.ask("/hold");
    origin.wait_for("the request", |record| record.request_count == 1);
    warmline.shutdown();
    wait_for("the drain", || warmline.health("/readyz").status == 503);
    (origin, warmline, client)
}

#[test]
fn a_request_in_flight_finishes_and_its_client_is_told_to_close() {
    let (origin, warmline, mut client) = draining(|setup| setup);
    origin.release();
    let answer = client.response();
    assert_eq!(
        (answer.text().as_str(), answer.head.field("connection")),
        ("held\n", Some("close"))
    );
    assert_eq!(client.end(), (Ending::Fin, Vec::new()));
    warmline.join();
}

#[test]
fn while_it_drains_it_is_alive_but_not_ready_and_metrics_answer() {
    let (origin, warmline, _client) = draining(|setup| setup);
    assert_eq!(warmline.health("/livez").status, 200);
    assert_eq!(warmline.health("/readyz").status, 503);
    assert_eq!(warmline.metric("warmline_pool_connections", &[("state", "active")]), 1);
    origin.release();
    warmline.join();
}

#[test]
fn while_it_drains_no_new_client_is_accepted_and_idle_clients_are_closed() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let mut idle = warmline.connect();
    assert_eq!(idle.get(origin::NAME, "/any").status, 200);
    let mut busy = warmline.ask("/hold");
    origin.wait_for("the request", |record| record.request_count == 2);
    warmline.shutdown();
    assert_eq!(idle.end(), (Ending::Fin, Vec::new()));
    let address = warmline.address();
    wait_for("the listener's end", || TcpStream::connect(address).is_err());
    origin.release();
    assert_eq!(busy.response().status, 200);
    warmline.join();
}

#[test]
fn waiters_still_get_connections() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set("pool.maxConnections", 1);
    let warmline = setup.set("pool.queueTimeout", "20s").start();
    let mut holder = warmline.ask("/hold");
    origin.wait_for("the request", |record| record.request_count == 1);
    let mut waiter = warmline.ask("/waited");
    warmline.wait_for_pool("the waiter", |pool| pool.queued == 1);
    warmline.shutdown();
    origin.release();
    assert_eq!((holder.response().status, waiter.response().status), (200, 200));
    warmline.join();
}

#[test]
fn a_request_within_the_drain_gets_a_connection_although_the_warm_floor_lacks_one() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set("pool.minIdle", 1).set_global("drain", "20s");
    let warmline = setup.start();
    warmline.wait_for_pool("one is idle", |pool| pool.census.idle == 1);
    // Warmline has read these two by the time the origin has the request sent after them.
    let mut late = [half_asked(&warmline, "/hold"), half_asked(&warmline, "/any")];
    let mut held = warmline.ask("/hold");
    origin.wait_for("the request", |record| record.request_count == 1);
    warmline.wait_for_pool("one is idle again", |pool| pool.census.idle == 1);
    let upstream = warmline.upstream("origin");
    warmline.shutdown();
    wait_for("the drain", || warmline.health("/readyz").status == 503);
    late[0].send("\r\n");
    origin.wait_for("it takes the idle one", |record| record.request_count == 2);
    late[1].send("\r\n");
    assert_eq!(late[1].response().text(), "hello\n");
    assert_eq!(origin.read(|record| record.connections.len()), 3, "nothing for the floor");
    origin.release();
    assert_eq!((held.response().status, late[0].response().status), (200, 200));
    warmline.join();
    assert_eq!(upstream.pool().census().total(), 0);
}

/// Returns a client that has sent a GET without the empty line at its end.
fn half_asked(warmline: &Running, target: &str) -> Client {
    let mut client = warmline.connect();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n", origin::NAME));
    client
}

#[test]
fn a_request_without_an_answer_at_the_drains_end_gets_504() {
    let (_origin, warmline, mut client) = draining(|setup| setup.set_global("drain", "100ms"));
    let answer = client.response();
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("drain"), "{}", answer.text());
    warmline.join();
}

#[test]
fn a_body_that_is_not_whole_at_the_drains_end_is_reset() {
    let origin = Origin::stalling().start();
    let warmline = Setup::before(&origin).set_global("drain", "100ms").start();
    let mut client = warmline.ask("/any");
    client.response_head();
    warmline.shutdown();
    assert_eq!(client.end().0, Ending::Reset);
    warmline.join();
    origin.wait_for("the upstream's end", |record| record.open == 0);
}

#[test]
fn idle_connections_close_politely_and_all_at_once() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let mut clients: Vec<Client> = (0..5).map(|_| warmline.ask("/hold")).collect();
    origin.wait_for("five requests", |record| record.request_count == 5);
    origin.release();
    for client in &mut clients {
        client.response();
    }
    warmline.wait_for_pool("five idle", |pool| pool.census.idle == 5);
    warmline.shutdown();
    warmline.join();
    origin.wait_for("five ends", |record| record.open == 0);
    assert_eq!(origin.record().ends(), [Some(End::Polite); 5]);
}

#[test]
fn without_anything_in_flight_it_ends_at_once_although_the_drain_is_long() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set_global("drain", "1h").start();
    let _idle = warmline.connect();
    warmline.one_shot("/any");
    warmline.shutdown();
    let ended = thread::spawn(|| warmline.join());
    wait_for("the end", || ended.is_finished());
}

#[test]
fn an_upload_in_flight_finishes() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\nab");
    origin.wait_for("the request", |record| record.request_count == 1);
    warmline.shutdown();
    wait_for("the drain", || warmline.health("/readyz").status == 503);
    client.send("cd");
    assert_eq!(client.response().text(), "abcd");
    warmline.join();
}

#[test]
fn requests_that_were_sent_before_the_drain_are_answered_although_nothing_has_read_them() {
    let origin = Origin::serving().start();
    let program = Program::start(&origin, "exec \"$0\" run --config \"$1\"");
    let silent: Vec<Client> = (0..8).map(|_| program.connect()).collect();
    let mut used: Vec<Client> = (0..8).map(|_| program.connect()).collect();
    for client in &mut used {
        // Connections are accepted in turn: once these are answered, the silent ones are accepted.
        assert_eq!(client.get(origin::NAME, "/any").status, 200);
    }
    program.signal("-STOP");
    let fresh = (0..64).map(|_| program.connect());
    let mut clients: Vec<Client> = silent.into_iter().chain(used).chain(fresh).collect();
    for client in &mut clients {
        client.send(format!("GET /any HTTP/1.1\r\nHost: {}\r\n\r\n", origin::NAME));
    }
    program.signal("-TERM");
    program.signal("-CONT");
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.response_to("GET").expect("it is answered");
        assert_eq!((number, answer.status), (number, 200));
        assert_eq!(answer.head.field("connection"), Some("close"), "{number}");
    }
}

#[test]
fn requests_that_were_sent_before_a_reload_removes_their_listener_are_answered() {
    let origin = Origin::serving().start();
    let goes = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup::before(&origin);
    let without: Value = serde_json::from_str(&setup.text()).unwrap();
    let mut with = without.clone();
    with["listeners"].as_array_mut().unwrap().push(json!({ "bind": [goes.to_string()] }));
    let warmline = setup.start();
    for round in 0..10 {
        warmline.reconfigure(&with);
        let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(goes)).collect();
        for client in &mut clients {
            client.send(format!("GET /any HTTP/1.1\r\nHost: {}\r\n\r\n", origin::NAME));
        }
        warmline.reconfigure(&without);
        let answered = clients.iter_mut().filter_map(|client| client.response_to("GET").ok());
        assert_eq!(answered.filter(|answer| answer.status == 200).count(), 40, "round {round}");
        wait_for("the listener's end", || TcpStream::connect(goes).is_err());
    }
}

#[test]
fn the_rest_of_a_header_that_began_before_the_drain_is_waited_for_on_a_used_connection_too() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let mut used = warmline.connect();
    assert_eq!(used.get(origin::NAME, "/any").status, 200);
    used.send(format!("GET /any HTTP/1.1\r\nHost: {}\r\n", origin::NAME));
    // Warmline has read the half header by the time the origin has the request sent after it.
    let mut held = warmline.ask("/hold");
    origin.wait_for("the request", |record| record.request_count == 2);
    warmline.shutdown();
    wait_for("the drain", || warmline.health("/readyz").status == 503);
    used.send("\r\n");
    let answer = used.response();
    assert_eq!((answer.status, answer.head.field("connection")), (200, Some("close")));
    origin.release();
    assert_eq!(held.response().status, 200);
    warmline.join();
}

#[test]
fn a_header_that_began_in_one_segment_with_the_request_before_is_waited_for_in_the_drain() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let post = "POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\nabcd";
    let next = "GET /any HTTP/1.1\r\nHost: api.test\r\n\r\n";
    let halves = [1, 12, 30].map(|length| next.split_at(length));
    let mut clients = halves.map(|(begun, rest)| {
        let mut client = warmline.connect();
        client.send(format!("{post}{begun}"));
        (client, rest)
    });
    for (client, _) in &mut clients {
        assert_eq!(client.response().text(), "abcd");
    }
    warmline.shutdown();
    wait_for("the drain", || warmline.health("/readyz").status == 503);
    for (client, rest) in &mut clients {
        client.send(*rest);
        let answer = client.response();
        assert_eq!((answer.status, answer.head.field("connection")), (200, Some("close")));
    }
    warmline.join();
}

#[test]
fn a_header_that_began_while_the_body_before_it_was_on_its_way_is_waited_for_in_the_drain() {
    let gate = Gate::new();
    let opened = gate.clone();
    let origin = Origin::scripted(move |mut peer| {
        let gate = opened.clone();
        async move {
            peer.request().await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
            gate.opened().await;
            peer.write(" whole").await;
            peer.request().await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext").await;
            peer.ended().await;
            peer.close().await;
        }
    });
    let origin = origin.start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    let request = "GET /any HTTP/1.1\r\nHost: api.test\r\n\r\n";
    let (begun, rest) = request.split_at(30);
    client.send(format!("{request}{begun}"));
    let head = client.response_head();
    assert_eq!(head.field("connection"), None);
    warmline.shutdown();
    wait_for("the drain", || warmline.health("/readyz").status == 503);
    gate.open();
    let mut body = Vec::new();
    while body.len() < 10 {
        body.extend(client.read_some().expect("the body goes on"));
    }
    assert_eq!(body, b"half whole");
    client.send(rest);
    let answer = client.response();
    assert_eq!((answer.text().as_str(), answer.head.field("connection")), ("next", Some("close")));
    warmline.join();
}

#[test]
fn a_header_that_is_not_whole_at_the_drains_end_is_waited_for_no_longer() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set_global("drain", "100ms").set_global("threads", 1);
    let warmline = setup.set_global("listeners.0.limits.headerTimeout", "1h").start();
    let mut client = half_asked(&warmline, "/any");
    assert_eq!(warmline.one_shot("/any").status, 200);
    warmline.shutdown();
    assert_eq!(client.end(), (Ending::Reset, Vec::new()));
    warmline.join();
}

/// Ends the program while the origin holds one request, with this time for the drain, and returns its last log line.
fn last_line(drain: &str, release: bool) -> Value {
    let origin = Origin::serving().start();
    let setup = Program::setup(&[(origin::NAME, &origin)]).set_global("drain", drain);
    let program = Program::run(setup, "exec \"$0\" run --config \"$1\"");
    let mut client = program.connect();
    client.send(format!("GET /hold HTTP/1.1\r\nHost: {}\r\n\r\n", origin::NAME));
    origin.wait_for("the request", |record| record.request_count == 1);
    program.signal("-TERM");
    wait_for("the drain", || program.health("/readyz").status == 503);
    if release {
        origin.release();
    }
    client.response();
    wait_for("the last line", || !program.said("ended").is_empty());
    program.said("ended").remove(0)
}

#[test]
fn the_last_line_of_the_log_counts_the_requests_that_finished_in_the_drain() {
    let line = last_line("20s", true);
    assert_eq!((&line["level"], &line["message"]), (&json!("INFO"), &json!("ended")));
    assert_eq!((&line["finished"], &line["cut_off"]), (&json!(1), &json!(0)));
    assert!(line["took"].is_number(), "{line}");
}

#[test]
fn the_last_line_of_the_log_warns_of_requests_that_the_drain_cut_off() {
    let line = last_line("300ms", false);
    assert_eq!((&line["level"], &line["cut_off"]), (&json!("WARN"), &json!(1)), "{line}");
    assert_eq!(line["finished"], json!(0));
}
