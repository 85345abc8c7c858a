//! Requests of a hostile application: nothing ambiguous reaches the upstream (RFC 9112 sections 3.2, 6 and 11.2).

use crate::support::{
    client::{Client, Ending, Response},
    origin::Origin,
    running::Running,
    setup::{Setup, serving},
};

/// Sends the bytes; returns the response and all bytes after it, and asserts that the connection ended with FIN.
fn answer_and_end(warmline: &Running, bytes: impl AsRef<[u8]>) -> (Response, Vec<u8>) {
    let mut client = warmline.connect();
    client.send(bytes);
    let answer = client.response();
    client.half_close();
    let (end, rest) = client.end();
    assert_eq!(end, Ending::Fin, "{answer:#?}");
    (answer, rest)
}

/// Asserts that each request gets 400 and a close, that none of it reaches the upstream, and that another client is
/// still served.
fn assert_refused(requests: &[&str]) {
    let (origin, warmline) = serving();
    let mut other = warmline.connect();
    for request in requests {
        // Behind the bad request follows a good one, which would be answered if the connection went on.
        let bytes = format!("{request}GET /smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n");
        let (answer, rest) = answer_and_end(&warmline, bytes);
        assert_eq!(answer.status, 400, "{request:?}: {answer:#?}");
        assert_eq!(answer.head.field("connection"), Some("close"), "{request:?}");
        assert_eq!(rest, b"", "{request:?}: {}", rest.escape_ascii());
        assert_eq!(
            origin.read(|record| record.request_count),
            0,
            "{request:?} reached the upstream"
        );
    }
    assert_eq!(other.get("api.test", "/any").text(), "hello\n");
}

#[test]
fn case_28_a_malformed_request_behind_a_good_one_is_refused_after_the_good_ones_answer() {
    let (origin, warmline) = serving();
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.1\r\nHost: api.test\r\n\r\nGET /bad HTTP/1.1\r\nno colon\r\n\r\n");
    assert_eq!(client.response().text(), "hello\n");
    assert_eq!(client.response().status, 400);
    client.half_close();
    assert_eq!(client.end(), (Ending::Fin, Vec::new()));
    assert_eq!(origin.record().request_count, 1);
}

#[test]
fn case_28_a_malformed_request_behind_a_slow_one_does_not_disturb_it() {
    let (origin, warmline) = serving();
    let mut client = warmline.connect();
    client.send("GET /hold HTTP/1.1\r\nHost: api.test\r\n\r\n\x01\x02 /bad HTTP/9.9\r\n\r\n");
    origin.wait_for("the first", |record| record.request_count == 1);
    origin.release();
    assert_eq!(client.response().text(), "held\n");
    assert_eq!(client.response().status, 400);
    warmline.wait_for_pool("the connection's return", |pool| pool.census.idle == 1);
}

#[test]
fn case_29_with_a_length_and_chunked_chunked_wins_and_the_connection_closes() {
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
    ] {
        let (origin, warmline) = serving();
        let body = "5\r\nright\r\n0\r\n\r\n";
        let request = format!("POST /echo HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n\r\n{body}");
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n";
        let (answer, rest) = answer_and_end(&warmline, request + smuggled);
        assert_eq!(rest, b"", "{}", rest.escape_ascii());
        assert_eq!(answer.head.field("connection"), Some("close"), "{fields}");
        if answer.status != 400 {
            assert_eq!(answer.text(), "right", "{fields}");
            let record = origin.record();
            assert_eq!(record.request_count, 1);
            assert_eq!(record.requests[0].head.field("content-length"), None);
            assert_eq!(record.requests[0].head.field("transfer-encoding"), Some("chunked"));
        }
    }
}

#[test]
fn case_29_one_length_written_twice_goes_up_once() {
    let (origin, warmline) = serving();
    let fields = "Content-Length: 5\r\nContent-Length: 5";
    let mut client = warmline.connect();
    client.send(format!("POST /echo HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n\r\nright"));
    assert_eq!(client.response().text(), "right");
    // The origin's own reader would panic if the length came twice.
    assert_eq!(origin.record().requests[0].head.field("content-length"), Some("5"));
}

#[test]
fn case_29_lengths_that_contradict_each_other_or_are_none_are_refused() {
    let length = |value: &str| {
        format!("POST /any HTTP/1.1\r\nHost: api.test\r\nContent-Length: {value}\r\n\r\nright")
    };
    let requests = [
        "+5",
        "-5",
        "5,6",
        "5, 6",
        "",
        "0x5",
        "5 5",
        "five",
        "5\r\nContent-Length: 6",
        "18446744073709551616",
    ]
    .map(length);
    assert_refused(&requests.each_ref().map(String::as_str));
}

#[test]
fn case_29_transfer_codings_other_than_chunked_once_are_refused() {
    let coding = |value: &str| {
        let fields = format!("Host: api.test\r\nTransfer-Encoding: {value}");
        format!("POST /any HTTP/1.1\r\n{fields}\r\n\r\n5\r\nright\r\n0\r\n\r\n")
    };
    let requests = [
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked, chunked",
        "gzip, chunked",
        "gzip",
        "identity",
        "identity, chunked",
        "chunked, identity",
        "chunked\r\nTransfer-Encoding: identity",
        "identity\r\nTransfer-Encoding: chunked",
        "\x0bchunked",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "",
    ]
    .map(coding);
    assert_refused(&requests.each_ref().map(String::as_str));
}

#[test]
fn case_29_chunked_in_http_10_is_refused() {
    assert_refused(&[
        "POST /any HTTP/1.0\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nright\r\n0\r\n\r\n",
    ]);
}

#[test]
fn case_29_heads_that_break_the_rules_are_refused() {
    assert_refused(&[
        "GET /any HTTP/1.1\r\n\r\n",
        "GET /any HTTP/1.1\r\nHost: api.test\r\nHost: api.test\r\n\r\n",
        "GET /any HTTP/1.1\r\nHost: api.test\r\nHost: other.test\r\n\r\n",
        "GET /any HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /any HTTP/1.1\r\nHost: api.test\r\n: 1\r\n\r\n",
        "GET /any HTTP/1.1\r\nHost : api.test\r\n\r\n",
        "GET /any HTTP/1.1\r\nHost: api.test\r\nno colon\r\n\r\n",
        "GET /any HTTP/1.1\r\nHost: api.test\r\nx-a: 1\r\n folded\r\n\r\n",
        "GET /any HTTP/1.1\r\nHost: api.test\r\nx-a: 1\0 2\r\n\r\n",
        "GET /any HTTP/1.1\r\nHost: api.test\r\nx-a: 1\r2\r\n\r\n",
        "GET /an y HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "G ET /any HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET  /any HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET\t/any HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET any HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET /any HTTP/1.2\r\nHost: api.test\r\n\r\n",
        "GET /any HTTP/2.0\r\nHost: api.test\r\n\r\n",
        "GET /any\r\n\r\n",
        "GET http://user@api.test/any HTTP/1.1\r\nHost: api.test\r\n\r\n",
    ]);
}

#[test]
fn case_29_a_fragment_goes_no_further() {
    let (origin, warmline) = serving();
    let mut client = warmline.connect();
    client.send("GET /any?q=1#part HTTP/1.1\r\nHost: api.test\r\n\r\n");
    if client.response().status != 400 {
        assert_eq!(origin.record().last_request().target, "/any?q=1");
    }
}

#[test]
fn case_29_a_name_of_270_bytes_passes_unharmed() {
    let (origin, warmline) = serving();
    let name = "x".repeat(270);
    let mut client = warmline.connect();
    client.send(format!("GET /any HTTP/1.1\r\nHost: api.test\r\n{name}: 1\r\n\r\n"));
    assert_eq!(client.response().status, 200);
    assert_eq!(origin.record().last_request().head.field(&name), Some("1"));
}

#[test]
fn case_29_broken_chunks_of_a_request_end_both_connections() {
    for chunk in
        ["0x5\r\nright\r\n", "+5\r\nright\r\n", "5\nright\r\n", "5\r\nrightX\r\n", "five\r\n"]
    {
        let (origin, warmline) = serving();
        let mut client = warmline.connect();
        let head = "POST /echo HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked";
        let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n";
        client.send(format!("{head}\r\n\r\n{chunk}{smuggled}"));
        if let Ok(answer) = client.response_to("POST") {
            assert_eq!(answer.status, 400, "{chunk:?}: {answer:#?}");
        }
        client.half_close();
        let (_, rest) = client.end();
        assert_eq!(rest, b"", "{chunk:?}: {}", rest.escape_ascii());
        warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
        assert_eq!(warmline.one_shot("/after").text(), "hello\n");
        assert!(origin.record().requests.iter().all(|r| r.target != "/smuggled"), "{chunk:?}");
    }
}

#[test]
fn case_30_bytes_after_an_upgrade_that_was_not_accepted_are_the_next_request() {
    let (first, second) = (Origin::serving().start(), Origin::serving().start());
    let setup = Setup::before(&first).set("hosts", vec!["one.test"]);
    let warmline = setup.upstream("second", &second).set("hosts", vec!["two.test"]).start();
    let mut client = warmline.connect();
    client.send(
        "GET /one HTTP/1.1\r\nHost: one.test\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n\
         GET /two HTTP/1.1\r\nHost: two.test\r\n\r\n",
    );
    assert_eq!((client.response().status, client.response().status), (200, 200));
    let targets = |origin: &Origin| {
        origin.record().requests.iter().map(|r| r.target.clone()).collect::<Vec<_>>()
    };
    assert_eq!((targets(&first), targets(&second)), (vec!["/one".into()], vec!["/two".into()]));
    let head = &first.record().requests[0].head;
    assert_eq!((head.field("upgrade"), head.field("connection")), (None, None));
    warmline.wait_for_pool("the connection's return", |pool| pool.census.idle == 1);
}

#[test]
fn case_31_connect_is_405_and_nothing_is_pooled() {
    let (origin, warmline) = serving();
    for request in [
        "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n",
        "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nContent-Length: 4\r\n\r\nbody",
        "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "CONNECT api.test:443 HTTP/1.0\r\n\r\n",
    ] {
        let mut client = warmline.connect();
        client.send(request);
        let answer = client.response();
        assert_eq!(answer.status, 405, "{request}");
        assert!(answer.text().contains("CONNECT"), "{}", answer.text());
        assert!(answer.head.field("allow").is_some(), "{answer:#?}");
        then_usable_or_closed(&mut client, &answer, request);
    }
    assert_eq!(origin.record().connections.len(), 1, "only what came after went up");
}

/// Asserts that the client's connection was closed cleanly if the answer announced that, and otherwise gets the next
/// answer right.
fn then_usable_or_closed(client: &mut Client, answer: &Response, request: &str) {
    let closed = answer.head.field("connection") == Some("close") || request.contains("HTTP/1.0");
    if closed {
        client.half_close();
        assert_eq!(client.end(), (Ending::Fin, Vec::new()), "{request}");
    } else {
        assert_eq!(client.get("api.test", "/any").text(), "hello\n", "{request}");
    }
}
