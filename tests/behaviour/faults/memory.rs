//! Memory: the cost of an idle client, and the bound on the bytes buffered for all clients together.

use std::{fs, net::SocketAddr};

use serde_json::json;
use warmline::resources::{BUFFERED, FREE};

use crate::support::{
    client::{Client, Ending},
    log_lines,
    origin::{NAME, Origin},
    program::Program,
    running::Running,
    setup::{Setup, serving},
    wait_for,
};

/// Returns a request whose header has about `bytes` bytes.
fn request(bytes: usize) -> String {
    format!("GET /any HTTP/1.1\r\nHost: {NAME}\r\nx-long: {}\r\n\r\n", "x".repeat(bytes))
}

fn rested(warmline: &Running) -> Client {
    log_lines::catch();
    let mut client = warmline.connect();
    assert_eq!(client.get(NAME, "/any").status, 200);
    log_lines::client_rests(client.address(), 1);
    client
}

#[test]
fn fault_29_an_idle_client_rests_again_and_again_and_keeps_its_connection() {
    let (origin, warmline) = serving();
    let mut client = rested(&warmline);
    for times in 2..4 {
        assert_eq!(client.get(NAME, "/any").text(), "hello\n");
        log_lines::client_rests(client.address(), times);
    }
    assert_eq!(client.post(NAME, "/echo", "x".repeat(100_000)).body.len(), 100_000);
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn fault_29_a_client_that_rests_is_closed_by_the_drain_and_leaves_by_itself() {
    let (_origin, warmline) = serving();
    let (mut staying, mut leaving) = (rested(&warmline), rested(&warmline));
    leaving.half_close();
    assert_eq!(leaving.end(), (Ending::Fin, Vec::new()));
    staying.assert_silent();
    warmline.shutdown();
    assert_eq!(staying.end(), (Ending::Fin, Vec::new()));
}

#[test]
fn fault_29_a_client_that_rests_is_closed_after_the_idle_limit() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set_global("listeners.0.limits.idleTimeout", "1s");
    let warmline = setup.start();
    assert_eq!(rested(&warmline).end(), (Ending::Fin, Vec::new()));
}

#[test]
fn fault_29_half_a_header_behind_a_whole_request_survives_the_rest() {
    log_lines::catch();
    let (_origin, warmline) = serving();
    let mut client = warmline.connect();
    client.send(format!("GET /any HTTP/1.1\r\nHost: {NAME}\r\n\r\nGET /any HTTP/1.1\r\nHo"));
    assert_eq!(client.response().text(), "hello\n");
    log_lines::client_rests(client.address(), 1);
    client.send(format!("st: {NAME}\r\n\r\n"));
    assert_eq!(client.response().text(), "hello\n");
}

/// Starts an origin, and Warmline before it, which lets a crowd with half headers wait for as long as a test takes.
fn patient() -> (Origin, Running) {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set_global("listeners.0.limits.headerTimeout", "10m");
    let warmline = setup.start();
    (origin, warmline)
}

#[test]
fn fault_33_half_headers_of_a_crowd_are_bounded_in_sum_and_small_requests_go_on() {
    let (origin, warmline) = patient();
    let long = request(31 * 1024 - 100);
    let half = &long[..31 * 1024 - 200];
    let fit = BUFFERED / (24 * 1024);
    let mut crowd = Vec::new();
    let mut refused = loop {
        let mut client = warmline.connect();
        client.send(half);
        crowd.push(client);
        if warmline.metric("warmline_shortages_total", &[("resource", "client-buffers")]) > 0 {
            // The client that was refused is one of the last.
            break crowd.pop().unwrap();
        }
        assert!(crowd.len() < fit * 2, "nobody is refused");
    };
    assert!(crowd.len() + 2 >= fit, "{} of {fit}", crowd.len());
    let answer = refused.response();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.head.field("retry-after"), Some("1"));
    assert!(answer.text().contains("larger than 8 KiB, and so are those of too many"));
    assert_eq!(warmline.connect().get(NAME, "/any").status, 200, "a small one is served");
    let mut next = warmline.connect();
    next.send(&long);
    assert_eq!(next.response().status, 503);
    drop(crowd);
    let large_is_served = || {
        let mut client = warmline.connect();
        client.send(&long);
        client.response().status == 200
    };
    wait_for("room for large headers", large_is_served);
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn fault_33_the_memory_of_a_request_is_freed_when_it_is_answered() {
    let (_origin, warmline) = serving();
    let mut client = warmline.connect();
    for _ in 0..2 * BUFFERED / (24 * 1024) {
        client.send(request(31 * 1024 - 100));
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(warmline.metric("warmline_shortages_total", &[("resource", "client-buffers")]), 0);
}

#[test]
fn fault_33_while_buffers_are_short_uploads_go_on_in_small_pieces() {
    let (_origin, warmline) = patient();
    let half = &request(31 * 1024)[..31 * 1024 - 200];
    let mut crowd = Vec::new();
    while warmline.metric("warmline_shortages_total", &[("resource", "client-buffers")]) == 0 {
        let mut client = warmline.connect();
        client.send(half);
        crowd.push(client);
    }
    let body = "x".repeat(50 * FREE);
    let mut client = warmline.connect();
    assert_eq!(client.post(NAME, "/echo", &body).text(), body);
}

#[test]
fn fault_33_half_headers_of_3071_clients_fit_the_memory_of_a_sidecar_and_leave_none_of_it_taken() {
    let origin = Origin::serving().start();
    let program = Program::start(&origin, "exec \"$0\" run --config \"$1\"");
    assert_eq!(program.status(), 200);
    let before = program.memory("VmRSS:");
    let half = &request(31 * 1024)[..31 * 1024 - 200];
    let connect = |_| {
        let mut client = program.connect();
        // Warmline may refuse the client before everything is written.
        let _ = client.try_send(half);
        client
    };
    let crowd: Vec<_> = (0..3_071).map(connect).collect();
    assert_eq!(program.status(), 200);
    drop(crowd);
    // mimalloc keeps some of the memory, in segments that it does not visit again; without the bound the crowd would
    // leave 200 MiB.
    wait_for("memory given back", || program.memory("VmRSS:") < before + 28 * 1024);
    let most = program.memory("VmHWM:");
    assert!(most < 100 * 1024, "{most} KiB");
}

/// Connects to this address, sends a request and keeps the connection.
fn asking(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.send(request(10));
    client
}

#[test]
fn fault_33_clients_of_a_listener_and_of_all_own_ports_have_one_bound_together() {
    let origin = Origin::serving().start();
    let setup = Setup::new().upstream("first", &origin).set("port", 0);
    let setup = setup.upstream("second", &origin).set("port", 0).set("hosts", json!(["b.test"]));
    let limit = "listeners.0.limits.connections";
    let mut warmline = setup.set_global(limit, 3).start_following();
    let addresses = warmline.addresses();
    assert!(addresses.len() > 2, "{addresses:?}");
    let short = |warmline: &Running| {
        warmline.metric("warmline_shortages_total", &[("resource", "client-connections")])
    };
    let mut clients: Vec<_> =
        addresses.iter().cycle().map(|address| asking(*address)).take(3).collect();
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
    wait_for("the bound is told", || short(&warmline) > 0);
    let mut waiting: Vec<_> = addresses.iter().map(|address| asking(*address)).collect();
    // Connected clients go on, and new clients of every address wait.
    assert_eq!(clients[0].get(NAME, "/any").status, 200);
    waiting.iter_mut().for_each(Client::assert_silent);
    assert_eq!(origin.record().requests.len(), 4);
    warmline.set(limit, 4).apply();
    origin.wait_for("one more", |record| record.requests.len() == 5);
    drop(clients.pop());
    origin.wait_for("another one for the one that left", |record| record.requests.len() == 6);
    let served = waiting.iter_mut().filter_map(|one| one.has_something_to_read().then_some(()));
    assert!(served.count() <= 2, "one more than before, and one in place of the one that left");
    warmline.set(limit, addresses.len() + 2).apply();
    assert!(waiting.iter_mut().all(|client| client.response().status == 200));
    // Clients above a lowered bound stay until they leave.
    warmline.set(limit, 1).apply();
    let mut last = asking(addresses[1]);
    assert_eq!(waiting[1].get(NAME, "/any").status, 200);
    drop(clients);
    last.assert_silent();
    drop(waiting);
    assert_eq!(last.response().status, 200);
}

#[test]
fn a_refusal_for_too_little_address_space_counts_the_threads_that_there_would_be() {
    let origin = Origin::serving().start();
    let setup = || Program::setup(&[(NAME, &origin)]).set_global("threads", 1);
    let running = Program::run(setup(), "exec \"$0\" run --config \"$1\"");
    running.address("traffic");
    let tasks = format!("/proc/{}/task", running.child.id());
    wait_for("its threads", || fs::read_dir(&tasks).unwrap().count() == 7);
    let refused = Program::run(setup(), "ulimit -v 409600 && exec \"$0\" run --config \"$1\"");
    let told =
        "warmline: the limit on address space (ulimit -v, LimitAS) is 400 MiB, and 7 threads";
    wait_for("its word", || refused.printed(told));
}

#[test]
fn fault_38_a_start_under_too_low_a_limit_on_address_space_is_refused_in_words() {
    let origin = Origin::serving().start();
    let line = "ulimit -v 409600 && exec \"$0\" run --config \"$1\"";
    let mut program = Program::start(&origin, line);
    assert_eq!(program.child.wait().unwrap().code(), Some(2));
    wait_for("its word", || {
        program.printed("warmline: the limit on address space (ulimit -v, LimitAS) is 400 MiB")
    });
}
