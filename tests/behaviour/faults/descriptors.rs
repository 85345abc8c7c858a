//! Descriptors that are used up: which clients and connections still get one. The program itself runs under a limit so
//! low that a test reaches it.

use serde_json::json;

use crate::support::{
    client::Client,
    origin::{NAME, Origin},
    program::Program,
    refusing::Refusing,
    running::Running,
    setup::{Following, Setup, serving},
    together, wait_for,
};

/// The limit on descriptors, of which the process takes about half for itself.
const LIMIT: usize = 96;
const OTHER: &str = "other.test";
const CLIENTS_SHORT: &str = "all descriptors for clients are in use";
const UPSTREAMS_SHORT: &str = "all descriptors for connections to upstreams are in use";

fn program(origins: &[(&str, &Origin)]) -> Program {
    Program::before(origins, &format!("ulimit -n {LIMIT} && exec \"$0\" run --config \"$1\""))
}

/// Connects more clients that send nothing than the process can accept; returns them once the descriptors for clients
/// are used up.
fn crowd(program: &Program) -> Vec<Client> {
    let crowd = (0..LIMIT).map(|_| program.connect()).collect();
    wait_for("the descriptors for clients are used up", || !program.said(CLIENTS_SHORT).is_empty());
    crowd
}

/// Returns the limit that the log's line about this shortage gives in `most`.
fn most(program: &Program, words: &str) -> usize {
    let most = program.said(words)[0]["most"].as_u64().unwrap();
    usize::try_from(most).unwrap()
}

fn ask(client: &mut Client, host: &str, path: &str) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
}

#[test]
fn fault_34_clients_that_only_sit_take_neither_the_idle_connection_nor_the_descriptor_of_a_dial() {
    let origin = Origin::serving().start();
    let program = program(&[(NAME, &origin)]);
    let (mut first, mut second) = (program.connect(), program.connect());
    assert_eq!(first.get(NAME, "/any").status, 200);
    let crowd = crowd(&program);
    // The first request takes the idle connection; the second has to dial.
    ask(&mut first, NAME, "/hold");
    origin.wait_for("the first request", |record| record.request_count == 2);
    assert_eq!(origin.record().connections.len(), 1, "the idle connection was kept and used");
    assert_eq!(second.get(NAME, "/any").status, 200);
    origin.release();
    assert_eq!(first.response().status, 200);
    assert_eq!(origin.record().connections.len(), 2);
    drop(crowd);
    assert_eq!(program.status(), 200, "who comes later is served once the crowd is gone");
}

#[test]
fn fault_34_while_clients_wait_for_descriptors_metrics_and_health_are_answered() {
    let origin = Origin::serving().start();
    let program = program(&[(NAME, &origin)]);
    let _crowd = crowd(&program);
    assert_eq!(program.health("/livez").status, 200);
    let metrics = program.health("/metrics").text();
    let shortage = "warmline_shortages_total{resource=\"client-descriptors\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(shortage));
    assert!(line.is_some_and(|count| count != "0"), "{metrics}");
}

#[test]
fn fault_34_as_many_clients_as_leave_are_let_in_and_no_more() {
    let origin = Origin::serving().start();
    let program = program(&[(NAME, &origin)]);
    let mut crowd = crowd(&program);
    let most = most(&program, CLIENTS_SHORT);
    let rest = crowd.split_off(most);
    let mut waiting = rest.into_iter();
    let (mut next, mut last) = (waiting.next().unwrap(), waiting.next().unwrap());
    ask(&mut next, NAME, "/any");
    ask(&mut last, NAME, "/any");
    drop(crowd.pop());
    assert_eq!(next.response().status, 200);
    last.assert_silent();
    drop(crowd);
    assert_eq!(last.response().status, 200);
}

#[test]
fn case_50_without_a_descriptor_for_an_upstream_a_request_gets_503_and_the_next_is_served() {
    let origin = Origin::serving().start();
    let program = program(&[(NAME, &origin)]);
    let mut held = Vec::new();
    let mut refused = loop {
        let mut client = program.connect();
        ask(&mut client, NAME, "/hold");
        let short = || !program.said(UPSTREAMS_SHORT).is_empty();
        wait_for("the request is on its way, or cannot be", || {
            short() || origin.read(|record| record.request_count) > held.len()
        });
        if short() {
            break client;
        }
        held.push(client);
    };
    assert_eq!(held.len(), most(&program, UPSTREAMS_SHORT));
    let answer = refused.response();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.head.field("retry-after"), Some("1"));
    let says = "descriptors for connections to upstreams are in use, and none came free";
    assert!(answer.text().contains(says), "{}", answer.text());
    assert_eq!(origin.record().connections.len(), held.len());
    origin.release();
    assert!(held.iter_mut().all(|client| client.response().status == 200));
    assert_eq!(refused.get(NAME, "/any").status, 200);
}

#[test]
fn case_50_idle_connections_make_room_for_the_dials_of_another_upstream_but_for_the_newest() {
    let (origin, other) = (Origin::serving().start(), Origin::serving().start());
    let program = program(&[(NAME, &origin), (OTHER, &other)]);
    let mut clients = Vec::new();
    // Requests to the first upstream until one of its dials finds no descriptor.
    while program.said(UPSTREAMS_SHORT).is_empty() {
        let mut client = program.connect();
        ask(&mut client, NAME, "/hold");
        clients.push(client);
        wait_for("the request is on its way, or cannot be", || {
            !program.said(UPSTREAMS_SHORT).is_empty()
                || origin.read(|record| record.request_count) == clients.len()
        });
    }
    let most = most(&program, UPSTREAMS_SHORT);
    let (held, refused) = clients.split_at_mut(most);
    // The refused request's dial also asks for idle connections to be closed; it must have ended before there are any.
    assert_eq!(refused[0].response().status, 503);
    origin.release();
    for client in held {
        assert_eq!(client.response().status, 200);
    }
    drop(clients);
    let answer = program.connect().get(OTHER, "/any");
    assert_eq!(answer.status, 200, "{}", answer.text());
    origin.wait_for("the end of the older half", |record| record.open <= most * 2 / 3);
    let before = origin.record().connections.len();
    assert_eq!(program.status(), 200);
    assert_eq!(origin.record().connections.len(), before, "the newest was kept");
}

fn shortages(warmline: &Running) -> u64 {
    warmline.metric("warmline_shortages_total", &[("resource", "upstream-descriptors")])
}

/// Starts Warmline with one upstream of at most two connections, both of which are in use by held requests.
fn two_held(origin: &Origin) -> (Following, [Client; 2]) {
    let setup = Setup::new().upstream("first", origin).set("hosts", json!(["a.test"]));
    let warmline = setup.set("pool.maxConnections", 2).start_following();
    let mut held = [warmline.connect(), warmline.connect()];
    for client in &mut held {
        ask(client, "a.test", "/hold");
    }
    origin.wait_for("both requests", |record| record.request_count == 2);
    (warmline, held)
}

/// Has another upstream, of at most one connection, dial while the connections of the first are still in use; asserts
/// that no descriptor was missing.
fn another_dials(origin: &Origin, warmline: &Following, held: &mut [Client; 2]) {
    assert_eq!(warmline.connect().get("b.test", "/any").status, 200);
    assert_eq!(shortages(warmline), 0);
    origin.release();
    assert!(held.iter_mut().all(|client| client.response().status == 200));
}

#[test]
fn fault_34_connections_that_a_removed_upstream_still_has_take_no_descriptor_from_the_one_in_its_place()
 {
    let origin = Origin::serving().start();
    let (mut warmline, mut held) = two_held(&origin);
    warmline.set("upstreams.0.name", "second").set("upstreams.0.hosts", json!(["b.test"]));
    warmline.set("upstreams.0.pool.maxConnections", 1).apply();
    another_dials(&origin, &warmline, &mut held);
}

#[test]
fn fault_34_once_a_removed_upstream_is_gone_clients_have_its_descriptors() {
    let (origin, other) = (Origin::serving().start(), Origin::serving().start());
    let clients = |change: &dyn Fn(&Program)| {
        let program = program(&[(NAME, &origin), (OTHER, &other)]);
        assert_eq!(program.status(), 200);
        change(&program);
        let _crowd = crowd(&program);
        most(&program, CLIENTS_SHORT)
    };
    // As long as the upstreams may have hundreds of connections, clients have about half of the descriptors.
    let half = clients(&|_| ());
    let nearly_all = clients(&|program| {
        program.reconfigure(|document| {
            document["upstreams"].as_array_mut().unwrap().pop();
            document["upstreams"][0]["pool"]["maxConnections"] = 1.into();
        });
        wait_for("the other's end", || !program.said("upstream gone").is_empty());
    });
    assert!(nearly_all > half * 3 / 2, "{half}, then {nearly_all}");
}

#[test]
fn fault_34_connections_above_a_lowered_cap_take_no_descriptor_from_another_upstream() {
    let origin = Origin::serving().start();
    let (mut warmline, mut held) = two_held(&origin);
    let mut second = warmline.document["upstreams"][0].clone();
    second["name"] = "second".into();
    second["hosts"] = json!(["b.test"]);
    second["pool"]["maxConnections"] = 1.into();
    warmline.document["upstreams"].as_array_mut().unwrap().push(second);
    warmline.set("upstreams.0.pool.maxConnections", 1).apply();
    another_dials(&origin, &warmline, &mut held);
}

#[test]
fn fault_34_a_place_that_a_failed_dial_gives_back_has_its_descriptor() {
    let refusing = Refusing::new();
    let setup = Setup::new().upstream_at("origin", &refusing.address.to_string());
    let setup = setup.set("tls.verifyName", NAME).set("pool.maxConnections", 1);
    let warmline = setup.set("retries.max", 0).set_global("threads", 2).start();
    together(8, |_| {
        let mut client = warmline.connect();
        for _ in 0..100 {
            assert_eq!(client.get("127.0.0.1", "/any").status, 502);
        }
    });
    assert_eq!(shortages(&warmline), 0);
}

#[test]
fn fault_34_a_crowd_that_sits_on_the_port_for_metrics_keeps_no_probe_away() {
    const CROWD: usize = 400;
    let (_origin, warmline): (_, Running) = serving();
    let address = warmline.metrics_address();
    for sent in ["", "GET /livez HTTP/1.1\r\nHost: a"] {
        let crowd = (0..CROWD).map(|_| {
            let mut client = Client::connect(address);
            client.send(sent);
            client
        });
        let mut crowd: Vec<_> = crowd.collect();
        assert_eq!(warmline.health("/livez").status, 200);
        let closed = crowd.iter_mut().filter_map(|one| one.has_something_to_read().then_some(()));
        assert!(closed.count() > CROWD / 2, "most of them had to go for those behind them");
    }
}
