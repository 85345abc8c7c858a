//! A Java server that drops the session of every connection that ends without `close_notify`, as some servers do:
//! behind a proxy that ends its connections abruptly they need thousands of full handshakes.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use crate::{
    certificates::{Certificates, SERVER_NAME},
    process::{Running, program},
    sidecar::Sidecar,
};

const FULL_ONCE: [&str; 6] = ["full", "resumed", "resumed", "resumed", "resumed", "resumed"];

/// A running `StrictServer.java`, and its certificates.
struct Java {
    running: Running,
    port: u16,
    certificates: Certificates,
}

impl Java {
    fn start(version: &str) -> Self {
        let certificates = Certificates::generate();
        let server = certificates.server();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/StrictServer.java");
        let mut command = Command::new(program("java"));
        command.args(["-Dcom.sun.net.ssl.requireCloseNotify=true"]);
        command.args(["-Djdk.tls.server.enableSessionTicketExtension=false"]);
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]).arg(source).arg(version);
        command.arg(server.certificate).arg(server.key).arg(certificates.trust());
        let mut running = Running::start(&mut command);
        let line = running.line_with("port=");
        let port = line["port=".len()..].parse().expect("the server prints its port");
        Self { running, port, certificates }
    }

    fn sidecar(&self, pool: &str) -> Sidecar {
        let identity = self.certificates.client();
        Sidecar::start(&self.certificates, self.port, Some(&identity), pool)
    }

    /// Waits until the next connection has ended; returns its session's outcome and the way in which the client ended.
    fn ended(&mut self) -> (String, String) {
        let line = self.running.line_with("session=");
        let field = |name: &str| {
            let found = line.split(' ').find_map(|field| field.strip_prefix(name));
            found.expect("the server prints this field").to_owned()
        };
        assert_eq!(field("client="), "CN=warmline");
        (field("session="), field("end="))
    }

    /// Makes six requests, each after the end of the connection of the one before; returns each connection's session
    /// and end.
    fn six_reconnects(&mut self, mut request: impl FnMut()) -> Vec<(String, String)> {
        let reconnect = |_| {
            request();
            self.ended()
        };
        (0..6).map(reconnect).collect()
    }
}

fn assert_resumes_every_time(java: &mut Java, pool: &str) {
    let mut sidecar = java.sidecar(pool);
    let seen = java.six_reconnects(|| assert_eq!(sidecar.get("/").status, 200));
    let (sessions, ends): (Vec<_>, Vec<_>) = seen.into_iter().unzip();
    assert_eq!(ends, ["close_notify"; 6], "{pool}\n{}", sidecar.log());
    assert_eq!(sessions, FULL_ONCE, "{pool}\n{}", sidecar.log());
}

/// Tests the three ways in which a pool ends a healthy connection, with one Java server, whose start takes a second.
fn each_close_leaves_the_session_resumable(version: &str) {
    let mut java = Java::start(version);
    for pool in ["idleTimeout: 100ms", "purgeDelay: 0", "maxRequests: 1"] {
        assert_resumes_every_time(&mut java, pool);
    }
}

#[test]
fn after_each_idle_close_the_next_connection_to_a_strict_java_resumes_on_tls_1_2() {
    each_close_leaves_the_session_resumable("TLSv1.2");
}

#[test]
fn after_each_idle_close_the_next_connection_to_a_strict_java_resumes_on_tls_1_3() {
    each_close_leaves_the_session_resumable("TLSv1.3");
}

#[test]
fn a_sidecar_that_is_told_to_end_says_close_notify_to_a_strict_java() {
    let mut java = Java::start("TLSv1.3");
    let mut sidecar = java.sidecar("");
    assert_eq!(sidecar.get("/").status, 200);
    assert!(sidecar.terminate().success(), "{}", sidecar.log());
    assert_eq!(java.ended().1, "close_notify", "{}", sidecar.log());
}

/// A client that keeps its sessions in memory and ends each connection after one request.
struct OneShotClient(Arc<ClientConfig>);

impl OneShotClient {
    fn new(certificates: &Certificates) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&certificates.trust())).expect("the authority can be trusted");
        let pair = certificates.client();
        let key = PrivateKeyDer::from_pem_file(pair.key).expect("the key is PEM");
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate(&pair.certificate)], key)
            .expect("the key belongs to the certificate");
        Self(Arc::new(config))
    }

    /// Makes one request, then closes the socket, with or without `close_notify` before.
    fn get(&self, port: u16, close_notify: bool) {
        let name = ServerName::try_from(SERVER_NAME).expect("it is a DNS name");
        let session = ClientConnection::new(Arc::clone(&self.0), name).expect("it can start");
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("Java listens");
        let mut stream = StreamOwned::new(session, socket);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: peer.example\r\n\r\n").expect("it takes this");
        let answer = BufReader::new(&mut stream).lines().map_while(Result::ok);
        assert!(answer.into_iter().any(|line| line == "hello"));
        if close_notify {
            stream.conn.send_close_notify();
            stream.flush().expect("the server still reads");
        }
    }
}

fn certificate(file: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).expect("the certificate is PEM")
}

/// The control: the same server and a client that differs only in its way of closing. If an abrupt close left the
/// session resumable, the tests above could not fail.
fn only_a_polite_close_leaves_the_session_resumable(version: &str) {
    let mut java = Java::start(version);
    let port = java.port;
    for (polite, end, sessions) in
        [(false, "without-close_notify", ["full"; 6]), (true, "close_notify", FULL_ONCE)]
    {
        let client = OneShotClient::new(&java.certificates);
        let seen = java.six_reconnects(|| client.get(port, polite));
        assert_eq!(seen, sessions.map(|session| (session.to_owned(), end.to_owned())));
    }
}

#[test]
fn a_strict_java_makes_full_handshakes_after_abrupt_closes_on_tls_1_2() {
    only_a_polite_close_leaves_the_session_resumable("TLSv1.2");
}

#[test]
fn a_strict_java_makes_full_handshakes_after_abrupt_closes_on_tls_1_3() {
    only_a_polite_close_leaves_the_session_resumable("TLSv1.3");
}
