//! The program's standard error has a reader that stalls: requests go on, and the lost lines are counted in the log.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
};

use serde_json::{Value, json};

use crate::support::{
    authority::{Authority, certificates_pem},
    client::Client,
    wait_for,
};

/// Far more requests than a pipe and the log's queue have room for lines.
const REQUESTS: usize = 4_000;

/// The program with a pipe as standard error; killed when dropped.
struct Program {
    child: Child,
    log: BufReader<ChildStderr>,
    /// The listener that the one upstream dials, and that never answers.
    upstream: TcpListener,
    _folder: tempfile::TempDir,
}

impl Program {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let trust = folder.path().join("trust.pem");
        fs::write(&trust, certificates_pem(&[Authority::shared().certificate().clone()])).unwrap();
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = upstream.local_addr().unwrap().to_string();
        let configuration = json!({
            "log": { "format": "json", "access": "errors", "accessRate": 0 },
            "metrics": { "bind": ["127.0.0.1:0"] },
            "admin": { "bind": ["127.0.0.1:0"] },
            "listeners": [{ "bind": ["127.0.0.1:0"] }],
            "upstreams": [{ "name": "a", "endpoints": [endpoint], "tls": { "trust": trust } }],
        });
        let file = folder.path().join("warmline.yaml");
        fs::write(&file, configuration.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_warmline"));
        command.arg("run").arg("--config").arg(file).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log, upstream, _folder: folder }
    }

    /// Reads the log up to the line that names the ports; connects to the first listener.
    fn serving(&mut self) -> Client {
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "it ended");
            let line: Value = serde_json::from_str(&line).unwrap();
            if let Some(traffic) = line["traffic"].as_str() {
                return Client::connect(traffic.parse().unwrap());
            }
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let child = std::cell::RefCell::new(&mut self.child);
        wait_for("its end", || child.borrow_mut().try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fill(client: &mut Client) {
    for _ in 0..REQUESTS {
        assert_eq!(client.get("unknown.test", "/any").status, 404);
    }
}

#[test]
fn requests_go_on_while_nobody_reads_the_log_and_a_later_line_says_how_many_lines_were_lost() {
    let mut program = Program::start();
    fill(&mut program.serving());
    program.signal(rustix::process::Signal::TERM);
    let mut log = String::new();
    program.log.read_to_string(&mut log).unwrap();
    assert_eq!(program.ended().code(), Some(0));
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let access = lines.iter().filter(|line| line["target"] == "warmline::access").count();
    let lost: u64 = lines.iter().filter_map(|line| line["lost"].as_u64()).sum();
    assert!(lost > 0, "nothing was lost: this test shows nothing");
    assert!(access as u64 + lost >= REQUESTS as u64, "{access} lines, {lost} lost");
}

#[test]
fn a_second_signal_ends_it_at_once_although_nobody_reads_the_log() {
    let mut program = Program::start();
    let mut client = program.serving();
    fill(&mut client);
    // A request in flight keeps the drain from ending.
    client.send("GET /any HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let _dial = program.upstream.accept().unwrap();
    program.signal(rustix::process::Signal::TERM);
    program.signal(rustix::process::Signal::INT);
    let status = program.ended();
    assert!([Some(130), Some(143)].contains(&status.code()), "{status}");
}
