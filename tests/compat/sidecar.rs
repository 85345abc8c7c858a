//! This version of the program with the example configuration of 0.1.0, before an origin on this machine.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use warmline::demo::{authority::Authority, origin::Origin};

use crate::{kept, metrics::Metrics};

/// A running sidecar; killed when dropped.
pub(crate) struct Sidecar {
    child: Child,
    traffic: SocketAddr,
    metrics: SocketAddr,
    admin: SocketAddr,
    _origin: Origin,
    _folder: TempDir,
}

/// The status and body of an HTTP response.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// The time that a test waits for an event before it fails; nothing here takes a tenth of that.
const PATIENCE: Duration = Duration::from_mins(1);
/// The pause between two checks of an awaited condition.
const LOOK: Duration = Duration::from_millis(10);
const HOST: &str = "api.payments.example";
/// Another upstream beside the example's, at a port where nothing listens.
const DOWN: &str = "\n  - name: down\n    hosts: [down.example]\n    endpoints: [\"127.0.0.1:1\"]\n    retries: { max: 1 }\n";

impl Sidecar {
    /// Starts a sidecar and sends it four requests: a good one over a new connection, one over the same connection, one
    /// to an upstream that is down, and one to an unknown host.
    pub(crate) fn used() -> Self {
        let sidecar = Self::start();
        for (host, status) in
            [(HOST, 200), (HOST, 200), ("down.example", 502), ("nowhere.example", 404)]
        {
            let answer = get(sidecar.traffic, host, "/");
            assert_eq!(answer.status, status, "{host}: {}", answer.body);
        }
        sidecar
    }

    /// Gets a page from the port for metrics and health.
    pub(crate) fn metrics(&self, path: &str) -> Answer {
        get(self.metrics, "localhost", path)
    }

    /// Gets the metrics, again and again until they have all series of `wanted` or time is up: the end of a connection
    /// is counted a moment after its answer.
    pub(crate) fn metrics_with(&self, wanted: &Metrics) -> Metrics {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = Metrics::parse(&self.metrics("/metrics").body);
            if metrics.lacks(wanted).is_empty() || Instant::now() > deadline {
                return metrics;
            }
            thread::sleep(LOOK);
        }
    }

    /// Gets a page from the administrator's port.
    pub(crate) fn admin(&self, path: &str) -> Answer {
        get(self.admin, "localhost", path)
    }

    fn start() -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new().unwrap());
        write_certificates(&folder, &authority);
        let origin =
            Origin::start(&authority, &authority.server(HOST).unwrap(), Duration::ZERO).unwrap();
        let file = folder.path().join("warmline.yaml");
        fs::write(&file, configuration(&folder, origin.address())).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_warmline"))
            .arg("run")
            .arg("--config")
            .arg(file)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let serving = serving(&mut child);
        let address = |key: &str| {
            let list = serving[key].as_str().unwrap();
            list.split(' ').next().unwrap().parse().unwrap()
        };
        let (traffic, metrics, admin) = (address("traffic"), address("metrics"), address("admin"));
        Self { child, traffic, metrics, admin, _origin: origin, _folder: folder }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_certificates(folder: &TempDir, authority: &Authority) {
    let client = authority.client("application").unwrap();
    for (name, content) in [
        ("trust/ca.crt", authority.certificate_pem()),
        ("identity/tls.crt", client.certificate_pem()),
        ("identity/tls.key", client.key_pem()),
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Returns the example as it was, with this run's values: free ports, the folder, the origin's address.
fn configuration(folder: &TempDir, origin: SocketAddr) -> String {
    let (folder, origin) = (format!("{}/", folder.path().display()), format!("[\"{origin}\"]"));
    let places = [
        ("[\"[::]:13320\"]", "[\"127.0.0.1:0\"]"),
        ("[\"127.0.0.1:13321\"]", "[\"127.0.0.1:0\"]"),
        ("[\"127.0.0.1:13301\", \"[::1]:13301\"]", "[\"127.0.0.1:0\"]"),
        ("port: 13401", "port: 0"),
        ("/etc/warmline/", &folder),
        ("[\"api.payments.example:443\"]", &origin),
    ];
    let example = places.iter().fold(kept("example.yaml"), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    example + DOWN
}

/// Returns the log line with the addresses; later lines are read and dropped.
fn serving(child: &mut Child) -> Value {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut seen = Vec::new();
    let line = lines.by_ref().find(|line| {
        seen.push(line.clone());
        line.contains("warmline is serving")
    });
    let line = line.unwrap_or_else(|| panic!("it does not serve:\n{}", seen.join("\n")));
    thread::spawn(move || lines.for_each(drop));
    serde_json::from_str(&line).unwrap()
}

fn get(address: SocketAddr, host: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), body: body.to_owned() }
}
