//! OpenSSL's `s_server`: it serves one connection at a time, ends it after one response, and says in the response
//! whether the session was new or reused. So each request shows one handshake.

use std::{process::Command, thread};

use crate::{
    certificates::Certificates,
    curl::{self, Answer},
    process::{Running, free_port, program},
    sidecar::Sidecar,
};

const TLS_1_2_SESSION_IDS: &[&str] = &["-tls1_2", "-no_ticket"];
const TLS_1_2_TICKETS: &[&str] = &["-tls1_2"];
const TLS_1_3_TICKETS: &[&str] = &["-tls1_3"];
const TLS_1_3_SESSIONS_IN_THE_SERVER: &[&str] = &["-tls1_3", "-no_ticket"];

/// Starts a server that answers each request with a page about its session.
pub(crate) fn s_server(certificates: &Certificates, port: u16, options: &[&str]) -> Running {
    let server = certificates.server();
    let mut command = Command::new(program("openssl"));
    command.args(["s_server", "-www", "-accept", &format!("127.0.0.1:{port}")]);
    command.arg("-cert").arg(server.certificate).arg("-key").arg(server.key);
    command.arg("-CAfile").arg(certificates.trust()).args(["-verify_return_error", "-Verify", "1"]);
    let mut running = Running::start(command.args(options));
    running.line_with("ACCEPT");
    running
}

/// Makes six requests one after the other; returns for each whether its session was new or reused.
fn six_handshakes(sidecar: &mut Sidecar) -> Vec<&'static str> {
    (0..6).map(|_| handshake(sidecar)).collect()
}

fn handshake(sidecar: &mut Sidecar) -> &'static str {
    let answer = sidecar.get("/");
    assert_eq!(answer.status, 200, "{answer:?}\n{}", sidecar.log());
    let told = |word| answer.body.lines().any(|line| line.starts_with(word));
    match (told("Reused, "), told("New, ")) {
        (true, false) => "reused",
        (false, true) => "new",
        _ => panic!("the page of s_server does not say whether the session is new: {answer:?}"),
    }
}

fn every_reconnect_resumes(options: &[&str]) {
    let certificates = Certificates::generate();
    let port = free_port();
    let _server = s_server(&certificates, port, options);
    let mut sidecar = Sidecar::start(&certificates, port, Some(&certificates.client()), "");
    let seen = six_handshakes(&mut sidecar);
    assert_eq!(seen, ["new", "reused", "reused", "reused", "reused", "reused"]);
    assert_eq!(counted(&sidecar, "full"), 1);
    assert_eq!(counted(&sidecar, "resumed"), 5);
}

fn counted(sidecar: &Sidecar, result: &str) -> u64 {
    sidecar.counter("warmline_tls_handshakes_total", &format!("result=\"{result}\""))
}

#[test]
fn every_reconnect_to_openssl_resumes_with_tls_1_2_session_ids() {
    every_reconnect_resumes(TLS_1_2_SESSION_IDS);
}

#[test]
fn every_reconnect_to_openssl_resumes_with_tls_1_2_tickets() {
    every_reconnect_resumes(TLS_1_2_TICKETS);
}

#[test]
fn every_reconnect_to_openssl_resumes_with_tls_1_3_tickets() {
    every_reconnect_resumes(TLS_1_3_TICKETS);
}

#[test]
fn every_reconnect_to_openssl_resumes_with_tls_1_3_and_sessions_kept_in_the_server() {
    every_reconnect_resumes(TLS_1_3_SESSIONS_IN_THE_SERVER);
}

#[test]
fn openssl_without_sessions_shows_that_a_full_handshake_is_told_as_one() {
    let certificates = Certificates::generate();
    let port = free_port();
    let _server = s_server(&certificates, port, &["-tls1_2", "-no_ticket", "-no_cache"]);
    let mut sidecar = Sidecar::start(&certificates, port, Some(&certificates.client()), "");
    assert_eq!(six_handshakes(&mut sidecar), ["new"; 6]);
    assert_eq!(counted(&sidecar, "resumed"), 0);
}

fn sessions_that_a_restarted_server_refuses_are_counted(options: &[&str]) {
    let certificates = Certificates::generate();
    let port = free_port();
    let first = s_server(&certificates, port, options);
    let mut sidecar = Sidecar::start(&certificates, port, Some(&certificates.client()), "");
    assert_eq!(handshake(&mut sidecar), "new");
    drop(first);
    let _second = s_server(&certificates, port, options);
    assert_eq!(handshake(&mut sidecar), "new");
    assert_eq!(handshake(&mut sidecar), "reused");
    let results = ["full", "refused", "resumed"].map(|result| counted(&sidecar, result));
    assert_eq!(results, [1, 1, 1], "full, refused, resumed\n{}", sidecar.log());
}

#[test]
fn a_session_that_a_restarted_openssl_refuses_is_counted_as_refused_on_tls_1_2() {
    sessions_that_a_restarted_server_refuses_are_counted(TLS_1_2_TICKETS);
}

#[test]
fn a_session_that_a_restarted_openssl_refuses_is_counted_as_refused_on_tls_1_3() {
    sessions_that_a_restarted_server_refuses_are_counted(TLS_1_3_TICKETS);
}

/// Starts a server that prints what it receives, sends what is typed, and takes commands: `R` asks for another
/// handshake.
fn typed(certificates: &Certificates, port: u16, options: &[&str]) -> Running {
    let server = certificates.server();
    let mut command = Command::new(program("openssl"));
    command.args(["s_server", "-accept", &format!("127.0.0.1:{port}")]);
    command.arg("-cert").arg(server.certificate).arg("-key").arg(server.key);
    let mut running = Running::start_listening(command.args(options));
    running.line_with("ACCEPT");
    running
}

/// Makes a request by `ask` to a server that `serve` has ask for renegotiation: the answer has to say so, and the
/// request must not be sent a second time.
fn renegotiation_is_told_at_once(
    ask: impl FnOnce(u16) -> Answer + Send,
    serve: impl FnOnce(&mut Running),
) {
    let certificates = Certificates::generate();
    let port = free_port();
    let mut server = typed(&certificates, port, &["-tls1_2"]);
    let mut sidecar = Sidecar::start(&certificates, port, None, "");
    let traffic = sidecar.port();
    let answer = thread::scope(|scope| {
        let asking = scope.spawn(move || ask(traffic));
        serve(&mut server);
        server.say("R\n");
        asking.join().expect("an answer")
    });
    assert_eq!(answer.status, 502, "{}", sidecar.log());
    assert!(answer.body.contains("asked for another TLS handshake (renegotiation)"), "{answer:?}");
    assert_eq!(sidecar.counter("warmline_pool_connections_opened_total", ""), 1);
    assert_eq!(sidecar.counter("warmline_retries_total", ""), 0);
}

#[test]
fn fault_17_a_server_that_asks_for_renegotiation_gets_none_and_the_answer_says_so_at_once() {
    renegotiation_is_told_at_once(
        |port| curl::get(port, "/any"),
        |server| drop(server.line_with("GET /any")),
    );
}

#[test]
fn fault_17_a_server_that_takes_the_body_first_and_then_asks_for_renegotiation_is_told_as_what_it_is()
 {
    renegotiation_is_told_at_once(
        |port| curl::post_when_asked(port, "/any", "the body\n"),
        |server| {
            server.line_with("POST /any");
            server.say("HTTP/1.1 100 Continue\n\n");
            server.line_with("the body");
        },
    );
}

#[test]
fn case_25_ten_thousand_tickets_of_openssl_are_read_and_a_few_of_them_kept() {
    let certificates = Certificates::generate();
    let port = free_port();
    let _server = s_server(&certificates, port, &["-tls1_3", "-num_tickets", "10000"]);
    let mut sidecar = Sidecar::start(&certificates, port, Some(&certificates.client()), "");
    let before = sidecar.gauge("process_resident_memory_bytes");
    assert!(before > 0, "its memory is not told");
    assert_eq!(six_handshakes(&mut sidecar)[1..], ["reused"; 5]);
    let grown = sidecar.gauge("process_resident_memory_bytes").saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for 60,000 tickets");
}
