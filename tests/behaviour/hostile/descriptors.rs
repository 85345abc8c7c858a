//! Descriptors that are used up: the program itself, under a limit so low that a test reaches it. That local ports can be
//! used up too is shown beside the errors, in `src/connect/error.rs`: a test must not take a machine's last ports.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

use crate::support::{
    client::Client,
    origin::{NAME, Origin},
    setup::Setup,
    wait_for,
};

/// Of these the process takes about half for itself.
const LIMIT: usize = 64;
/// More clients than it can have.
const CROWD: usize = LIMIT + 16;
const NOT_ACCEPTED: &str = "a connection cannot be accepted";

/// The program before an origin; killed at the end.
struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    setup: Setup,
}

impl Program {
    fn start(origin: &Origin) -> Self {
        let setup = Setup::new()
            .upstream_at("origin", &format!("127.0.0.1:{}", origin.port()))
            .set("hosts", vec![NAME])
            .set("tls.serverName", NAME)
            .set_global("log.format", "json")
            .set_global("log.level", "info");
        fs::write(file(&setup), setup.text()).unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -n {LIMIT} && exec \"$0\" run --config \"$1\""));
        command.arg(env!("CARGO_BIN_EXE_warmline")).arg(file(&setup)).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&lines);
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                read.lock().unwrap().push(line);
            }
        });
        Self { child, lines, setup }
    }

    /// Puts another number of clients in force.
    fn allow_clients(&mut self, most: usize) {
        let mut document: Value = serde_json::from_str(&self.setup.text()).unwrap();
        document["listeners"][0]["limits"]["connections"] = most.into();
        let applied = self.said("changed configuration is in force").len();
        fs::write(file(&self.setup), document.to_string()).unwrap();
        wait_for("it is in force", || {
            self.said("changed configuration is in force").len() > applied
        });
    }

    /// The lines with these words in their message.
    fn said(&self, words: &str) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        let said = |line: &&Value| line["message"].as_str().is_some_and(|m| m.contains(words));
        lines.iter().filter(said).cloned().collect()
    }

    fn address(&self) -> SocketAddr {
        let find = || {
            let lines = self.lines.lock().unwrap();
            lines.iter().find_map(|line| line["traffic"].as_str()?.parse().ok())
        };
        wait_for("the line that names the port", || find().is_some());
        find().unwrap()
    }

    /// When it said that it could not accept, in seconds of the day.
    fn refusals(&self) -> Vec<f64> {
        let lines = self.lines.lock().unwrap();
        let refusals = lines.iter().filter(|line| line["message"] == NOT_ACCEPTED);
        refusals.map(|line| seconds_of_day(line["timestamp"].as_str().unwrap())).collect()
    }

    /// Clients that do nothing, until it can have no more.
    fn crowd(&self) -> Vec<Client> {
        let (address, before) = (self.address(), self.refusals().len());
        let crowd = (0..CROWD).map(|_| Client::connect(address)).collect();
        wait_for("it has no descriptor left", || self.refusals().len() > before);
        crowd
    }

    fn status(&self) -> u16 {
        Client::connect(self.address()).get(NAME, "/any").status
    }
}

fn file(setup: &Setup) -> PathBuf {
    setup.folder().join("warmline.yaml")
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
    let mut program = Program::start(&origin);
    program.address();
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
    let program = Program::start(&origin);
    let crowd = program.crowd();
    wait_for("it tried again several times", || program.refusals().len() >= 5);
    let refusals = program.refusals();
    let rests: Vec<_> = refusals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // At midnight one is negative.
    assert!(rests.iter().all(|rest| *rest > 0.09 || *rest < 0.0), "it spins: {rests:?}");
    drop(crowd);
    assert_eq!(program.status(), 200);
}

#[test]
fn case_50_without_a_descriptor_for_an_upstream_a_request_gets_503_and_the_next_is_served() {
    let origin = Origin::serving().start();
    let program = Program::start(&origin);
    let mut client = Client::connect(program.address());
    assert_eq!(client.get("nobody.test", "/any").status, 404, "it is accepted");
    let crowd = program.crowd();
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
    let program = Program::start(&origin);
    let mut clients: Vec<_> = (0..IDLE).map(|_| Client::connect(program.address())).collect();
    for client in &mut clients {
        client.send(format!("GET /hold HTTP/1.1\r\nHost: {NAME}\r\n\r\n"));
    }
    origin.wait_for("all are in flight", |record| record.request_count == IDLE);
    origin.release();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    while origin.read(|record| record.open) > IDLE / 2 {
        let mut client = Client::connect(program.address());
        assert_eq!(client.get("nobody.test", "/any").status, 404, "nobody is left waiting");
        clients.push(client);
        assert!(clients.len() < LIMIT, "no idle connection closed");
    }
    assert!(!program.refusals().is_empty(), "they closed for another reason");
    drop(clients);
    assert_eq!(program.status(), 200);
}
