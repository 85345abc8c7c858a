//! Field names keep their case, and odd bytes in a response's fields are handled (items 13 and 16).

use crate::support::{
    client::Response,
    log_lines,
    origin::{Handshakes, Origin},
    running::Running,
    setup::Setup,
};

/// Starts an origin that answers each request with these fields.
fn answering(fields: &'static str) -> Origin {
    Origin::scripted(move |mut peer| async move {
        while peer.request().await.is_some() {
            peer.write(format!("HTTP/1.1 200 OK\r\n{fields}Content-LENGTH: 2\r\n\r\nok")).await;
        }
    })
    .start()
}

/// Returns the field names that the origin got of a request with names in odd case, and those that the client got of
/// the response.
fn names(origin: &Origin, warmline: &Running) -> (Vec<String>, Vec<String>) {
    let mut client = warmline.connect();
    client.send(
        "POST /any HTTP/1.1\r\nhOsT: api.test\r\nSOAPAction: a\r\nx-twice: 1\r\nX-TWICE: 2\r\n\
         Content-length: 4\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\nbody",
    );
    let answer = client.response();
    let up = origin.record().last_request().head.fields.clone();
    (sorted(up), sorted(answer.head.fields))
}

fn sorted(fields: Vec<(String, String)>) -> Vec<String> {
    let mut lines: Vec<_> =
        fields.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
    lines.sort_unstable();
    lines.into_iter().filter(|line| !line.to_ascii_lowercase().starts_with("host")).collect()
}

#[test]
fn fault_13_field_names_are_kept_lower_or_title_as_header_case_says() {
    let down = ["Content-LENGTH: 2", "X-Odd-NAME: 1", "x-ODD-name: 2"];
    let lower_down = ["content-length: 2", "x-odd-name: 1", "x-odd-name: 2"];
    let lower = ["content-length: 4", "soapaction: a", "x-twice: 1", "x-twice: 2"];
    let title = ["Content-Length: 4", "Soapaction: a", "X-Twice: 1", "X-Twice: 2"];
    let kept = ["Content-length: 4", "SOAPAction: a", "X-TWICE: 2", "x-twice: 1"];
    for (case, up, came) in
        [("lower", lower, lower_down), ("title", title, lower_down), ("kept", kept, down)]
    {
        let origin = answering("X-Odd-NAME: 1\r\nx-ODD-name: 2\r\n");
        let warmline = Setup::before(&origin).set("headerCase", case).start();
        for _ in 0..2 {
            let (went, answered) = names(&origin, &warmline);
            assert_eq!(went, up, "{case}");
            assert_eq!(answered, came, "{case}");
        }
        assert_eq!(origin.record().connections.len(), 1, "{case}");
    }
}

#[test]
fn fault_13_an_upstream_that_keeps_no_case_is_not_changed_by_another_that_does() {
    let (keeping, other) = (answering(""), answering(""));
    let setup = Setup::before(&keeping).set("headerCase", "kept").set("hosts", vec!["one.test"]);
    let warmline = setup.upstream("second", &other).set("headerCase", "lower").start();
    let (went, answered) = names(&other, &warmline);
    assert!(went.iter().chain(&answered).all(|line| *line == line.to_lowercase()), "{went:?}");
}

#[test]
fn fault_13_a_connection_that_wakes_from_rest_writes_names_as_before() {
    log_lines::catch();
    for (case, name) in [("kept", "SOAPAction"), ("title", "Soapaction")] {
        let origin = answering("X-Odd-NAME: 1\r\n");
        let warmline = Setup::before(&origin).set("headerCase", case).start();
        for rests in 1..=2 {
            let (went, answered) = names(&origin, &warmline);
            assert!(went.contains(&format!("{name}: a")), "{case}: {went:?}");
            let kept = answered.contains(&"X-Odd-NAME: 1".to_owned());
            assert_eq!(kept, case == "kept", "{answered:?}");
            log_lines::rests(origin.port(), rests);
        }
        assert_eq!(origin.record().connections.len(), 1);
    }
}

#[test]
fn fault_13_a_request_that_is_sent_again_keeps_its_names() {
    let origin = Origin::scripted(|mut peer| async move {
        let mut idle_before = false;
        while peer.request().await.is_some() {
            if idle_before && peer.number() == 0 {
                return peer.reset();
            }
            peer.answer("ok").await;
            idle_before = true;
        }
    })
    .start();
    let warmline = Setup::before(&origin).set("headerCase", "kept").start();
    let mut client = warmline.connect();
    for _ in 0..2 {
        client.send("GET /any HTTP/1.1\r\nHost: api.test\r\nX-ODD: 1\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
    let record = origin.record();
    assert_eq!((record.connections.len(), record.requests.len()), (2, 3));
    let odd = |(name, _): &(String, String)| name == "X-ODD";
    assert!(record.requests.iter().all(|request| request.head.fields.iter().any(odd)));
}

#[test]
fn fault_13_another_header_case_is_in_force_at_once_and_costs_no_full_handshake() {
    let origin = answering("");
    let mut warmline = Setup::before(&origin).start_following();
    assert!(names(&origin, &warmline).0.contains(&"soapaction: a".to_owned()));
    warmline.set("upstreams.0.headerCase", "kept").apply();
    assert!(names(&origin, &warmline).0.contains(&"SOAPAction: a".to_owned()));
    assert_eq!(origin.record().handshakes(), Handshakes { full: 1, resumed: 1 });
}

/// Returns the answer to a request whose upstream's response has this line.
fn answer_with(line: &'static str) -> Response {
    let origin = Origin::scripted(move |mut peer| async move {
        while peer.request().await.is_some() {
            peer.write(format!("HTTP/1.1 200 OK\r\n{line}\r\ncontent-length: 2\r\n\r\n\x01\x7f"))
                .await;
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    warmline.one_shot("/any")
}

#[test]
fn fault_16_control_bytes_in_a_value_pass_as_spaces() {
    for (line, value) in
        [("x-a: 1\x012", "1 2"), ("x-a: \x7f1\x1f2\x0b", "1 2"), ("X-A: a\u{e9}\tb", "a\u{e9}\tb")]
    {
        let answer = answer_with(line);
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, b"\x01\x7f".as_slice()),
            "{line:?}"
        );
        assert_eq!(answer.head.field("x-a"), Some(value), "{line:?}");
    }
}

#[test]
fn fault_16_control_bytes_pass_as_spaces_also_where_each_byte_comes_alone_behind_an_informational_head()
 {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        let heads =
            "HTTP/1.1 103 Early Hints\r\nlink: \x01\r\n\r\nHTTP/1.1 200 OK\r\nx-a: 1\x012\r\n";
        for byte in heads.bytes() {
            peer.write([byte]).await;
        }
        peer.write("content-length: 2\r\n\r\n\x01\x7f").await;
    })
    .start();
    let answer = Setup::before(&origin).start().one_shot("/any");
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"\x01\x7f".as_slice()));
    assert_eq!(answer.head.field("x-a"), Some("1 2"));
}

#[test]
fn fault_16_a_refused_head_is_reported_with_the_field_and_the_byte() {
    for (line, told) in [
        ("x-a: 1\x002", "the byte 0x00 at place 2 of the value of the field \"x-a\""),
        ("x-a: 1\r2", "the byte 0x0D at place 2 of the value of the field \"x-a\""),
        ("x-a: 1\r\n folded", "the value of the field \"x-a\" goes on in another line"),
        ("x-a : 1", "the byte 0x20 at place 4 of the name of a field that begins with \"x-a\""),
        ("x(a): 1", "the byte '(' at place 2 of the name of a field that begins with \"x\""),
        ("no colon", "a line of the header without a colon, which begins with \"no\""),
        (": 1", "a field without a name"),
        (
            "content-length: 2\x01",
            "the byte 0x01 at place 2 of the value of the field \"content-length\"",
        ),
        (
            "content-length: 3",
            "Content-Length is not a decimal number below 2^64, or two of them differ",
        ),
    ] {
        let answer = answer_with(line);
        assert_eq!(answer.status, 502, "{line:?}");
        assert!(answer.text().contains(told), "{line:?}: {}", answer.text());
        let status = answer.head.field("proxy-status").unwrap_or_default();
        assert!(status.contains("error=http_protocol_error"), "{line:?}: {status}");
    }
}

#[test]
fn fault_16_a_status_line_that_is_none_is_told_by_its_byte() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 2OO OK\r\n\r\n").await;
        peer.ended().await;
    })
    .start();
    let text = Setup::before(&origin).start().one_shot("/any").text();
    assert!(text.contains("the byte 'O' at place 11 of the status line"), "{text}");
}
