//! socat with client certificates: OpenSSL without a session id context. Such a server issues sessions, but ends each
//! handshake that offers one with an alert.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use crate::{
    certificates::Certificates,
    process::{Running, free_port, program},
    sidecar::Sidecar,
};

const ANSWER: &str = "#!/bin/sh\nread line\n\
    printf 'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: 6\\r\\n\\r\\nright\\n'\n";

/// Starts socat, which answers one request on each connection and prints each handshake that fails.
fn socat(certificates: &Certificates, port: u16, version: &str) -> Running {
    let script = certificates.folder().join("answer");
    fs::write(&script, ANSWER).expect("the temporary folder can be written to");
    let executable = fs::Permissions::from_mode(0o700);
    fs::set_permissions(&script, executable).expect("a file of ours can be made executable");
    let (server, trust) = (certificates.server(), certificates.trust());
    let listen = format!(
        "OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,cert={},key={},cafile={},verify=1,\
         openssl-min-proto-version={version},openssl-max-proto-version={version}",
        server.certificate.display(),
        server.key.display(),
        trust.display()
    );
    let mut command = Command::new(program("socat"));
    let mut running = Running::start(command.arg(listen).arg(format!("EXEC:{}", script.display())));
    running.wait_for_port(port);
    running
}

/// Each request needs a handshake. The second and the third offer a session, the others do not.
fn a_server_that_cannot_stand_sessions_is_served(version: &str) {
    let certificates = Certificates::generate();
    let port = free_port();
    let mut server = socat(&certificates, port, version);
    let settings = "retries: { max: 0 }";
    let command = Command::new(env!("CARGO_BIN_EXE_warmline"));
    let identity = certificates.client();
    let mut sidecar = Sidecar::start_with(command, &certificates, port, Some(&identity), settings);
    for _ in 0..6 {
        let answer = sidecar.get("/");
        assert_eq!(answer.status, 200, "{answer:?}\n{}\n{}", sidecar.log(), server.told());
    }
    server.lines_with("session id context uninitialized", 2);
    let counted =
        |result| sidecar.counter("warmline_tls_handshakes_total", &format!("result=\"{result}\""));
    assert_eq!(["full", "failed", "resumed"].map(counted), [6, 2, 0]);
    sidecar.line_with("none is offered");
}

#[test]
fn fault_02_a_server_without_a_session_id_context_is_served_on_tls_1_2() {
    a_server_that_cannot_stand_sessions_is_served("TLS1.2");
}

#[test]
fn fault_02_a_server_without_a_session_id_context_is_served_on_tls_1_3() {
    a_server_that_cannot_stand_sessions_is_served("TLS1.3");
}
