//! Response bodies: lengths, transfer codings, and stray bytes after a response (RFC 9112 sections 6 and 9).

use super::{Case, Then};
use crate::support::{
    client::Ending,
    origin::{Gate, Origin},
    setup::Setup,
    together, wait_for,
};

#[test]
fn case_04_bytes_after_a_complete_response_are_never_part_of_one() {
    for stray in ["x", "and more", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", "\r\n"] {
        let bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{stray}");
        let answer = Case::answered(bytes).then(Then::Serves).destroys().expect("a whole one");
        assert_eq!(answer.text(), "ok", "{stray:?}");
    }
}

#[test]
fn case_04_bytes_after_the_last_chunk_are_never_part_of_a_response() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let bytes = format!("{head}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
    let answer = Case::answered(bytes).then(Then::Serves).destroys().expect("a whole one");
    assert_eq!(answer.text(), "ok");
}

#[test]
fn case_04_bytes_on_an_idle_connection_destroy_it() {
    let gate = Gate::new();
    let opened = gate.clone();
    let origin = Origin::scripted(move |mut peer| {
        let opened = opened.clone();
        async move {
            peer.request().await;
            peer.answer("ok").await;
            if peer.number() == 0 {
                opened.opened().await;
                peer.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
            }
            peer.ended().await;
            peer.close().await;
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    assert_eq!(warmline.one_shot("/first").text(), "ok");
    warmline.wait_for_pool("an idle connection", |pool| pool.census.idle == 1);
    gate.open();
    warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
    let closed = |labels: &[_]| warmline.metric("warmline_pool_connections_closed_total", labels);
    wait_for("its count", || closed(&[]) == 1);
    assert_eq!(closed(&[("reason", "unfit")]), 1, "bytes that nobody asked for are no close");
    assert_eq!(warmline.one_shot("/second").text(), "ok");
    assert_eq!(origin.record().connections.len(), 2);
}

#[test]
fn case_04_stray_bytes_are_part_of_no_response_on_two_threads_too() {
    let origin = Origin::scripted(|mut peer| async move {
        while let Some(head) = peer.head().await {
            let target = head.start.split(' ').nth(1).unwrap();
            let stray = match target.as_bytes().last() {
                Some(b'0'..b'5') => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
                _ => "",
            };
            let length = target.len();
            let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{target}");
            peer.write(whole + stray).await;
        }
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).set_global("threads", 2).start();
    together(8, |client| {
        for round in 0..50 {
            let target = format!("/{client}/{round}");
            assert_eq!(warmline.one_shot(&target).text(), target);
        }
    });
    warmline.wait_for_pool("everything's return", |pool| {
        pool.census.active == 0 && pool.census.total() == pool.census.idle
    });
}

#[test]
fn case_05_a_body_shorter_than_its_length_never_ends_cleanly() {
    for then in [Then::Closes, Then::Truncates, Then::Resets] {
        let case = Case::answered("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        let broken = case.then(then).destroys().expect_err("it is not whole");
        assert_eq!(broken.partial.text(), "half", "{then:?}");
        assert_eq!(broken.end, Ending::Reset, "{then:?}");
    }
}

#[test]
fn case_06_chunked_wins_over_a_length_and_the_connection_is_not_used_again() {
    for fields in [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 3",
        "transfer-encoding: chunked\r\ncontent-length: 3\r\ncontent-length: 4",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n5\r\nright\r\n0\r\n\r\n");
        let answer = Case::answered(bytes).then(Then::Serves).destroys().expect("a whole one");
        assert_eq!((answer.text().as_str(), answer.head.field("content-length")), ("right", None));
    }
}

#[test]
fn case_07_lengths_that_contradict_each_other_or_are_none_are_502() {
    for length in [
        "5\r\ncontent-length: 6",
        "5, 6",
        "6, 5",
        "+5",
        "-5",
        "",
        "0x5",
        "5 5",
        "5,",
        "five",
        "5.0",
        "18446744073709551616",
        "18446744073709551615",
        "99999999999999999999999",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nright");
        Case::answered(bytes).gives_bad_gateway(length);
    }
}

#[test]
fn case_07_one_length_written_twice_is_told_once() {
    for length in ["5\r\ncontent-length: 5", "5, 5", "5,5"] {
        let bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nright");
        let answer = Case::answered(bytes).keeps().expect("a whole one");
        let told = answer.head.field("content-length");
        assert_eq!((answer.text().as_str(), told), ("right", Some("5")), "{length}");
    }
}

#[test]
fn case_08_identity_which_is_no_coding_is_read_to_the_close() {
    let bytes = "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nright";
    let answer = Case::answered(bytes).then(Then::Closes).destroys().expect("a whole one");
    assert_eq!(answer.text(), "right");
    Case::answered(bytes).then(Then::Resets).breaks("identity");
}

#[test]
fn case_08_a_coding_whose_name_could_not_pass_is_a_bad_gateway() {
    for coding in ["gzip", "gzip, chunked", "chunked, gzip", "chunked, identity"] {
        let bytes = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {coding}\r\n\r\nright");
        Case::answered(bytes).gives_bad_gateway(coding);
    }
}

#[test]
fn case_08_a_transfer_coding_in_http_10_is_faulty() {
    let bytes = "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nright\r\n0\r\n\r\n";
    Case::answered(bytes).gives_bad_gateway("chunked in HTTP/1.0");
}

#[test]
fn case_13_a_response_without_a_body_leaves_the_connection_fit_whatever_its_fields_say() {
    for (method, head) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5"),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked"),
        ("HEAD", "HTTP/1.1 200 OK\r\nx-nothing: 1"),
        ("GET", "HTTP/1.1 204 No Content\r\nx-nothing: 1"),
        ("GET", "HTTP/1.1 204 No Content\r\ncontent-length: 5"),
        ("GET", "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked"),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 5"),
        ("GET", "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked"),
    ] {
        let case = Case::answered(format!("{head}\r\n\r\n")).method(method);
        let answer = case.keeps().unwrap_or_else(|broken| panic!("{method} {head}: {broken:#?}"));
        assert!(answer.body.is_empty(), "{method} {head}");
        if !head.contains("content-length") {
            assert_eq!(answer.head.field("content-length"), None, "{method} {head}");
        }
    }
}

#[test]
fn case_13_body_bytes_where_no_body_may_be_are_sent_to_no_client() {
    for (method, head) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 4"),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked"),
        ("GET", "HTTP/1.1 204 No Content\r\ncontent-length: 4"),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 4"),
    ] {
        for stray in ["evil", "4\r\nevil\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nevil"] {
            let bytes = format!("{head}\r\n\r\n{stray}");
            let answer = Case::answered(bytes).method(method).then(Then::Serves).destroys();
            assert!(answer.expect("a whole one").body.is_empty(), "{method} {head} {stray}");
        }
    }
}

#[test]
fn case_13_a_client_goes_on_after_a_response_without_a_body() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    let head = client.request("HEAD", "api.test", "/bytes/100");
    assert_eq!((head.status, head.head.field("content-length")), (200, Some("100")));
    for status in [204, 304] {
        assert_eq!(client.get("api.test", &format!("/status/{status}")).status, status);
    }
    assert_eq!(client.get("api.test", "/bytes/100").body.len(), 100);
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn case_18_after_connection_close_the_bytes_of_another_response_are_sent_to_no_client() {
    let bytes = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok\
                 HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let answer = Case::answered(bytes).then(Then::Serves).destroys().expect("a whole one");
    assert_eq!(answer.text(), "ok");
}

#[test]
fn case_18_an_upstream_that_says_close_and_serves_on_is_not_used_again() {
    for connection in ["close", "Close", "x, close", "x\r\nconnection: close", "keep-alive, close"]
    {
        let fields = format!("connection: {connection}\r\ncontent-length: 2");
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nok");
        let answer = Case::answered(bytes).then(Then::Serves).destroys().expect("a whole one");
        assert_eq!(answer.text(), "ok", "{connection}");
    }
}

#[test]
fn case_18_fields_that_connection_names_go_no_further() {
    let fields = "connection: x-own, keep-alive\r\nx-own: 1\r\nkeep-alive: timeout=5\r\nx-other: 2";
    let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\ncontent-length: 2\r\n\r\nok");
    let answer = Case::answered(bytes).keeps().expect("a whole one");
    let told = |name| answer.head.field(name);
    assert_eq!((told("x-own"), told("keep-alive"), told("x-other")), (None, None, Some("2")));
}

#[test]
fn case_19_an_http_10_response_without_keep_alive_is_not_pooled() {
    let case = Case::answered("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let answer = case.then(Then::Serves).destroys().expect("a whole one");
    assert_eq!(answer.text(), "ok");
    assert!(answer.head.start.starts_with("HTTP/1.1 "), "{}", answer.head.start);
}

#[test]
fn case_19_an_http_10_upstream_never_costs_the_next_request_its_body() {
    let origin = Origin::scripted(|mut peer| async move {
        while let Some(body) = peer.request().await {
            let text = String::from_utf8(body).unwrap();
            let head = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length";
            peer.write(format!("{head}: {}\r\n\r\n{text}", text.len())).await;
        }
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    for _ in 0..2 {
        let head = "POST /any HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked";
        client.send(format!("{head}\r\n\r\n5\r\nright\r\n0\r\n\r\n"));
        assert_eq!(client.response().text(), "right");
    }
    let record = origin.record();
    assert!(record.requests.iter().all(|r| r.head.start.ends_with(" HTTP/1.1")), "{record:#?}");
}
