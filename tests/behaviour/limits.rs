//! Time limits (docs/design.md, "Time limits"): each ends in the right answer, names its key, and leaves nothing
//! behind.

use std::{io::Read as _, net::TcpListener, thread, time::Duration};

use serde_json::json;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::{
    client::{Client, Ending, Response},
    origin::{self, Gate, Origin},
    refusing::Refusing,
    running::Running,
    setup::Setup,
};

/// A limit that is to be reached.
const SHORT: &str = "200ms";
/// A limit that is to be reached by one thing and not by another, on a busy machine too.
const AMPLE: &str = "1s";

/// Asserts that the answer is Warmline's, with this status, and names the limit in its text, and in `Proxy-Status` this
/// error type of RFC 9209.
fn assert_names(answer: &Response, status: u16, limit: &str, error: &str) {
    assert_eq!(answer.status, status, "{answer:#?}");
    assert!(answer.text().contains(limit), "{}", answer.text());
    let told = answer.head.field("proxy-status").expect("the reason for machines");
    assert!(told.starts_with("warmline; ") && told.contains(&format!("error={error}")), "{told}");
    assert!(told.contains(limit), "{told}");
}

fn assert_nothing_left(warmline: &Running) {
    warmline.wait_for_pool("every place's return", |pool| pool.census.total() == 0);
}

/// A listening socket whose backlog is full: the kernel drops all further attempts to connect.
struct Full {
    listener: Socket,
    _waiting: Vec<Socket>,
}

impl Full {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&SockAddr::from(address)).unwrap();
        listener.listen(0).unwrap();
        let bound = listener.local_addr().unwrap();
        let connect = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&bound);
            socket
        };
        Self { _waiting: (0..4).map(connect).collect(), listener }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().as_socket().unwrap().port()
    }
}

#[test]
fn an_address_that_does_not_answer_is_504_after_the_connect_limit() {
    let full = Full::new();
    let endpoint = format!("{}:{}", origin::NAME, full.port());
    let warmline =
        Setup::new().upstream_at("origin", &endpoint).set("timeouts.connect", SHORT).start();
    let answer = warmline.one_shot("/any");
    assert_names(&answer, 504, "timeouts.connect", "connection_timeout");
    assert!(answer.text().contains(&endpoint), "{}", answer.text());
    assert_nothing_left(&warmline);
}

#[test]
fn of_two_addresses_the_one_that_answers_is_taken() {
    // Nothing listens at the name's first address, 127.0.0.3; the origin is at the second.
    let full = Full::new();
    let origin = Origin::serving().addresses(&["127.0.0.2"]).start();
    let names =
        crate::support::names::Names::default().fixed(origin::NAME, &["127.0.0.3", "127.0.0.2"]);
    let warmline = Setup::before(&origin).names(&names).start();
    assert_eq!(warmline.one_shot("/any").status, 200);
    drop(full);
}

#[test]
fn a_peer_that_never_shakes_hands_is_504_after_the_handshake_limit() {
    let gate = Gate::new();
    let origin = Origin::serving().before_handshake(gate).start();
    let warmline = Setup::before(&origin).set("timeouts.handshake", AMPLE).start();
    let answer = warmline.one_shot("/any");
    assert_names(&answer, 504, "timeouts.handshake", "connection_timeout");
    assert_nothing_left(&warmline);
    // Each of the two handshakes has half of the limit; once the limit is spent, no third one follows.
    assert_eq!(origin.record().connections.len(), 2);
}

/// A server that has read no FIN yet would count the given-up connection beside the next one, above `maxConnections`.
#[test]
fn fault_10_a_handshake_that_takes_too_long_is_ended_with_rst() {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("{}:{}", origin::NAME, peer.local_addr().unwrap().port());
    let setup = Setup::new().upstream_at("origin", &endpoint);
    let warmline = setup.set("timeouts.handshake", SHORT).start();
    let mut client = warmline.connect();
    client.send(format!("GET /any HTTP/1.1\r\nHost: {}\r\n\r\n", origin::NAME));
    let mut hello = Vec::new();
    let end = peer.accept().unwrap().0.read_to_end(&mut hello).expect_err("RST, no FIN");
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(!hello.is_empty(), "no ClientHello came");
    assert_eq!(client.response().status, 504);
}

#[test]
fn a_response_that_does_not_come_is_504_after_the_response_limit() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set("timeouts.response", SHORT).start();
    for request in [
        "GET /hold HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "POST /hold HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\nbody",
    ] {
        let mut client = warmline.connect();
        client.send(request);
        let answer = client.response();
        assert_names(&answer, 504, "timeouts.response", "http_response_timeout");
        assert_nothing_left(&warmline);
    }
    // Each of the two requests was sent once.
    assert_eq!(origin.record().request_count, 2);
}

#[test]
fn after_a_504_the_clients_connection_goes_on() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set("timeouts.response", AMPLE).start();
    let mut client = warmline.connect();
    assert_eq!(client.get(origin::NAME, "/hold").status, 504);
    assert_eq!(client.get(origin::NAME, "/any").text(), "hello\n");
}

#[test]
fn informational_responses_do_not_restart_the_response_limit() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            peer.write("HTTP/1.1 103 Early Hints\r\n\r\n").await;
        }
        peer.ended().await;
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).set("timeouts.response", SHORT).start();
    let answer = warmline.one_shot("/any");
    assert_names(&answer, 504, "timeouts.response", "http_response_timeout");
    assert_nothing_left(&warmline);
}

#[test]
fn the_response_limit_begins_with_the_end_of_the_upload() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set("timeouts.response", "2s").start();
    let mut client = warmline.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 8\r\n\r\n");
    for _ in 0..8 {
        thread::sleep(Duration::from_millis(300));
        client.send("x");
    }
    assert_eq!(client.response().text(), "xxxxxxxx");
}

#[test]
fn a_download_in_which_nothing_moves_is_aborted_after_the_idle_limit() {
    let origin = Origin::stalling().start();
    let warmline = Setup::before(&origin).set("timeouts.idle", SHORT).start();
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.1\r\nHost: api.test\r\n\r\n");
    let broken = client.response_to("GET").expect_err("it stalls");
    assert_eq!((broken.end, broken.partial.text()), (Ending::Reset, "half".into()));
    assert_nothing_left(&warmline);
    assert_eq!(origin.record().request_count, 1);
}

#[test]
fn a_download_that_moves_slowly_is_not_aborted() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n").await;
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            peer.write("x").await;
        }
        peer.ended().await;
    })
    .start();
    let warmline = Setup::before(&origin).set("timeouts.idle", "2s").start();
    assert_eq!(warmline.one_shot("/any").text(), "xxxxxxxx");
}

#[test]
fn a_client_that_stops_reading_is_given_up_after_the_idle_limit() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set("timeouts.idle", SHORT).start();
    let mut client = warmline.connect();
    client.send("GET /bytes/1000000000 HTTP/1.1\r\nHost: api.test\r\n\r\n");
    origin.wait_for("its end", |record| record.request_count == 1 && record.open == 0);
    assert_nothing_left(&warmline);
    assert!(client.response_into("GET", &mut |_| ()).is_err());
}

#[test]
fn an_upload_in_which_nothing_moves_is_408_after_the_idle_limit() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set("timeouts.idle", SHORT).start();
    let mut client = warmline.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 100\r\n\r\nhalf");
    let answer = client.response();
    assert_names(&answer, 408, "timeouts.idle", "http_request_error");
    assert_eq!(answer.head.field("connection"), Some("close"));
    client.half_close();
    assert_eq!(client.end(), (Ending::Fin, Vec::new()));
    assert_nothing_left(&warmline);
}

#[test]
fn an_upload_that_the_upstream_does_not_read_is_504_after_the_idle_limit() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.head().await;
        peer.reads_nothing().await;
    })
    .start();
    let warmline = Setup::before(&origin).set("timeouts.idle", AMPLE).start();
    let mut client = warmline.connect();
    let length = 1_000_000_000;
    client
        .send(format!("POST /any HTTP/1.1\r\nHost: api.test\r\nContent-Length: {length}\r\n\r\n"));
    client.send_until_answered(length);
    let answer = client.response();
    assert_names(&answer, 504, "timeouts.idle", "connection_write_timeout");
    assert_nothing_left(&warmline);
}

#[test]
fn a_request_header_that_trickles_is_408_or_closed() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set_global("listeners.0.limits.headerTimeout", SHORT);
    let warmline = setup.start();
    for part in ["G", "GET /any HTTP/1.1\r\n", "GET /any HTTP/1.1\r\nHost: api.test\r\nx-slow: "] {
        let mut client = warmline.connect();
        client.send(part);
        let answer = client.response();
        assert_names(&answer, 408, "limits.headerTimeout", "http_request_error");
        assert_eq!(answer.head.field("connection"), Some("close"));
        client.half_close();
        assert_eq!(client.end(), (Ending::Fin, Vec::new()), "{part:?}");
    }
    assert_eq!(origin.record().connections.len(), 0);
}

#[test]
fn a_single_connection_may_come_by_any_address_of_its_listener_on_any_thread() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin)
        .set_global("threads", 2)
        .set_global("listeners.0.bind", json!(["127.0.0.1:0", "127.0.0.1:0"]))
        .set_global("listeners.0.limits.connections", 1);
    let warmline = setup.start();
    for _ in 0..3 {
        for address in warmline.addresses() {
            assert_eq!(Client::connect(address).get("api.test", "/any").status, 200);
        }
    }
}

#[test]
fn each_byte_of_a_slow_header_buys_no_time() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set_global("listeners.0.limits.headerTimeout", SHORT);
    let warmline = setup.start();
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.1\r\nHost: api.test\r\nx-slow: ");
    let mut sent = 0;
    while sent < 1_000 && client.try_send("a").is_ok() && !client.has_something_to_read() {
        thread::sleep(Duration::from_millis(10));
        sent += 1;
    }
    assert!(sent < 1_000, "it went on for ever");
    assert_eq!(client.response().status, 408);
}

#[test]
fn a_slow_second_header_is_408_too_and_does_not_disturb_the_first_answer() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set_global("listeners.0.limits.headerTimeout", AMPLE);
    let warmline = setup.start();
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.1\r\nHost: api.test\r\n\r\nGET /any HTTP/1.1\r\nHo");
    assert_eq!(client.response().text(), "hello\n");
    // The second header's time limit begins with its first byte after the first answer.
    client.send("st");
    assert_eq!(client.response().status, 408);
    client.half_close();
    assert_eq!(client.end(), (Ending::Fin, Vec::new()));
}

#[test]
fn half_a_header_behind_a_whole_request_ends_with_the_idle_limit_at_the_latest() {
    let origin = Origin::serving().start();
    // Less than the time after which the connection would rest: what wakes it then has the limit of a header.
    let setup = Setup::before(&origin).set_global("listeners.0.limits.idleTimeout", "400ms");
    let warmline = setup.start();
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.1\r\nHost: api.test\r\n\r\nGET /any HTTP/1.1\r\nHo");
    assert_eq!(client.response().text(), "hello\n");
    assert_eq!(client.end(), (Ending::Fin, Vec::new()));
}

#[test]
fn a_second_header_has_its_whole_time_however_long_the_first_exchange_took() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set_global("listeners.0.limits.headerTimeout", "2s");
    let warmline = setup.start();
    let mut client = warmline.connect();
    client.send("GET /hold HTTP/1.1\r\nHost: api.test\r\n\r\nGET /any HTTP/1.1\r\nHo");
    origin.wait_for("the first", |record| record.request_count == 1);
    thread::sleep(Duration::from_millis(2_400));
    origin.release();
    assert_eq!(client.response().text(), "held\n");
    client.send("st: api.test\r\n\r\n");
    assert_eq!(client.response().text(), "hello\n");
}

#[test]
fn an_idle_client_is_closed_after_its_limit_and_a_busy_one_is_not() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set_global("listeners.0.limits.idleTimeout", AMPLE);
    let warmline = setup.start();
    let mut silent = warmline.connect();
    let mut idle = warmline.connect();
    assert_eq!(idle.get(origin::NAME, "/any").status, 200);
    let mut busy = warmline.connect();
    busy.send("GET /hold HTTP/1.1\r\nHost: api.test\r\n\r\n");
    assert_eq!(idle.end(), (Ending::Fin, Vec::new()));
    assert_eq!(silent.end(), (Ending::Fin, Vec::new()));
    origin.release();
    assert_eq!(busy.response().text(), "held\n");
}

#[test]
fn an_idle_limit_is_not_a_header_limit() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set_global("listeners.0.limits.headerTimeout", AMPLE);
    let warmline = setup.start();
    let mut client = warmline.connect();
    assert_eq!(client.get(origin::NAME, "/any").status, 200);
    thread::sleep(Duration::from_millis(1_300));
    assert_eq!(client.get(origin::NAME, "/any").status, 200);
}

#[test]
fn a_connection_that_is_refused_is_502_at_once_and_says_where() {
    let refusing = Refusing::new();
    let endpoint = format!("{}:{}", origin::NAME, refusing.address.port());
    let warmline = Setup::new().upstream_at("origin", &endpoint).start();
    let answer = warmline.one_shot("/any");
    assert_names(&answer, 502, &refusing.address.to_string(), "connection_refused");
    assert_nothing_left(&warmline);
}

#[test]
fn a_name_without_an_address_is_502_and_says_which() {
    let warmline = Setup::new().upstream_at("origin", "unknown.test:443").start();
    let mut client = Client::connect(warmline.address());
    let answer = client.get("unknown.test", "/any");
    assert_names(&answer, 502, "unknown.test", "dns_error");
    assert_nothing_left(&warmline);
}
