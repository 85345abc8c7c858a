//! Warmline's own answers: their texts for people, and `Proxy-Status` for machines (RFC 9209).

use crate::support::{
    client::{Client, Ending, Response},
    origin::Origin,
    setup::{Setup, serving},
};

/// Asserts that the answer is Warmline's own: a short text, and `Proxy-Status` with this error type and a reason.
fn assert_ours(answer: &Response, status: u16, error: &str) {
    assert_eq!(answer.status, status, "{answer:#?}");
    assert_eq!(answer.head.field("content-type"), Some("text/plain; charset=utf-8"));
    assert!(answer.text().starts_with("warmline: "), "{}", answer.text());
    assert!(answer.text().ends_with('\n') && answer.body.len() < 2_000, "{}", answer.text());
    let told = answer.head.field("proxy-status").expect("the reason for machines");
    let rest = told.strip_prefix(&format!("warmline; error={error}; details=\"")).expect(told);
    let details = rest.strip_suffix('"').expect(told);
    let unescaped = details.replace("\\\\", "").replace("\\\"", "");
    assert!(!details.is_empty() && !unescaped.contains(['"', '\\']), "{told}");
    assert_eq!((answer.head.field("date"), answer.head.field("server")), (None, None));
}

#[test]
fn an_unknown_host_is_404_and_the_configured_ones_are_listed() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set("hosts", vec!["one.test", "two.test"]);
    let warmline = setup.upstream("third", &origin).set("hosts", vec!["three.test"]).start();
    let mut client = warmline.connect();
    let answer = client.get("nobody.test", "/any");
    assert_ours(&answer, 404, "destination_not_found");
    for host in ["nobody.test", "one.test", "two.test", "three.test"] {
        assert!(answer.text().contains(host), "{host}: {}", answer.text());
    }
    assert!(!answer.text().contains("/pools"), "{}", answer.text());
    // The client's connection goes on and reaches an upstream.
    assert_eq!(client.get("two.test", "/any").text(), "hello\n");
}

#[test]
fn a_request_for_statistics_on_the_traffic_port_is_answered_with_their_address() {
    let (_origin, warmline) = serving();
    let hosts = [("localhost", "/stats"), ("127.0.0.1:13301", "/pools"), ("[::1]", "/plan")];
    for (host, path) in hosts {
        let answer = warmline.connect().get(host, path);
        assert_ours(&answer, 404, "destination_not_found");
        let administration = warmline.administration();
        assert!(answer.text().contains(&administration.to_string()), "{}", answer.text());
    }
}

#[test]
fn stats_of_an_upstream_goes_to_the_upstream() {
    let (origin, warmline) = serving();
    assert_eq!(warmline.one_shot("/stats").text(), "hello\n");
    assert_eq!(origin.record().last_request().target, "/stats");
}

#[test]
fn a_host_that_is_odd_appears_in_the_answer_as_text_alone() {
    let (_origin, warmline) = serving();
    for host in
        ["<script>alert(1)</script>", "a\"b\\c", "a\tb", "x".repeat(250).as_str(), "%00", "a;b,c"]
    {
        let answer = warmline.connect().get(host, "/any");
        let error =
            if answer.status == 404 { "destination_not_found" } else { "http_request_error" };
        assert_ours(&answer, if answer.status == 404 { 404 } else { 400 }, error);
    }
}

#[test]
fn a_host_in_bytes_that_are_no_text_is_refused() {
    let (origin, warmline) = serving();
    let mut client = warmline.connect();
    client.send(b"GET /any HTTP/1.1\r\nHost: \xff\xfe.test\r\n\r\n");
    assert_ours(&client.response(), 400, "http_request_error");
    assert_eq!(origin.record().request_count, 0);
}

#[test]
fn a_request_without_a_host_is_400_and_says_so() {
    let (_origin, warmline) = serving();
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.1\r\n\r\n");
    let answer = client.response();
    assert_ours(&answer, 400, "http_request_error");
    assert!(answer.text().contains("Host"), "{}", answer.text());
    assert_eq!(answer.head.field("connection"), Some("close"));
    client.half_close();
    assert_eq!(client.end(), (Ending::Fin, Vec::new()));
}

#[test]
fn case_34_an_authority_of_more_than_255_bytes_is_400() {
    let (_origin, warmline) = serving();
    let long = "x".repeat(256);
    let answer = warmline.connect().get(&long, "/any");
    assert_ours(&answer, 400, "http_request_error");
    let mut client = warmline.connect();
    client.send(format!("GET http://{long}/ HTTP/1.1\r\nHost: api.test\r\n\r\n"));
    assert_ours(&client.response(), 400, "http_request_error");
}

#[test]
fn connect_is_405_and_says_what_to_do_instead() {
    let (_origin, warmline) = serving();
    let mut client = warmline.connect();
    client.send("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n");
    let answer = client.response();
    assert_ours(&answer, 405, "http_request_denied");
    assert!(answer.text().contains("http://"), "{}", answer.text());
    assert!(answer.head.field("allow").is_some_and(|allow| allow.contains("GET")));
}

#[test]
fn an_answer_of_ours_to_head_has_no_body_and_the_connection_goes_on() {
    let (_origin, warmline) = serving();
    let mut client = warmline.connect();
    let answer = client.request("HEAD", "nobody.test", "/any");
    assert_eq!((answer.status, answer.body.len()), (404, 0));
    assert_eq!(client.get("api.test", "/any").text(), "hello\n");
}

#[test]
fn an_answer_of_ours_to_an_http_10_client_closes() {
    let (_origin, warmline) = serving();
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.0\r\nHost: nobody.test\r\n\r\n");
    assert_eq!(client.response().status, 404);
    assert_eq!(client.end(), (Ending::Fin, Vec::new()));
}

#[test]
fn a_failure_of_an_upstream_names_it_its_stage_and_where_to_look() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("nonsense\r\n\r\n").await;
        peer.ended().await;
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let answer = warmline.one_shot("/any");
    assert_ours(&answer, 502, "http_protocol_error");
    for part in ["stage: response", "upstream: origin", &origin.port().to_string(), "/pools"] {
        assert!(answer.text().contains(part), "{part}: {}", answer.text());
    }
}

#[test]
fn a_503_says_when_to_come_again() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set("pool.maxConnections", 1).set("pool.maxQueue", 0);
    let warmline = setup.start();
    let mut holder = warmline.connect();
    holder.send("GET /hold HTTP/1.1\r\nHost: api.test\r\n\r\n");
    origin.wait_for("the holder", |record| record.request_count == 1);
    let answer = warmline.one_shot("/any");
    assert_ours(&answer, 503, "connection_limit_reached");
    assert_eq!(answer.head.field("retry-after"), Some("1"));
    assert!(answer.text().contains("pool.maxQueue"), "{}", answer.text());
    origin.release();
    holder.response();
}

#[test]
fn a_request_that_cannot_be_read_is_400_says_what_it_looks_like_and_is_counted() {
    let (origin, warmline) = serving();
    let labels = [("upstream", "_none"), ("code", "4xx")];
    let tls = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03 any\r\n\r\n".as_slice();
    for (count, (bytes, word)) in [
        (b"GARBAGE\r\n\r\n".as_slice(), "HTTP/1.1"),
        (tls, "https://"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (b"GET /any HTTP/1.1\r\nno colon\r\n\r\n", "HTTP/1.1"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Client::connect(warmline.address());
        client.send(bytes);
        let answer = client.response();
        assert_ours(&answer, 400, "http_request_error");
        assert!(answer.text().contains(word), "{word}: {}", answer.text());
        assert_eq!(answer.head.field("connection"), Some("close"));
        client.half_close();
        assert_eq!(client.end(), (Ending::Fin, Vec::new()));
        assert_eq!(warmline.metric("warmline_requests_total", &labels), count as u64 + 1);
    }
    assert_eq!(origin.record().request_count, 0);
}

/// Asserts that a head beyond this limit of the listener's gets 431 and a close, and that others are served.
fn beyond(limit: &str, value: u32, head: &str) {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set_global(&format!("listeners.0.limits.{limit}"), value);
    let warmline = setup.start();
    let mut client = Client::connect(warmline.address());
    client.send(format!("GET /any HTTP/1.1\r\nHost: api.test\r\n{head}\r\n"));
    let answer = client.response();
    assert_ours(&answer, 431, "http_request_error");
    assert!(answer.text().contains(limit), "{limit}: {}", answer.text());
    assert_eq!(answer.head.field("connection"), Some("close"));
    client.half_close();
    assert_eq!(client.end(), (Ending::Fin, Vec::new()));
    assert_eq!(origin.record().request_count, 0);
    assert_eq!(warmline.one_shot("/any").status, 200);
}

#[test]
fn a_header_beyond_the_listeners_limits_is_refused_and_closed() {
    beyond("headerFields", 10, &"x-a: 1\r\n".repeat(20));
    beyond("headerBytes", 8192, &format!("x-long: {}\r\n", "a".repeat(8192)));
}

#[test]
fn a_bind_that_fails_is_told_with_the_place_of_its_listener() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let origin = Origin::serving().start();
    let binds = serde_json::json!([{ "bind": ["127.0.0.1:0"] }, { "bind": [address] }]);
    let error = Setup::before(&origin).set_global("listeners", binds).try_start().err().unwrap();
    assert!(error.to_string().starts_with(&format!("listeners[1].bind: {address}")), "{error}");
}
