//! The environment of every input, started once per process: the origin, and Warmline in front of it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use warmline::{
    app::{self, Environment},
    config::{self, Context, Files},
    connect::Resolver,
    tls::trust::{Trust, TrustError},
};

use crate::{
    client,
    origin::{NAME, Origin},
};

/// The beginning of every sane answer's body; the request's number follows.
pub const MARK: &[u8] = b"the answer to request number ";
/// The beginning of a sane request's path; its number follows.
pub const SANE: &str = "/sane/";

/// The pool's `maxConnections`.
const CAP: usize = 8;
/// The most times in a row that a sane request may meet a time limit, as the machine may be busy; more is a finding.
const TRIES: usize = 20;
/// The time limit on a sane request's answer, far above all limits of Warmline's.
const ANSWERED: Duration = Duration::from_secs(10);

/// The listener's `idleTimeout` below: a client that a busy machine holds up for so long meets it before its request is
/// read, and gets no answer.
const IDLE_TIMEOUT: Duration = Duration::from_millis(20);

/// The origin, and Warmline in front of it.
pub struct World {
    /// The origin, which answers as the current input says.
    pub origin: Origin,
    warmline: app::Running,
    asked: AtomicU64,
}

impl World {
    /// Returns the environment of this process, which the first call starts.
    pub fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(Self::start)
    }

    fn start() -> Self {
        let origin = Origin::start();
        let files = Memory(origin.trust_pem().to_owned());
        let context = Context::new("fuzz", &files, SystemTime::now());
        let document = document(origin.address());
        let plan = config::compile(&document, &context).unwrap_or_else(|errors| panic!("{errors}"));
        let resolver = Resolver::Fixed(Arc::new(|_| vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]));
        let environment = Environment { resolver: Some(resolver), ..Environment::default() };
        let warmline = app::start(&plan, environment).unwrap_or_else(|error| panic!("{error}"));
        Self { origin, warmline, asked: AtomicU64::new(0) }
    }

    /// Returns the address of Warmline's listener.
    pub fn address(&self) -> SocketAddr {
        self.warmline.listeners()[0]
    }

    /// Sends a good request, and panics unless it gets its own answer, whatever happened before.
    pub fn ask_sanely(&self) {
        for _ in 0..TRIES {
            let number = self.asked.fetch_add(1, Relaxed);
            let request =
                format!("GET {SANE}{number} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
            let begun = Instant::now();
            let answered = client::one_shot(self.address(), &request, ANSWERED);
            let text = String::from_utf8_lossy(&answered);
            // Warmline's time limits are short here; a request that meets one was not answered wrongly.
            let idled = text.is_empty() && begun.elapsed() >= IDLE_TIMEOUT;
            if idled || text.starts_with("HTTP/1.1 504 ") {
                continue;
            }
            let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "request {number}: {text}");
            assert_eq!(body.as_bytes(), sane_body(number), "request {number}: {text}");
            return;
        }
        panic!("{TRIES} sane requests in a row met a time limit");
    }

    /// Panics if the pool has more connections than its cap.
    pub fn check_cap(&self) {
        let upstream = self.warmline.upstream("origin").expect("it is configured");
        let held = upstream.pool().snapshot(Instant::now()).connections.len();
        assert!(held <= CAP, "{held} connections");
    }
}

/// Returns the body of the answer to the sane request of this number.
pub fn sane_body(number: u64) -> Vec<u8> {
    [MARK, number.to_string().as_bytes()].concat()
}

/// Returns the configuration. Its time limits are as short as a busy machine allows, as inputs that stop in the middle
/// wait for them.
fn document(origin: SocketAddr) -> String {
    let port = origin.port();
    format!(
        r#"log: {{ access: "off", level: error }}
metrics: {{ bind: ["127.0.0.1:0"] }}
admin: {{ bind: ["127.0.0.1:0"] }}
listeners:
  - bind: ["127.0.0.1:0"]
    limits: {{ headerTimeout: 20ms, idleTimeout: 20ms }}
upstreams:
  - name: origin
    hosts: [{NAME}, "*"]
    endpoints: ["{NAME}:{port}"]
    tls: {{ trust: ca.crt }}
    pool: {{ maxConnections: {CAP} }}
    timeouts: {{ connect: 1s, handshake: 1s, response: 20ms, idle: 20ms }}
    retries: {{ max: 1 }}
"#
    )
}

/// Files in memory: each holds the origin's certificate.
struct Memory(String);

impl Files for Memory {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }

    fn system_trust(&self) -> Result<Trust, TrustError> {
        Trust::from_pem(self.0.as_bytes())
    }
}
