//! Request lines as real clients write them: the targets that pass, their form upstream, and the texts of refusals
//! (items 11, 18 and 36).

use crate::support::{
    client::{Client, Response},
    log_lines::{self, line_of},
    origin::Origin,
    running::Running,
    setup::{Setup, serving},
};

/// Returns a GET with these bytes as target.
fn get(target: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\nHost: api.test\r\n\r\n"].concat()
}

fn asked(client: &mut Client, request: impl AsRef<[u8]>) -> Response {
    client.send(request);
    client.response()
}

fn newest_target(origin: &Origin) -> String {
    origin.record().last_request().target.clone()
}

/// Sends a request over a new connection, asserts that it is refused with 400 and close, and returns the text.
fn refused(warmline: &Running, request: impl AsRef<[u8]>) -> String {
    let answer = asked(&mut warmline.connect(), request.as_ref());
    assert_eq!(answer.status, 400, "{answer:#?}");
    assert_eq!(answer.head.field("connection"), Some("close"), "{answer:#?}");
    answer.text()
}

#[test]
fn fault_11_json_and_raw_bytes_in_a_url_go_up_percent_encoded() {
    let (origin, warmline) = serving();
    let mut client = warmline.connect();
    for (written, target) in [
        (&b"/items?filter={\"a\":1}"[..], "/items?filter={%22a%22:1}"),
        (b"/a<b>`c`?<d>", "/a%3Cb%3E%60c%60?%3Cd%3E"),
        (b"/caf\xe9?q=\xfc", "/caf%E9?q=%FC"),
        ("/caf\u{e9}?q=%22|^\\[]".as_bytes(), "/caf\u{e9}?q=%22|^\\[]"),
        (b"http://api.test/x?y=\"z\"", "/x?y=%22z%22"),
        (b"/plain?x=1", "/plain?x=1"),
    ] {
        assert_eq!(asked(&mut client, get(written)).text(), "hello\n");
        assert_eq!(newest_target(&origin), target);
    }
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn fault_11_bodies_between_such_requests_arrive_as_they_were_sent_however_they_are_framed() {
    let (origin, warmline) = serving();
    let mut client = warmline.connect();
    let body = "GET /\"<> HTTP/1.1\r\nHost: x\r\n\r\n";
    let post = "POST /echo HTTP/1.1\r\nHost: api.test\r\n";
    let length = format!("{post}Content-Length: {}\r\n\r\n{body}", body.len());
    let chunks =
        format!("{post}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for _ in 0..2 {
        assert_eq!(asked(&mut client, &length).text(), body);
        assert_eq!(asked(&mut client, get(b"/?\"length\"")).text(), "hello\n");
        assert_eq!(newest_target(&origin), "/?%22length%22");
        assert_eq!(asked(&mut client, &chunks).text(), body);
        assert_eq!(asked(&mut client, get(b"/?\"chunks\"")).text(), "hello\n");
        assert_eq!(newest_target(&origin), "/?%22chunks%22");
    }
    // Now head and body come in separate pieces.
    let (head, rest) = length.split_at(length.len() - body.len());
    client.send(head);
    origin.wait_for("the head", |record| record.request_count == 9);
    assert_eq!(asked(&mut client, rest).text(), body);
    assert_eq!(asked(&mut client, get(b"/?\"apart\"")).text(), "hello\n");
    assert_eq!(newest_target(&origin), "/?%22apart%22");
}

#[test]
fn fault_11_requests_that_share_a_segment_are_each_escaped() {
    let (origin, warmline) = serving();
    let mut client = warmline.connect();
    let body = "POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\n\"<>\"";
    client.send([get(b"/?\"1\""), body.into(), get(b"/?\"2\""), get(b"/?\"3\"")].concat());
    let texts: Vec<_> = (0..4).map(|_| client.response().text()).collect();
    assert_eq!(texts, ["hello\n", "\"<>\"", "hello\n", "hello\n"]);
    let targets: Vec<_> = origin.record().requests.iter().map(|r| r.target.clone()).collect();
    assert_eq!(targets, ["/?%221%22", "/echo", "/?%222%22", "/?%223%22"]);
}

#[test]
fn fault_11_a_request_line_that_comes_byte_by_byte_is_escaped() {
    let (origin, warmline) = serving();
    let mut client = warmline.connect();
    for byte in get(b"/\xe9?\"\xc3\xa9\"") {
        client.send([byte]);
    }
    assert_eq!(client.response().text(), "hello\n");
    assert_eq!(newest_target(&origin), "/%E9?%22\u{e9}%22");
}

#[test]
fn fault_11_escapes_count_under_header_bytes() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set_global("listeners.0.limits.headerBytes", "8KiB");
    let warmline = setup.start();
    let ask = |quotes: usize| {
        let target = [&b"/?"[..], &b"\"".repeat(quotes)].concat();
        asked(&mut warmline.connect(), get(&target)).status
    };
    assert_eq!((ask(2600), ask(2800)), (200, 431));
}

#[test]
fn fault_11_the_access_line_shows_what_went_up_and_says_that_it_was_escaped() {
    log_lines::catch();
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set_global("log.access", "all").start();
    let mut client = warmline.connect();
    asked(&mut client, get(b"/escaped-in-the-log?{\"a\"}"));
    asked(&mut client, get(b"/plain-in-the-log"));
    assert_eq!(line_of("GET /escaped-in-the-log?{%22a%22}").get("escaped"), "2");
    assert_eq!(line_of("GET /plain-in-the-log").get("escaped"), "");
}

#[test]
fn fault_11_a_fragment_is_refused_with_its_place() {
    let (origin, warmline) = serving();
    let text = refused(&warmline, get(b"/any?q=1#part"));
    assert!(text.contains("the byte '#' at place 13 of the request line"), "{text}");
    assert_eq!(origin.record().request_count, 0);
}

#[test]
fn fault_11_https_is_asked_about_only_where_a_tls_record_came() {
    let (_origin, warmline) = serving();
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let text = refused(&warmline, hello);
    assert!(text.contains("called with https:// for http://?"), "{text}");
    for request in ["\x16\x02\x01\r\n\r\n", "GET /a b HTTP/1.1\r\n\r\n", "{\"a\":1}\r\n\r\n"] {
        let text = refused(&warmline, request);
        assert!(!text.contains("https"), "{text}");
    }
}

#[test]
fn fault_11_every_other_400_names_the_byte_and_its_place() {
    let (origin, warmline) = serving();
    let head = "GET /any HTTP/1.1\r\nHost: api.test\r\n";
    for (request, told) in [
        ("GET /a b HTTP/1.1\r\n\r\n".into(), "the byte 'b' at place 8 of the request line"),
        ("GET /a\x01 HTTP/1.1\r\n\r\n".into(), "the byte 0x01 at place 7 of the request line"),
        ("{\"a\":1}\r\n\r\n".into(), "the byte '{' at place 1 of the request line"),
        ("GET http://a<b/ HTTP/1.1\r\n\r\n".into(), "the byte '<' at place 13 of the request line"),
        ("GET any HTTP/1.1\r\nHost: a\r\n\r\n".into(), "the target is neither a path nor a URL"),
        (
            format!("{head}x-a: 1\x002\r\n\r\n"),
            "the byte 0x00 at place 2 of the value of the field \"x-a\"",
        ),
        (format!("{head}x a: 1\r\n\r\n"), "the byte 0x20 at place 2 of the name of a field"),
        (format!("{head}no colon\r\n\r\n"), "a line of the header without a colon"),
        (format!("{head}Content-Length: 5x\r\n\r\n"), "Content-Length is not a decimal number"),
        (format!("{head}Transfer-Encoding: gzip\r\n\r\n"), "Transfer-Encoding does not end in"),
        ("GET /any HTTP/1.1\r\nHost: a{b\r\n\r\n".into(), "no upstream is configured for the host"),
        (
            "GET /any HTTP/1.1\r\nHost: a\u{e9}\r\n\r\n".into(),
            "the byte 0xC3 at place 2 of the host",
        ),
    ] {
        let answer = asked(&mut warmline.connect(), &request);
        assert!([400, 404].contains(&answer.status), "{request:?}: {answer:#?}");
        assert!(answer.text().contains(told), "{request:?}: {}", answer.text());
    }
    assert_eq!(origin.record().request_count, 0);
}

#[test]
fn fault_18_a_doubled_transfer_encoding_is_refused_for_what_it_is() {
    let origin = Origin::scripted(|mut peer| async move {
        while peer.head().await.is_some() {
            let field = "transfer-encoding: chunked\r\n";
            peer.write(format!("HTTP/1.1 200 OK\r\n{field}{field}\r\n0\r\n\r\n")).await;
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("says \"chunked\" 2 times"), "{}", answer.text());
    assert!(answer.text().contains("the server"), "{}", answer.text());
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    let request = format!("POST / HTTP/1.1\r\nHost: api.test\r\n{twice}\r\n0\r\n\r\n");
    let text = refused(&warmline, request);
    assert!(text.contains("says \"chunked\" 2 times") && text.contains("the client"), "{text}");
}

#[test]
fn fault_36_options_of_a_url_asks_for_its_path_and_only_without_one_for_the_server() {
    let (origin, warmline) = serving();
    let mut client = warmline.connect();
    for (target, goes_up) in [
        ("http://api.test/", "/"),
        ("http://api.test", "*"),
        ("http://api.test?x", "/?x"),
        ("http://api.test/x", "/x"),
        ("*", "*"),
        ("/", "/"),
    ] {
        asked(&mut client, format!("OPTIONS {target} HTTP/1.1\r\nHost: api.test\r\n\r\n"));
        assert_eq!(newest_target(&origin), goes_up, "{target}");
    }
    asked(&mut client, "GET http://api.test HTTP/1.1\r\nHost: api.test\r\n\r\n");
    assert_eq!(newest_target(&origin), "/");
}

#[test]
fn fault_36_a_port_that_is_none_is_refused_in_host_and_in_a_url() {
    let (origin, warmline) = serving();
    for (target, host, told) in [
        ("/", "api.test:133200", "the port 133200 of the host"),
        ("http://api.test:65536/", "api.test", "the port 65536 of the host"),
        ("/", "api.test:80x", "the byte 'x' at place 12 of the host"),
        ("http://api.test:80x/", "api.test", "the byte 'x' at place 12 of the host"),
        ("/", "api.test:0", "the port 0 of the host"),
    ] {
        let text = refused(&warmline, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert!(text.contains(told), "{text}");
    }
    assert_eq!(origin.record().requests.len(), 0);
    for (target, host) in [("/", "api.test:"), ("/", "api.test:65535"), ("http://api.test:1/", "x")]
    {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(asked(&mut warmline.connect(), request).text(), "hello\n");
    }
}

#[test]
fn fault_36_a_password_in_host_reaches_neither_answer_nor_log_nor_page() {
    log_lines::catch();
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set_global("log.access", "all").start();
    for (target, host) in [
        ("/password-in-host", "me:secret@api.test"),
        ("/password-in-a-port", "api.test:secret@api.test"),
        ("http://me:secret@api.test/password-in-a-url", "api.test"),
    ] {
        let text = refused(&warmline, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert!(text.contains("user information") && !text.contains("secret"), "{text}");
    }
    let header = "GET / HTTP/1.1\r\nAuthorization Basic secret:secret\r\n\r\n";
    assert!(!refused(&warmline, header).contains("secret"));
    assert!(!line_of("GET /password-in-host").get("error").contains("secret"));
    let line = line_of("GET http://...@api.test/password-in-a-url");
    assert!(!line.get("error").contains("secret"), "{line:?}");
    for page in ["/", "/pools", "/pools?format=json"] {
        assert!(!warmline.admin(page).text().contains("secret"), "{page}");
    }
}
