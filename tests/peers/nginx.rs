//! nginx with `ssl_verify_client on`; its access log has connection, resumption and client certificate.

use std::{collections::BTreeSet, fs, process::Command};

use crate::{
    certificates::Certificates,
    process::{Running, free_port, program},
    sidecar::Sidecar,
};

/// A running nginx, and its certificates.
struct Nginx {
    running: Running,
    port: u16,
    certificates: Certificates,
}

/// nginx's log line about one request.
#[derive(Debug)]
struct Seen {
    /// The connection's number at nginx.
    connection: String,
    resumed: bool,
    /// The subject of the client certificate.
    client: String,
    /// The result of the verification: `SUCCESS`, `NONE` or `FAILED:` with a reason.
    verification: String,
}

impl Nginx {
    /// Starts nginx with one TLS version and further directives.
    fn start(version: &str, directives: &str) -> Self {
        let certificates = Certificates::generate();
        let port = free_port();
        let file = certificates.folder().join("nginx.conf");
        fs::write(&file, configuration(&certificates, port, version, directives))
            .expect("the temporary folder can be written to");
        let mut command = Command::new(program("nginx"));
        command.arg("-p").arg(certificates.folder()).arg("-c").arg(file);
        let mut running = Running::start(command.args(["-e", "stderr"]));
        running.wait_for_port(port);
        Self { running, port, certificates }
    }

    /// Starts a sidecar before this server, with the client certificate that nginx asks for.
    fn sidecar(&self, pool: &str) -> Sidecar {
        let identity = self.certificates.client();
        Sidecar::start(&self.certificates, self.port, Some(&identity), pool)
    }

    /// Waits for the log lines of the next `count` requests and returns them.
    fn seen(&mut self, count: usize) -> Vec<Seen> {
        self.running
            .lines_with("request connection=", count)
            .iter()
            .map(|line| seen(line))
            .collect()
    }
}

/// Returns nginx's configuration: one process, so that ending it ends all of nginx, and a session cache, without which
/// TLS 1.2 session IDs do not work there.
fn configuration(
    certificates: &Certificates,
    port: u16,
    version: &str,
    directives: &str,
) -> String {
    let (folder, trust) = (certificates.folder().display(), certificates.trust());
    let (server, trust) = (certificates.server(), trust.display());
    let (certificate, key) = (server.certificate.display(), server.key.display());
    format!(
        "daemon off; master_process off; pid nginx.pid;
        events {{ worker_connections 256; }}
        http {{
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
            scgi_temp_path {folder}/scgi;
            log_format told 'request connection=$connection reused=$ssl_session_reused '
                            'client=$ssl_client_s_dn verification=$ssl_client_verify';
            access_log /dev/stdout told;
            server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {certificate}; ssl_certificate_key {key};
                ssl_client_certificate {trust}; ssl_verify_client on;
                ssl_protocols {version}; ssl_session_cache shared:sessions:1m;
                {directives}
                location / {{ return 200 'hello\\n'; }}
            }}
        }}"
    )
}

fn seen(line: &str) -> Seen {
    let field = |name: &str| {
        let rest = line.split_once(name).expect("our log format has this field").1;
        rest.split(' ').next().unwrap_or_default().to_owned()
    };
    Seen {
        connection: field("connection="),
        resumed: field("reused=") == "r",
        client: field("client="),
        verification: field("verification="),
    }
}

fn connections(requests: &[Seen]) -> usize {
    requests.iter().map(|request| &request.connection).collect::<BTreeSet<_>>().len()
}

fn one_connection_carries_forty_curls(version: &str) {
    let mut nginx = Nginx::start(version, "");
    let mut sidecar = nginx.sidecar("");
    for _ in 0..40 {
        assert_eq!(sidecar.get("/").status, 200, "{}", sidecar.log());
    }
    let requests = nginx.seen(40);
    assert_eq!(connections(&requests), 1, "{requests:?}");
    for request in &requests {
        assert_eq!(request.verification, "SUCCESS", "{request:?}");
        assert_eq!(request.client, "CN=warmline", "{request:?}");
    }
    assert_eq!(sidecar.counter("warmline_pool_connections_opened_total", ""), 1);
}

#[test]
fn nginx_sees_forty_curls_on_one_connection_with_our_certificate_on_tls_1_2() {
    one_connection_carries_forty_curls("TLSv1.2");
}

#[test]
fn nginx_sees_forty_curls_on_one_connection_with_our_certificate_on_tls_1_3() {
    one_connection_carries_forty_curls("TLSv1.3");
}

fn connections_that_nginx_ends_are_followed_by_resumed_ones(version: &str) {
    let mut nginx = Nginx::start(version, "keepalive_requests 5;");
    let mut sidecar = nginx.sidecar("");
    for _ in 0..20 {
        assert_eq!(sidecar.get("/").status, 200, "{}", sidecar.log());
    }
    let requests = nginx.seen(20);
    assert_eq!(connections(&requests), 4, "{requests:?}");
    let resumed = requests.iter().map(|request| request.resumed).collect::<Vec<_>>();
    assert_eq!(resumed, [[false; 5], [true; 5], [true; 5], [true; 5]].concat());
}

#[test]
fn connections_that_nginx_ends_after_five_requests_are_followed_by_resumed_ones_on_tls_1_2() {
    connections_that_nginx_ends_are_followed_by_resumed_ones("TLSv1.2");
}

#[test]
fn connections_that_nginx_ends_after_five_requests_are_followed_by_resumed_ones_on_tls_1_3() {
    connections_that_nginx_ends_are_followed_by_resumed_ones("TLSv1.3");
}

#[test]
fn no_get_is_lost_while_nginx_ends_each_connection_as_soon_as_it_is_idle() {
    // With a keep-alive time of 1 ms nginx closes unannounced, so that closes and requests cross.
    let mut nginx = Nginx::start("TLSv1.3", "keepalive_timeout 1ms;");
    let mut sidecar = nginx.sidecar("");
    for _ in 0..40 {
        assert_eq!(sidecar.get("/").status, 200, "{}", sidecar.log());
    }
    // A single connection would mean that nginx did not close, and that nothing was tested.
    assert!(connections(&nginx.seen(40)) > 1);
}

#[test]
fn nginx_answers_400_where_no_client_certificate_is_configured_and_its_words_reach_the_client() {
    let mut nginx = Nginx::start("TLSv1.3", "");
    let mut sidecar = Sidecar::start(&nginx.certificates, nginx.port, None, "");
    let answer = sidecar.get("/");
    assert_eq!(answer.status, 400, "{}", sidecar.log());
    assert!(answer.body.contains("No required SSL certificate was sent"), "{answer:?}");
    assert_eq!(nginx.seen(1)[0].verification, "NONE");
}

#[test]
fn nginx_answers_400_to_a_client_certificate_of_another_authority_and_its_words_reach_the_client() {
    let mut nginx = Nginx::start("TLSv1.3", "");
    let stranger = nginx.certificates.stranger();
    let mut sidecar = Sidecar::start(&nginx.certificates, nginx.port, Some(&stranger), "");
    let answer = sidecar.get("/");
    assert_eq!(answer.status, 400, "{}", sidecar.log());
    assert!(answer.body.contains("The SSL certificate error"), "{answer:?}");
    let seen = &nginx.seen(1)[0];
    assert!(seen.verification.starts_with("FAILED:"), "{seen:?}");
}
