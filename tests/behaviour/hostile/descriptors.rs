//! Descriptors that are used up: the program itself, under a limit so low that a test reaches it. That local ports can be
//! used up too is shown beside the errors, in `src/connect/error.rs`: a test must not take a machine's last ports.

use crate::support::{
    client::Client,
    origin::{NAME, Origin},
    program::Program,
    wait_for,
};

/// Of these the process takes about half for itself.
const LIMIT: usize = 64;
/// More clients than it can have.
const CROWD: usize = LIMIT + 16;

fn program(origin: &Origin) -> Program {
    Program::start(origin, &format!("ulimit -n {LIMIT} && exec \"$0\" run --config \"$1\""))
}

/// When it said that it could not accept, in seconds of the day.
fn refusals(program: &Program) -> Vec<f64> {
    let refusals = program.said("a connection cannot be accepted").into_iter();
    refusals.map(|line| seconds_of_day(line["timestamp"].as_str().unwrap())).collect()
}

/// Clients that do nothing, until it can have no more.
fn crowd(program: &Program) -> Vec<Client> {
    let before = refusals(program).len();
    let crowd = (0..CROWD).map(|_| program.connect()).collect();
    // The first time, a file that was being read may have had the last one.
    wait_for("it has no descriptor left", || refusals(program).len() > before + 2);
    crowd
}

/// Of `2026-01-31T12:34:56.789Z`.
fn seconds_of_day(timestamp: &str) -> f64 {
    let (_, time) = timestamp.split_once('T').unwrap();
    let parts = time.trim_end_matches('Z').split(':').map(|part| part.parse::<f64>().unwrap());
    parts.fold(0.0, |seconds, part| seconds * 60.0 + part)
}

#[test]
fn a_plan_that_wants_more_descriptors_than_there_are_is_warned_of_at_the_start_and_when_it_grows() {
    let origin = Origin::serving().start();
    let program = program(&origin);
    program.address("traffic");
    let warned = |program: &Program| {
        let warnings = program.said("the limit of open files is lower");
        warnings.iter().map(|line| line["wanted"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    // Clients, upstream connections, and what Warmline needs for itself.
    let wanted = |clients: u64| clients + 100 + 64;
    assert_eq!(warned(&program), [wanted(4096)]);
    program.allow_clients(5000);
    assert_eq!(warned(&program), [wanted(4096), wanted(5000)]);
    program.allow_clients(4000);
    assert_eq!(warned(&program), [wanted(4096), wanted(5000)], "less is no news");
}

#[test]
fn case_50_without_a_descriptor_for_a_client_accepting_rests_and_recovers() {
    let origin = Origin::serving().start();
    let program = program(&origin);
    let crowd = crowd(&program);
    wait_for("it tried again several times", || refusals(&program).len() >= 5);
    let refusals = refusals(&program);
    let rests: Vec<_> = refusals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // At midnight one is negative.
    assert!(rests.iter().all(|rest| *rest > 0.09 || *rest < 0.0), "it spins: {rests:?}");
    drop(crowd);
    assert_eq!(program.status(), 200);
}

#[test]
fn case_50_without_a_descriptor_for_an_upstream_a_request_gets_503_and_the_next_is_served() {
    let origin = Origin::serving().start();
    let program = program(&origin);
    let mut client = program.connect();
    assert_eq!(client.get("nobody.test", "/any").status, 404, "it is accepted");
    let crowd = crowd(&program);
    let answer = client.get(NAME, "/any");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.head.field("retry-after"), Some("1"));
    assert!(answer.text().contains("no descriptor is left"), "{}", answer.text());
    assert_eq!(origin.record().connections.len(), 0);
    drop(crowd);
    let client = std::cell::RefCell::new(client);
    wait_for("it recovers", || client.borrow_mut().get(NAME, "/any").status == 200);
}

#[test]
fn case_50_idle_connections_make_room_for_clients() {
    const IDLE: usize = 8;
    let origin = Origin::serving().start();
    let program = program(&origin);
    let mut clients: Vec<_> = (0..IDLE).map(|_| program.connect()).collect();
    for client in &mut clients {
        client.send(format!("GET /hold HTTP/1.1\r\nHost: {NAME}\r\n\r\n"));
    }
    origin.wait_for("all are in flight", |record| record.request_count == IDLE);
    origin.release();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    while origin.read(|record| record.open) > IDLE / 2 {
        let mut client = program.connect();
        assert_eq!(client.get("nobody.test", "/any").status, 404, "nobody is left waiting");
        clients.push(client);
        assert!(clients.len() < LIMIT, "no idle connection closed");
    }
    assert!(!refusals(&program).is_empty(), "they closed for another reason");
    drop(clients);
    assert_eq!(program.status(), 200);
}
