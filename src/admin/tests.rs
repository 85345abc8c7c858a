//! Tests of both ports over real sockets, and the state that the tests of this module's parts use.

use std::{io, net::Ipv4Addr, path::Path, time::Duration};

use axum::{Router, routing::get};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
};

use super::{serve::Limits, *};
use crate::{
    clients::Bounds,
    config::{self, Context, Files, Plan, Source},
    telemetry::{
        Counter,
        log::{self, Access, AccessSwitch},
    },
    tls::{self, Identity, Trust, trust::TrustError},
    upstream::{Exchanges, fixture},
};

/// The end of the certificates that [`credentials`] makes: 2031-02-03 00:00:00 UTC, in seconds since 1970.
pub(super) const NOT_AFTER: u64 = 1_927_843_200;
/// The beginning of these certificates: 2021-02-03 00:00:00 UTC, in seconds since 1970.
pub(super) const NOT_BEFORE: u64 = 1_612_310_400;

/// Makes a self-signed certificate and its key, in PEM.
pub(super) fn credentials() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["a.example".into()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "<b>a.example</b>");
    params.not_before = rcgen::date_time_ymd(2021, 2, 3);
    params.not_after = rcgen::date_time_ymd(2031, 2, 3);
    let certificate = params.self_signed(&key).unwrap().pem();
    (certificate, key.serialize_pem())
}

fn tls_settings() -> tls::Settings {
    let (certificate, key) = credentials();
    let now = SystemTime::now();
    let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes(), now);
    let name = ServerName::try_from("a.example").unwrap();
    let trust = Trust::from_pem(certificate.as_bytes()).unwrap();
    tls::Settings::new(None, name, Arc::new(trust), Some(Arc::new(identity.unwrap())))
}

/// Makes a state with unused upstreams of these names.
pub(super) fn state(names: &[&str]) -> Arc<State> {
    state_of(plan(), names)
}

/// Makes the same state with this plan in force.
pub(super) fn state_of(plan: Plan, names: &[&str]) -> Arc<State> {
    follow(plan, names, None)
}

/// Makes a state with the example configuration in force.
pub(super) fn example() -> Arc<State> {
    state_of(Memory::new().compile(config::example()), &[])
}

/// Files in memory: every path leads to the certificate or, if it ends with `.key`, to the key.
pub(super) struct Memory {
    certificate: String,
    pub key: String,
}

impl Memory {
    pub(super) fn new() -> Self {
        let (certificate, key) = credentials();
        Self { certificate, key }
    }

    pub(super) fn compile(&self, text: &str) -> Plan {
        let context = Context::new("the test", self, SystemTime::now());
        config::compile(text, &context).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let key = path.extension().is_some_and(|extension| extension == "key");
        Ok(if key { self.key.clone() } else { self.certificate.clone() }.into_bytes())
    }

    fn system_trust(&self) -> Result<Trust, TrustError> {
        Trust::from_pem(self.certificate.as_bytes())
    }
}

fn follow(plan: Plan, names: &[&str], follower: Option<Follower>) -> Arc<State> {
    let ends: Arc<Ends> = Arc::default();
    let upstream = |name: &&str| {
        Upstream::new(Arc::new(fixture::settings(name, tls_settings())), 1, None, Arc::clone(&ends))
            .unwrap()
    };
    let upstreams: Vec<_> = names.iter().map(upstream).collect();
    let proxy = Arc::new(Proxy {
        access: AccessSwitch::new(Access::Off),
        pools: "http://127.0.0.1:13321/pools".into(),
        unrouted: Exchanges::default(),
        cut_off: Counter::default(),
    });
    let configuration =
        ConfigurationStatus::new(plan, "00112233aabbccdd".into(), SystemTime::UNIX_EPOCH);
    let state = State::new(
        proxy,
        ends,
        Arc::default(),
        configuration,
        Arc::default(),
        Drain::default(),
        follower,
    );
    state.follow(&upstreams);
    state
}

/// Makes a plan without listeners and upstreams.
pub(super) fn plan() -> Plan {
    let log = log::Settings { access: Access::Off, ..log::Settings::by_default(true) };
    Plan::new(Vec::new(), Vec::new(), log)
}

/// A port that is served until the value is dropped.
struct Port {
    address: std::net::SocketAddr,
    served: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Port {
    fn open<F>(serve: impl FnOnce(TcpListener) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, served: tokio::spawn(serve(listener)) }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request and returns the whole answer, up to the connection's end.
    async fn answer(&self, line: &str, host: &str) -> String {
        let mut stream = self.connect().await;
        let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        to_end(&mut stream).await
    }
}

async fn to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("in time").unwrap();
    String::from_utf8(answer).unwrap()
}

fn starts(answer: &str, status: u16) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} "))
}

#[tokio::test]
async fn readiness_follows_start_and_drain_while_liveness_stays() {
    let state = state(&["payments"]);
    let port = Port::open(|listener| serve_metrics(listener, Arc::clone(&state), OPERATORS));
    let asked = async |path: &str| port.answer(&format!("GET {path}"), "10.0.0.5:13320").await;
    assert!(starts(&asked("/readyz").await, 503) && starts(&asked("/startupz").await, 503));
    assert!(asked("/readyz").await.contains("[-]listeners failed"), "a failure says why unasked");
    state.readiness.set_started();
    assert!(asked("/readyz").await.ends_with("\r\n\r\nok\n"));
    assert!(asked("/readyz?verbose").await.ends_with("[+]drain ok\nreadyz check passed\n"));
    assert!(starts(&asked("/startupz").await, 200));
    state.drain.begin();
    let draining = asked("/readyz").await;
    assert!(starts(&draining, 503) && draining.contains("[-]drain failed"), "{draining}");
    assert!(starts(&asked("/startupz").await, 200) && starts(&asked("/livez").await, 200));
}

#[tokio::test]
async fn metrics_are_served_as_prometheus_wants_them() {
    let port = Port::open(|listener| serve_metrics(listener, state(&["payments"]), OPERATORS));
    let answer = port.answer("GET /metrics", "any.example").await;
    assert!(starts(&answer, 200), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(answer.contains("warmline_pool_connections{upstream=\"payments\",state=\"idle\"} 0\n"));
}

#[tokio::test]
async fn administration_is_served_to_loopback_names_only_case_35() {
    let port = Port::open(|listener| serve_admin(listener, state(&["payments"]), OPERATORS));
    assert!(starts(&port.answer("GET /pools", "localhost:13321").await, 200));
    for line in ["GET /pools", "GET /", "GET /none", "POST /pools", "GET http://localhost/pools"] {
        let answer = port.answer(line, "rebound.example").await;
        assert!(starts(&answer, 403) && answer.contains("\"rebound.example\""), "{line}: {answer}");
    }
}

#[tokio::test]
async fn the_page_comes_as_text_or_as_json() {
    let port = Port::open(|listener| serve_admin(listener, state(&["payments"]), OPERATORS));
    let text = port.answer("GET /pools", "localhost").await;
    assert!(text.contains("content-type: text/plain") && text.contains("\npayments  ("), "{text}");
    let accept = "localhost\r\nAccept: application/json";
    for (line, host) in [("GET /pools?format=json", "localhost"), ("GET /pools", accept)] {
        let answer = port.answer(line, host).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: application/json"), "{head}");
        let page: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(page["upstreams"][0]["name"], "payments");
    }
    assert!(starts(&port.answer("GET /pools?format=xml", "localhost").await, 400));
}

#[tokio::test]
async fn only_reading_is_served_and_a_lost_visitor_is_shown_around() {
    let metrics = Port::open(|listener| serve_metrics(listener, state(&[]), OPERATORS));
    let admin = Port::open(|listener| serve_admin(listener, state(&[]), OPERATORS));
    for (port, path) in [(&metrics, "/metrics"), (&admin, "/pools"), (&admin, "/plan")] {
        let posted = port.answer(&format!("POST {path}"), "localhost").await;
        assert!(starts(&posted, 405) && posted.contains("allow: GET,HEAD\r\n"), "{posted}");
        let head = port.answer(&format!("HEAD {path}"), "localhost").await;
        assert!(starts(&head, 200) && head.ends_with("\r\n\r\n"), "{head}");
        let lost = port.answer("GET /stats", "localhost").await;
        assert!(starts(&lost, 404) && lost.contains(path), "{lost}");
        let index = port.answer("GET /", "localhost").await;
        assert!(starts(&index, 200) && index.contains(path), "{index}");
    }
    let index = metrics.answer("GET /", "localhost").await;
    assert!(
        index.contains("/readyz     503 until warm connections are there, and in the drain"),
        "{index}"
    );
}

/// Makes the state of a process that follows a file, and the receiver of the asks to look at the file.
fn following() -> (Arc<State>, tokio::sync::mpsc::Receiver<LookRequest>) {
    let (follower, asks) = Follower::new(&Source::file(Path::new("/etc/warmline/config.yaml")));
    (follow(plan(), &["payments"], Some(follower)), asks)
}

#[tokio::test]
async fn the_page_is_html_under_a_policy_that_lets_nothing_else_in() {
    let port = Port::open(|listener| serve_admin(listener, state(&["payments"]), OPERATORS));
    let page = port.answer("GET /", "localhost").await;
    assert!(page.contains("content-type: text/html; charset=utf-8\r\n"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'; "), "{page}");
    for asset in ["/page.css", "/page.js", "/icon.svg"] {
        assert!(page.contains(&format!("\"{asset}\"")), "{page}");
        assert!(starts(&port.answer(&format!("GET {asset}"), "localhost").await, 200), "{asset}");
    }
}

#[tokio::test]
async fn certificates_and_the_plan_come_as_text_or_as_json() {
    let port = Port::open(|listener| serve_admin(listener, example(), OPERATORS));
    for (path, text, key) in [
        ("/certificates", "not asked for so far by payments  (/etc/", "certificates"),
        ("/plan", "purgeDelay: 30s", "plan"),
    ] {
        let told = port.answer(&format!("GET {path}"), "localhost").await;
        assert!(told.contains(text), "{told}");
        let json = port.answer(&format!("GET {path}?format=json"), "localhost").await;
        let (_, body) = json.split_once("\r\n\r\n").unwrap();
        let page: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(!page[key].is_null(), "{page}");
    }
}

#[tokio::test]
async fn every_view_tells_what_was_refused_until_it_is_replaced() {
    let state = state(&["payments"]);
    state.readiness.set_started();
    let admin = Port::open(|listener| serve_admin(listener, Arc::clone(&state), OPERATORS));
    let metrics = Port::open(|listener| serve_metrics(listener, Arc::clone(&state), OPERATORS));
    let views = ["/pools", "/certificates", "/plan"];
    let all = async || {
        let mut all = metrics.answer("GET /readyz?verbose", "localhost").await;
        for view in views {
            all += &admin.answer(&format!("GET {view}"), "localhost").await;
        }
        all.to_lowercase().replace("0 refused", "")
    };
    assert!(!all().await.contains("refused"), "nothing is refused yet");
    let since = SystemTime::UNIX_EPOCH;
    state.configuration.rejected(Some("5a".into()), "c.yaml:3:1: no\nc.yaml:4:1: \x1b", since);
    let unusable = config::UnusableFiles { files: vec!["/tls.crt".into()], reason: "over".into() };
    state.configuration.stale(&[unusable], since);
    for (view, lead) in views.into_iter().zip(["", "", "# "]) {
        let text = admin.answer(&format!("GET {view}"), "localhost").await;
        for told in [
            format!("\n{lead}REFUSED since 1970-01-01 00:00:00 UTC ("),
            format!("): c.yaml:3:1: no\n{lead}  c.yaml:4:1: \\u{{1b}}\n{lead}REFUSED since "),
            "): over\n".into(),
        ] {
            assert!(text.contains(&told), "{told:?}: {text}");
        }
        let json = admin.answer(&format!("GET {view}?format=json"), "localhost").await;
        let (_, body) = json.split_once("\r\n\r\n").unwrap();
        let refused = &serde_json::from_str::<serde_json::Value>(body).unwrap()["refused"];
        assert_eq!(refused["configuration"]["hash"], "5a", "{view}");
        assert_eq!(refused["credentials"][0]["reason"], "over", "{view}");
    }
    let ready = metrics.answer("GET /readyz?verbose", "localhost").await;
    let told = "refused since 1970-01-01 00:00:00 UTC; the page, /pools and the log say why)\n";
    assert!(starts(&ready, 200), "a refused change makes nothing unready: {ready}");
    assert!(ready.contains(&format!("[+]configuration ok (a newer one is {told}")), "{ready}");
    assert!(ready.contains(&format!("[+]credentials ok (changed files are {told}")), "{ready}");
    state.configuration.accepted();
    state.configuration.stale(&[], since);
    assert!(!all().await.contains("refused since"));
}

#[tokio::test]
async fn acts_are_served_to_post_alone() {
    let port = Port::open(|listener| serve_admin(listener, state(&["payments"]), OPERATORS));
    for path in ["/upstreams/payments/flush", "/upstreams/payments/drain", "/reload"] {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let answer = port.answer(&format!("{method} {path}"), "localhost").await;
            assert!(starts(&answer, 405) && answer.contains("allow: POST\r\n"), "{answer}");
        }
    }
    let flushed = port.answer("POST /upstreams/payments/flush", "localhost").await;
    assert!(
        starts(&flushed, 200) && flushed.ends_with("flush payments: 0 idle connections closed\n")
    );
    let lost = port.answer("POST /upstreams/nobody/flush", "localhost").await;
    assert!(starts(&lost, 404) && lost.contains("there are: payments\n"), "{lost}");
}

#[tokio::test]
async fn a_verb_from_a_foreign_page_is_refused_and_does_nothing() {
    let state = state(&["payments"]);
    let port = Port::open(|listener| serve_admin(listener, Arc::clone(&state), OPERATORS));
    let own = format!("localhost:{}", port.address.port());
    for field in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let answer = port.answer("POST /reload", &format!("{own}\r\n{field}")).await;
        assert!(starts(&answer, 403) && answer.contains("comes from another page"), "{answer}");
    }
    assert_eq!(state.acts.snapshot(), []);
    let from_own = format!("{own}\r\nOrigin: http://{own}\r\nSec-Fetch-Site: same-origin");
    let answer = port.answer("POST /upstreams/payments/drain", &from_own).await;
    assert!(starts(&answer, 200), "{answer}");
    assert_eq!(state.acts.snapshot()[0].what.what, "drain payments");
}

#[tokio::test]
async fn a_browser_goes_back_to_the_page_where_the_act_stands() {
    let port = Port::open(|listener| serve_admin(listener, state(&["payments"]), OPERATORS));
    let browser = "localhost\r\nAccept: text/html,*/*";
    let answer = port.answer("POST /upstreams/payments/flush", browser).await;
    assert!(starts(&answer, 303) && answer.contains("location: /\r\n"), "{answer}");
    assert!(port.answer("GET /", "localhost").await.contains("<b>flush payments</b>"));
}

#[tokio::test]
async fn a_reload_answers_what_the_look_came_to() {
    let (state, mut asks) = following();
    let port = Port::open(|listener| serve_admin(listener, state, OPERATORS));
    let looks = [
        (LookOutcome::Applied, 200, "applied"),
        (LookOutcome::Unchanged, 200, "unchanged"),
        (LookOutcome::Refused("config.yaml:1:1: no".into()), 422, "config.yaml:1:1: no"),
    ];
    for (looked, status, told) in looks {
        let asked = async { asks.recv().await.unwrap().send(looked).unwrap() };
        let (answer, ()) = tokio::join!(port.answer("POST /reload", "localhost"), asked);
        assert!(starts(&answer, status) && answer.contains(told), "{answer}");
    }
    drop(asks);
    assert!(
        starts(&port.answer("POST /reload", "localhost").await, 409),
        "nobody follows any more"
    );
}

#[tokio::test]
async fn a_process_without_a_file_says_that_there_is_nothing_to_reload() {
    let port = Port::open(|listener| serve_admin(listener, state(&[]), OPERATORS));
    let answer = port.answer("POST /reload", "localhost").await;
    assert!(starts(&answer, 409) && answer.contains("follows no file"), "{answer}");
}

const PATIENT: Limits = Limits {
    clients: at_most(1),
    header: Duration::from_secs(20),
    age: Duration::from_secs(20),
    finish: Duration::from_secs(20),
};
const SOON: Duration = Duration::from_millis(250);

const fn at_most(most: usize) -> Bounds {
    Bounds { most, arriving: SOON, asking: SOON }
}

/// Makes routes of which `/` answers more than all socket buffers hold.
fn large() -> Router {
    Router::new().route("/", get(async || vec![b'x'; 64 << 20])).route("/small", get(async || "ok"))
}

#[tokio::test]
async fn a_header_that_does_not_end_ends_the_connection_and_frees_its_place() {
    let limits = Limits { header: SOON, ..PATIENT };
    let port = Port::open(|listener| serve::serve(listener, large(), limits));
    let mut slow = port.connect().await;
    slow.write_all(b"GET /small HTTP/1.1\r\nHost: a").await.unwrap();
    assert!(!to_end(&mut slow).await.contains("200"));
    assert!(starts(&port.answer("GET /small", "a").await, 200), "the only place is free again");
}

#[tokio::test]
async fn a_crowd_that_never_ends_its_headers_keeps_nobody_out() {
    let limits = Limits { clients: at_most(2), ..PATIENT };
    let port = Port::open(|listener| serve::serve(listener, large(), limits));
    let mut crowd = Vec::new();
    for _ in 0..8 {
        let mut one = port.connect().await;
        one.write_all(b"GET /small HTTP/1.1\r\nHost: a").await.unwrap();
        crowd.push(one);
    }
    assert!(starts(&port.answer("GET /small", "a").await, 200), "long before their time is over");
}

#[tokio::test]
async fn a_client_that_is_being_answered_is_not_disconnected_for_a_crowd() {
    let (asked, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let held = {
        let (asked, release) = (Arc::clone(&asked), Arc::clone(&release));
        get(async move || {
            asked.notify_one();
            release.notified().await;
            "held"
        })
    };
    let limits = Limits { clients: at_most(2), ..PATIENT };
    let router = large().route("/held", held);
    let port = Port::open(|listener| serve::serve(listener, router, limits));
    let mut waiting = port.connect().await;
    waiting.write_all(b"GET /held HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    asked.notified().await;
    let mut crowd = Vec::new();
    for _ in 0..4 {
        crowd.push(port.connect().await);
        assert!(starts(&port.answer("GET /small", "a").await, 200));
    }
    release.notify_one();
    assert!(to_end(&mut waiting).await.ends_with("held"));
}

#[tokio::test]
async fn an_idle_connection_does_not_live_for_ever() {
    let limits = Limits { age: SOON, ..PATIENT };
    let port = Port::open(|listener| serve::serve(listener, large(), limits));
    let mut idle = port.connect().await;
    idle.write_all(b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(starts(&to_end(&mut idle).await, 200), "it is answered, then closed");
}

#[tokio::test]
async fn a_client_that_reads_nothing_loses_its_place() {
    let limits = Limits { age: SOON, finish: SOON, ..PATIENT };
    let port = Port::open(|listener| serve::serve(listener, large(), limits));
    let mut deaf = port.connect().await;
    deaf.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(starts(&port.answer("GET /small", "a").await, 200));
}
