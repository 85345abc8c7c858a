//! The ways in which either side ends a connection (RFC 9112 sections 9.6 and 9.8).

use super::{Case, Then, request};
use crate::support::{
    client::Ending,
    origin::{Gate, Origin},
    setup::Setup,
};

const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\nx-any: 1\r\n\r\nright";
const OLD_UNTIL_CLOSE: &str = "HTTP/1.0 200 OK\r\n\r\nright";

#[test]
fn case_20_a_body_that_ends_with_the_connection_is_whole_after_close_notify() {
    for bytes in [UNTIL_CLOSE, OLD_UNTIL_CLOSE] {
        let answer = Case::answered(bytes).then(Then::Closes).destroys().expect("a whole one");
        assert_eq!(answer.text(), "right", "{bytes}");
        let case = Case::answered(bytes).then(Then::Closes).client_of_http_10();
        assert_eq!(case.destroys().expect("a whole one").text(), "right", "{bytes}");
    }
}

#[test]
fn case_20_a_body_that_ends_without_close_notify_is_aborted() {
    for bytes in [UNTIL_CLOSE, OLD_UNTIL_CLOSE] {
        let broken = Case::answered(bytes).then(Then::Truncates).destroys().expect_err("truncated");
        assert_eq!(broken.end, Ending::Reset, "{bytes}");
    }
}

#[test]
fn case_20_an_http_10_client_never_sees_a_clean_end_of_a_truncated_body() {
    for bytes in [UNTIL_CLOSE, OLD_UNTIL_CLOSE] {
        for then in [Then::Truncates, Then::Resets] {
            let broken = Case::answered(bytes).then(then).client_of_http_10().destroys();
            assert_eq!(broken.expect_err("truncated").end, Ending::Reset, "{bytes} {then:?}");
        }
    }
}

#[test]
fn case_21_a_reset_in_mid_body_is_a_reset_for_the_client() {
    for framing in ["content-length: 10", "transfer-encoding: chunked", "x-until: close"] {
        let body = if framing.contains("chunked") { "5\r\nright\r\n" } else { "right" };
        let bytes = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}");
        for case in [Case::answered(&bytes), Case::answered(&bytes).client_of_http_10()] {
            let broken = case.then(Then::Resets).destroys().expect_err("it is not whole");
            assert_eq!(broken.end, Ending::Reset, "{framing}");
        }
    }
}

#[test]
fn case_22_a_client_that_ends_its_side_before_the_response_has_left() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send(request("GET", "/hold", "HTTP/1.1"));
    origin.wait_for("the request", |record| record.request_count == 1);
    client.half_close();
    warmline.wait_for_pool("the exchange's end", |pool| pool.census.active == 0);
    origin.release();
    assert_eq!(warmline.one_shot("/after").text(), "hello\n");
    assert_eq!(origin.record().connections.len(), 2);
}

#[test]
fn case_22_a_client_that_ends_its_side_within_the_response_gets_the_rest() {
    for framing in ["content-length: 10", "transfer-encoding: chunked"] {
        let gate = Gate::new();
        let released = gate.clone();
        let origin = Origin::scripted(move |mut peer| {
            let released = released.clone();
            async move {
                while peer.request().await.is_some() {
                    let chunked = framing.contains("chunked");
                    peer.write(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")).await;
                    peer.write(if chunked { "5\r\nfirst\r\n" } else { "first" }).await;
                    released.opened().await;
                    peer.write(if chunked { "5\r\nother\r\n0\r\n\r\n" } else { "other" }).await;
                }
                peer.close().await;
            }
        })
        .start();
        let warmline = Setup::before(&origin).start();
        let mut client = warmline.connect();
        client.send(request("GET", "/any", "HTTP/1.1"));
        client.response_head();
        let mut came = client.read_some().expect("the first half");
        client.half_close();
        // After an exchange on the same thread the FIN was surely seen before the rest comes.
        assert_eq!(warmline.connect().get("nobody.test", "/").status, 404);
        gate.open();
        let (end, rest) = client.end();
        came.extend(rest);
        let came = String::from_utf8(came).unwrap();
        assert!(came.contains("first") && came.contains("other"), "{framing}: {came:?}");
        assert_eq!(end, Ending::Fin, "{framing}");
        warmline.wait_for_pool("the connection's return", |pool| pool.census.idle == 1);
    }
}

#[test]
fn case_22_an_upstreams_end_after_a_complete_response_changes_nothing_for_the_client() {
    for framing in ["content-length: 5", "transfer-encoding: chunked"] {
        let origin = Origin::scripted(move |mut peer| async move {
            peer.request().await;
            let body =
                if framing.contains("chunked") { "5\r\nright\r\n0\r\n\r\n" } else { "right" };
            peer.write(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}")).await;
            peer.close().await;
        })
        .start();
        let warmline = Setup::before(&origin).start();
        let mut client = warmline.connect();
        for _ in 0..3 {
            let answer = client.get("api.test", "/any");
            assert_eq!((answer.text().as_str(), answer.head.field("connection")), ("right", None));
            warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
        }
    }
}
