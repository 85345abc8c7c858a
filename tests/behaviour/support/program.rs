//! The program itself, in a process of its own, for tests whose effect on the whole process no other test could bear.

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

use super::{
    client::{Client, Response},
    origin::{NAME, Origin},
    setup::Setup,
    wait_for,
};

/// The program before one or more origins; killed when dropped.
pub struct Program {
    /// The process.
    pub child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    setup: Setup,
}

impl Program {
    /// Starts the program before this origin by a line of shell in which `$0` is the program and `$1` its
    /// configuration.
    pub fn start(origin: &Origin, line: &str) -> Self {
        Self::run(Self::setup(&[(NAME, origin)]), line)
    }

    /// Starts the program before several origins, each behind a host of its own, by such a line.
    pub fn before(origins: &[(&str, &Origin)], line: &str) -> Self {
        Self::run(Self::setup(origins), line)
    }

    /// Makes a configuration with these origins that the program can read in a process of its own.
    pub fn setup(origins: &[(&str, &Origin)]) -> Setup {
        let setup = Setup::new().set_global("log.format", "json").set_global("log.level", "info");
        origins.iter().fold(setup, |setup, (host, origin)| {
            let name = format!("origin-{}", origin.port());
            setup
                .upstream_at(&name, &format!("127.0.0.1:{}", origin.port()))
                .set("hosts", vec![*host])
                .set("tls.serverName", NAME)
        })
    }

    /// Starts the program with this configuration by such a line.
    pub fn run(setup: Setup, line: &str) -> Self {
        fs::write(file(&setup), setup.text()).unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).arg(env!("CARGO_BIN_EXE_warmline")).arg(file(&setup));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
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

    /// Puts another number of clients in force (`limits.connections`), and waits until the log says so.
    pub fn allow_clients(&self, most: usize) {
        self.reconfigure(|document| {
            document["listeners"][0]["limits"]["connections"] = most.into();
        });
    }

    /// Puts a changed configuration in force, and waits until the log says so.
    pub fn reconfigure(&self, change: impl FnOnce(&mut Value)) {
        // A program that still starts would read the changed configuration as its first.
        self.address("traffic");
        let mut document: Value = serde_json::from_str(&self.setup.text()).unwrap();
        change(&mut document);
        let applied = self.said("changed configuration is in force").len();
        fs::write(file(&self.setup), document.to_string()).unwrap();
        wait_for("it is in force", || {
            self.said("changed configuration is in force").len() > applied
        });
    }

    /// Sends the process a signal, such as `-HUP`.
    pub fn signal(&self, signal: &str) {
        // The shell's own: a small system has no program of this name.
        let id = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill \"$0\" \"$1\"", signal, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Returns a value of the process's memory from the kernel, such as `VmHWM:`, in KiB.
    pub fn memory(&self, word: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(word)).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// Returns the log lines whose message contains these words.
    pub fn said(&self, words: &str) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        let said = |line: &&Value| line["message"].as_str().is_some_and(|m| m.contains(words));
        lines.iter().filter(said).cloned().collect()
    }

    /// True if the program wrote a line outside its log that begins with these words.
    pub fn printed(&self, words: &str) -> bool {
        let lines = self.lines.lock().unwrap();
        lines.iter().any(|line| line.as_str().is_some_and(|line| line.starts_with(words)))
    }

    /// Returns the access lines.
    pub fn access_lines(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line["target"] == "warmline::access").cloned().collect()
    }

    /// Waits for the line with the ports; returns the first address of `traffic`, `metrics` or `admin`.
    pub fn address(&self, what: &str) -> SocketAddr {
        let find = || {
            let lines = self.lines.lock().unwrap();
            lines.iter().find_map(|line| line[what].as_str()?.split(' ').next()?.parse().ok())
        };
        wait_for("the line that names the port", || find().is_some());
        find().unwrap()
    }

    /// Connects to the address for traffic.
    pub fn connect(&self) -> Client {
        Client::connect(self.address("traffic"))
    }

    /// Gets a page from the address for metrics and health.
    pub fn health(&self, path: &str) -> Response {
        Client::connect(self.address("metrics")).get("localhost", path)
    }

    /// Returns the status of a GET over a new client connection.
    pub fn status(&self) -> u16 {
        self.connect().get(NAME, "/any").status
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
