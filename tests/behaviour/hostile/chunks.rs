//! Chunked response bodies and their trailers (RFC 9112 section 7.1).

use std::fmt::Write as _;

use super::{Case, Then};
use crate::support::{
    origin::{Gate, Origin},
    setup::Setup,
};

fn chunked(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}")
}

#[test]
fn case_09_a_chunk_that_breaks_the_rules_breaks_the_response() {
    for chunk in [
        "0x5\r\nright\r\n",
        "+5\r\nright\r\n",
        " 5\r\nright\r\n",
        "-5\r\nright\r\n",
        "\r\nright\r\n",
        "five\r\nright\r\n",
        "10000000000000005\r\nright\r\n",
        "5 5\r\nright\r\n",
        "5\nright\r\n",
        "5\r\nright\n",
        "5\rright\r\n",
        "5;a\nright\r\n",
        "5\r\nrightX\r\n",
        "5\r\nright",
    ] {
        let bytes = chunked(&format!("{chunk}0\r\n\r\n"));
        Case::answered(bytes).breaks(chunk);
    }
}

#[test]
fn case_09_odd_chunks_within_the_rules_are_read() {
    for chunk in [
        "05\r\nright\r\n",
        "5;a=b\r\nright\r\n",
        "5;a=\"b c\"\r\nright\r\n",
        "2\r\nri\r\n3\r\nght\r\n",
    ] {
        let answer = Case::answered(chunked(&format!("{chunk}0\r\n\r\n"))).keeps();
        assert_eq!(answer.expect("a whole one").text(), "right", "{chunk}");
    }
}

#[test]
fn case_10_a_chunk_extension_without_an_end_is_given_up() {
    let bytes = chunked(&format!("5;{}", "a".repeat(100_000)));
    Case::answered(bytes).breaks("an endless extension");
}

#[test]
fn case_10_many_small_chunk_extensions_are_bounded_together() {
    let chunk = format!("1;{}\r\nx\r\n", "a".repeat(100));
    Case::answered(chunked(&chunk.repeat(1_000))).breaks("extensions without an end");
}

#[test]
fn case_10_trailers_without_an_end_are_given_up() {
    let mut bytes = chunked("5\r\nright\r\n0\r\n");
    for number in 0..10_000 {
        let _ = write!(bytes, "x-{number}: 1\r\n");
    }
    Case::answered(bytes).breaks("endless trailers");
    let line = chunked(&format!("5\r\nright\r\n0\r\nx: {}", "a".repeat(100_000)));
    Case::answered(line).breaks("an endless trailer line");
}

#[test]
fn case_10_chunks_of_one_byte_for_ever_end_with_the_client() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.write(chunked("")).await;
        while peer.write("1\r\nx\r\n".repeat(100)).await {}
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send(super::request("GET", "/any", "HTTP/1.1"));
    client.response_head();
    for _ in 0..100 {
        client.read_some().expect("more");
    }
    drop(client);
    warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
}

#[test]
fn case_11_without_the_final_line_a_response_is_not_complete() {
    for then in [Then::Closes, Then::Truncates, Then::Resets] {
        for bytes in ["5\r\nright\r\n0\r\n", "5\r\nright\r\n0", "5\r\nright\r\n", "5\r\nright"] {
            Case::answered(chunked(bytes)).then(then).breaks(&format!("{bytes:?} {then:?}"));
        }
    }
}

#[test]
fn case_11_a_response_that_never_completes_is_given_up_at_the_time_limit() {
    let case = Case::answered(chunked("5\r\nright\r\n0\r\n")).idle_limit("200ms");
    // The bystander's response is stalled too, so that only the slow response is judged here.
    let scene = case.scene();
    let broken = scene.evil().expect_err("it is not whole");
    assert_eq!(broken.partial.text(), "right");
    scene.warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
}

#[test]
fn case_12_trailers_that_frame_route_or_authenticate_are_dropped() {
    let gate = Gate::new();
    gate.open();
    let origin = Origin::scripted(|mut peer| async move {
        while peer.request().await.is_some() {
            let names = "x-sum, content-length, transfer-encoding, host, authorization, set-cookie";
            let head = format!("HTTP/1.1 200 OK\r\ntrailer: {names}\r\ntransfer-encoding: chunked");
            let trailers = "content-length: 3\r\ntransfer-encoding: gzip\r\nhost: evil.test\r\n\
                            authorization: evil\r\nset-cookie: evil=1\r\nx-sum: 7\r\n";
            peer.write(format!("{head}\r\n\r\n5\r\nright\r\n0\r\n{trailers}\r\n")).await;
        }
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    for _ in 0..2 {
        client.send("GET /any HTTP/1.1\r\nHost: api.test\r\nTE: trailers\r\n\r\n");
        let answer = client.response();
        assert_eq!(answer.text(), "right");
        assert_eq!(answer.trailers, [("x-sum".to_string(), "7".to_string())]);
        for name in ["content-length", "host", "authorization", "set-cookie"] {
            assert_eq!(answer.head.field(name), None, "{name}");
        }
    }
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn case_12_trailers_that_were_not_announced_are_dropped() {
    let bytes = chunked("5\r\nright\r\n0\r\nx-sum: 7\r\n\r\n");
    let answer = Case::answered(bytes).keeps().expect("a whole one");
    assert_eq!((answer.text().as_str(), answer.trailers), ("right", Vec::new()));
}
