//! The fields that pass, and the changes to them (docs/design.md, "Fields"; RFC 9110 section 7.6.1).

use std::net::TcpListener;

use crate::support::{
    client::{Client, Response},
    message::Head,
    origin::{self, Origin},
    running::Running,
    setup::{Setup, serving},
};

/// Sends a request with this head and returns the head that reached the origin.
fn goes_up(origin: &Origin, warmline: &Running, head: &str) -> Head {
    let mut client = warmline.connect();
    client.send(format!("{head}\r\n\r\n"));
    let answer = client.response();
    assert_eq!(answer.status, 200, "{head}: {answer:#?}");
    origin.record().last_request().head.clone()
}

/// Starts an upstream that answers every request with these fields, a length and `ok`, and Warmline before it.
fn answering(fields: &'static str) -> (Origin, Running) {
    let origin = Origin::scripted(move |mut peer| async move {
        while peer.request().await.is_some() {
            peer.write(format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nok")).await;
        }
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    (origin, warmline)
}

fn names(head: &Head) -> Vec<String> {
    let mut names: Vec<_> = head.fields.iter().map(|(name, _)| name.to_lowercase()).collect();
    names.sort_unstable();
    names
}

#[test]
fn hop_by_hop_fields_are_not_sent_to_the_upstream() {
    let (origin, warmline) = serving();
    let head = goes_up(
        &origin,
        &warmline,
        "GET /any HTTP/1.1\r\nHost: api.test\r\nConnection: keep-alive, X-Own\r\nConnection: x-second\r\n\
         X-Own: 1\r\nX-Second: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         TE: trailers\r\nUpgrade: foo\r\nProxy-Authorization: Basic eDp5\r\n\
         Accept: */*\r\nAuthorization: Bearer mine\r\nX-Other: 2",
    );
    assert_eq!(names(&head), ["accept", "authorization", "host", "x-other"]);
}

#[test]
fn hop_by_hop_fields_are_not_sent_to_the_client() {
    let (_origin, warmline) = answering(
        "connection: keep-alive, x-own\r\nx-own: 1\r\nkeep-alive: timeout=5\r\nproxy-connection: close\r\n\
         te: trailers\r\nupgrade: foo\r\nserver: origin\r\ndate: yesterday\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n",
    );
    let answer = warmline.connect().get(origin::NAME, "/any");
    let left = ["content-length", "date", "server", "set-cookie", "set-cookie"];
    assert_eq!(names(&answer.head), left);
    assert_eq!(answer.head.values("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.head.field("date"), Some("yesterday"));
}

#[test]
fn we_add_nothing_of_our_own() {
    let (origin, warmline) = serving();
    let head = goes_up(&origin, &warmline, "GET /any HTTP/1.1\r\nHost: api.test");
    assert_eq!(names(&head), ["host"]);
    let (_origin, warmline) = answering("");
    let answer = warmline.connect().get(origin::NAME, "/any");
    assert_eq!(names(&answer.head), ["content-length"]);
}

#[test]
fn forwarding_fields_of_earlier_proxies_pass_unchanged() {
    let (origin, warmline) = serving();
    let head = goes_up(
        &origin,
        &warmline,
        "GET /any HTTP/1.1\r\nHost: api.test\r\nVia: 1.1 first\r\nX-Forwarded-For: 10.0.0.1\r\nForwarded: for=_a",
    );
    assert_eq!(head.field("via"), Some("1.1 first"));
    assert_eq!(head.field("x-forwarded-for"), Some("10.0.0.1"));
    assert_eq!(head.field("forwarded"), Some("for=_a"));
}

#[test]
fn connection_cannot_take_away_host_or_length() {
    let (origin, warmline) = serving();
    let mut client = warmline.connect();
    let fields = "Connection: host, content-length, transfer-encoding\r\nContent-Length: 5";
    client.send(format!("POST /echo HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n\r\nright"));
    assert_eq!(client.response().text(), "right");
    let head = origin.record().last_request().head.clone();
    assert_eq!(names(&head), ["content-length", "host"]);
}

#[test]
fn repeated_fields_keep_their_order() {
    let (origin, warmline) = serving();
    let fields = "X-A: 1\r\nX-B: 2\r\nX-A: 3\r\nCookie: a=1";
    let head =
        goes_up(&origin, &warmline, &format!("GET /any HTTP/1.1\r\nHost: api.test\r\n{fields}"));
    assert_eq!(head.values("x-a"), ["1", "3"]);
    assert_eq!(head.field("cookie"), Some("a=1"));
}

#[test]
fn the_target_passes_as_it_was_written() {
    let (origin, warmline) = serving();
    for target in ["/", "/a/../b//c", "/?", "/a?b=c&d=%20%2F", "/%C3%A4;x=1", "/*", "//a"] {
        goes_up(&origin, &warmline, &format!("GET {target} HTTP/1.1\r\nHost: api.test"));
        let went = origin.record().last_request().target.clone();
        assert_eq!(went, target);
    }
}

#[test]
fn options_may_ask_about_the_whole_server() {
    let (origin, warmline) = serving();
    let head = goes_up(&origin, &warmline, "OPTIONS * HTTP/1.1\r\nHost: api.test");
    assert_eq!(head.start, "OPTIONS * HTTP/1.1");
    let head = goes_up(&origin, &warmline, "OPTIONS http://api.test HTTP/1.1\r\nHost: api.test");
    assert_eq!(head.start, "OPTIONS * HTTP/1.1");
}

#[test]
fn host_goes_up_with_the_endpoints_port_and_not_with_the_listeners() {
    let (origin, warmline) = serving();
    let told = format!("api.test:{}", origin.port());
    let listener = format!("api.test:{}", warmline.address().port());
    for host in ["api.test", "API.test", "api.test:80", "api.test:", &listener] {
        let head = goes_up(&origin, &warmline, &format!("GET /any HTTP/1.1\r\nHost: {host}"));
        assert_eq!(head.field("host"), Some(told.as_str()), "{host}");
    }
}

#[test]
fn absolute_form_overrides_host_and_goes_up_in_origin_form() {
    let (first, second) = (Origin::serving().start(), Origin::serving().start());
    let setup = Setup::before(&first).set("hosts", vec!["one.test"]);
    let warmline = setup.upstream("second", &second).set("hosts", vec!["two.test"]).start();
    for (absolute, origin_form) in [
        ("http://two.test/path?q=1", "/path?q=1"),
        ("http://two.test", "/"),
        ("http://two.test:8080/path", "/path"),
        ("HTTP://TWO.test/path", "/path"),
        ("http://two.test?q=1", "/?q=1"),
    ] {
        let head =
            goes_up(&second, &warmline, &format!("GET {absolute} HTTP/1.1\r\nHost: one.test"));
        assert_eq!(head.start, format!("GET {origin_form} HTTP/1.1"), "{absolute}");
        assert_eq!(head.field("host"), Some(format!("two.test:{}", second.port()).as_str()));
    }
    assert_eq!(first.record().request_count, 0);
}

#[test]
fn absolute_form_with_another_scheme_is_refused() {
    let (origin, warmline) = serving();
    for target in ["https://api.test/", "ftp://api.test/"] {
        let mut client = warmline.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: api.test\r\n\r\n"));
        let answer = client.response();
        assert_eq!(answer.status, 400, "{target}");
        assert!(answer.text().contains("http://"), "{}", answer.text());
    }
    assert_eq!(origin.record().request_count, 0);
}

#[test]
fn a_star_takes_every_other_host_and_passes_it_on() {
    let (first, rest) = (Origin::serving().start(), Origin::serving().start());
    let setup = Setup::before(&first).set("hosts", vec!["one.test"]);
    let warmline = setup.upstream("rest", &rest).set("hosts", vec!["*"]).start();
    let head = goes_up(&rest, &warmline, "GET /any HTTP/1.1\r\nHost: other.test:8080");
    assert_eq!(head.field("host"), Some(format!("other.test:{}", rest.port()).as_str()));
    let head = goes_up(&first, &warmline, "GET /any HTTP/1.1\r\nHost: one.test");
    assert_eq!(head.field("host"), Some(format!("one.test:{}", first.port()).as_str()));
}

#[test]
fn on_its_own_port_an_upstream_takes_any_host_and_is_told_its_first() {
    let origin = Origin::serving().start();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let setup = Setup::before(&origin).set("port", port);
    let warmline = setup.set("hosts", vec!["first.test", "second.test"]).start();
    let own = warmline.addresses().into_iter().filter(|address| address.port() == port);
    for address in own {
        for head in [
            "GET /any HTTP/1.1\r\nHost: localhost:13401",
            "GET /any HTTP/1.1\r\nHost: second.test",
            "GET http://evil.test/any HTTP/1.1\r\nHost: x",
            "GET /any HTTP/1.0",
        ] {
            let mut client = Client::connect(address);
            client.send(format!("{head}\r\n\r\n"));
            assert_eq!(client.response().status, 200, "{head}");
            let request = origin.record().last_request().clone();
            let told = format!("first.test:{}", origin.port());
            assert_eq!(request.head.field("host"), Some(told.as_str()), "{head}");
            assert_eq!(request.target, "/any", "{head}");
        }
    }
    assert!(origin.record().request_count >= 4, "the own port was found");
}

#[test]
fn an_http_10_request_goes_up_as_http_11() {
    let (origin, warmline) = serving();
    let head = goes_up(&origin, &warmline, "GET /any HTTP/1.0\r\nHost: api.test");
    assert_eq!((head.start.as_str(), head.field("connection")), ("GET /any HTTP/1.1", None));
}

#[test]
fn an_http_10_request_may_do_without_host_where_one_upstream_takes_all_or_the_target_names_it() {
    let (origin, warmline) = serving();
    let head = goes_up(&origin, &warmline, "GET http://api.test/any HTTP/1.0");
    assert_eq!(head.field("host"), Some(format!("api.test:{}", origin.port()).as_str()));
}

/// Returns true if the client's connection goes on after the answer.
fn goes_on(client: &mut Client, answer: &Response) -> bool {
    assert_eq!(answer.text(), "hello\n");
    client.try_send("GET /any HTTP/1.1\r\nHost: api.test\r\n\r\n").is_ok()
        && client.response_to("GET").is_ok_and(|next| next.status == 200)
}

#[test]
fn an_http_10_client_is_closed_unless_it_asks_to_stay() {
    let (origin, warmline) = serving();
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.0\r\nHost: api.test\r\n\r\n");
    let answer = client.response();
    assert!(!goes_on(&mut client, &answer), "it stayed open");
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.0\r\nHost: api.test\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.head.field("connection"), Some("keep-alive"));
    assert!(goes_on(&mut client, &answer), "it was closed");
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn an_http_10_client_never_gets_chunks() {
    let (origin, warmline) = serving();
    for connection in ["close", "keep-alive"] {
        let mut client = warmline.connect();
        let fields = format!("Host: api.test\r\nConnection: {connection}");
        client.send(format!("GET /chunked/40000 HTTP/1.0\r\n{fields}\r\n\r\n"));
        let answer = client.response();
        assert_eq!((answer.body.len(), answer.head.field("transfer-encoding")), (40_000, None));
    }
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn a_client_that_asks_to_close_is_closed_and_its_upstream_connection_stays() {
    let (origin, warmline) = serving();
    for target in ["/any", "/bytes/100000", "/chunked/100000", "/status/204"] {
        let mut client = warmline.connect();
        client
            .send(format!("GET {target} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n"));
        let answer = client.response();
        assert_eq!(answer.head.field("connection"), Some("close"), "{target}");
        assert_eq!(client.end(), (crate::support::client::Ending::Fin, Vec::new()), "{target}");
    }
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn a_status_text_passes() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 All Is Well\r\ncontent-length: 0\r\n\r\n").await;
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    assert_eq!(warmline.one_shot("/any").head.start, "HTTP/1.1 200 All Is Well");
}
