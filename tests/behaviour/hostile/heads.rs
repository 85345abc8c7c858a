//! Response heads: informational ones, too large ones, malformed ones (RFC 9110 section 15.2, RFC 9112 sections 4 and 5).

use std::fmt::Write as _;

use super::{Case, Then};
use crate::support::{client::Ending, origin::Origin, setup::Setup};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const EARLY: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";

#[test]
fn case_14_informational_responses_up_to_sixteen_are_dropped() {
    for early in [EARLY, "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n"] {
        for count in [1, 16] {
            let answer = Case::answered(early.repeat(count) + OK).keeps().expect("a whole one");
            assert_eq!(
                (answer.text().as_str(), answer.interim.len()),
                ("ok", 0),
                "{count} {early}"
            );
        }
    }
}

#[test]
fn case_14_more_than_sixteen_informational_responses_are_502() {
    for count in [17, 10_000] {
        Case::answered(EARLY.repeat(count) + OK)
            .gives_bad_gateway(&format!("{count} in one piece"));
    }
}

/// Starts an origin that sends the bytes in pieces of this size, each with a TLS record and a read of its own, and
/// Warmline before it.
fn in_pieces(bytes: String, size: usize) -> (Origin, crate::support::running::Running) {
    let origin = Origin::scripted(move |mut peer| {
        let bytes = bytes.clone();
        async move {
            peer.request().await;
            for piece in bytes.as_bytes().chunks(size) {
                if !peer.write(piece).await {
                    break;
                }
                // Gives the reader a turn between two pieces; each is a TLS record in any case.
                tokio::task::yield_now().await;
            }
            peer.ended().await;
            peer.close().await;
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    (origin, warmline)
}

#[test]
fn case_14_the_bound_on_informational_responses_holds_however_they_are_cut() {
    for size in [1, 7, 40] {
        let (origin, warmline) = in_pieces(EARLY.repeat(30) + OK, size);
        assert_eq!(warmline.one_shot("/any").status, 502, "pieces of {size}");
        origin.wait_for("its end", |record| record.open == 0);
        let (_origin, warmline) = in_pieces(EARLY.repeat(16) + OK, size);
        assert_eq!(warmline.one_shot("/any").text(), "ok", "pieces of {size}");
    }
}

#[test]
fn case_14_informational_responses_of_http_10_are_bounded_too() {
    let early = "HTTP/1.0 103 Early\r\n\r\n";
    Case::answered(early.repeat(1_000) + OK).gives_bad_gateway("1,000 of HTTP/1.0");
    let mixed = EARLY.to_string() + &early.repeat(1_000) + OK;
    Case::answered(mixed).gives_bad_gateway("1,000 of HTTP/1.0 after one of HTTP/1.1");
    let after_lines = "\r\n".to_string() + &EARLY.repeat(1_000) + OK;
    Case::answered(after_lines).gives_bad_gateway("1,000 after an empty line");
}

#[test]
fn case_14_content_that_looks_like_informational_responses_is_content() {
    let body = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
    for early in ["", EARLY] {
        let length = body.len();
        let bytes = format!("{early}HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        let answer = Case::answered(bytes).keeps().expect("a whole one");
        assert_eq!(answer.text(), body, "{early}");
    }
}

#[test]
fn case_14_an_upgrade_that_was_not_asked_for_is_502() {
    for fields in ["", "upgrade: foo\r\nconnection: upgrade\r\n"] {
        let bytes = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\nevil");
        Case::answered(bytes).then(Then::Serves).gives_bad_gateway(fields);
    }
}

#[test]
fn case_15_a_header_section_that_is_too_large_is_502() {
    let long = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n", "a".repeat(64 * 1024));
    Case::answered(format!("{long}content-length: 2\r\n\r\nok")).gives_bad_gateway("one line");
    let mut many = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n".to_string();
    for number in 0..10_000 {
        let _ = write!(many, "x-{number}: 1\r\n");
    }
    Case::answered(format!("{many}\r\nok")).gives_bad_gateway("10,000 fields");
    let mut large = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n".to_string();
    for number in 0..1_000 {
        let _ = write!(large, "x-{number}: {}\r\n", "a".repeat(1_000));
    }
    Case::answered(format!("{large}\r\nok")).gives_bad_gateway("1 MB");
    Case::answered("a".repeat(1_000_000)).gives_bad_gateway("1 MB without a line's end");
}

#[test]
fn case_15_a_large_header_section_within_the_limit_passes() {
    let value = "a".repeat(30 * 1024);
    let bytes = format!("HTTP/1.1 200 OK\r\nx-long: {value}\r\ncontent-length: 2\r\n\r\nok");
    let answer = Case::answered(bytes).keeps().expect("a whole one");
    assert_eq!(answer.head.field("x-long"), Some(value.as_str()));
}

#[test]
fn case_15_a_header_that_trickles_ends_at_the_time_limit() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\nx-long: ").await;
        // The header never ends; each byte is one TLS record.
        while peer.write("a").await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .start();
    let warmline = Setup::before(&origin).set("timeouts.response", "200ms").start();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("timeouts.response"), "{}", answer.text());
    warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
}

#[test]
fn case_16_malformed_fields_are_502() {
    for line in [
        "x-a: 1\r\n folded",
        "x-a: 1\r\n\tfolded",
        " x-a: 1",
        "x-a : 1",
        "x-a\t: 1",
        "x-a: 1\0 2",
        "x-a: 1\r2",
        "no colon",
        ": 1",
        "x a: 1",
        "x(a): 1",
        "x\u{e4}: 1",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{line}\r\ncontent-length: 2\r\n\r\nok");
        Case::answered(bytes).gives_bad_gateway(line);
    }
}

#[test]
fn case_17_a_malformed_status_line_is_502() {
    for line in [
        "hello, this is HTTP/0.9",
        "HTTP/0.9 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/2 200 OK",
        "HTTP/11 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 2OO OK",
        "HTTP/1.1 99 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 000 OK",
        "HTTP/1.1 1000 OK",
        "HTTP/1.1 65736 OK",
        "HTTP/1.1 -200 OK",
        "HTTP/1.1 +20 OK",
        "ICY 200 OK",
    ] {
        let bytes = format!("{line}\r\ncontent-length: 2\r\n\r\nok");
        Case::answered(bytes).gives_bad_gateway(line);
    }
}

#[test]
fn case_17_half_a_head_is_502_however_it_ends() {
    for then in [Then::Closes, Then::Truncates, Then::Resets] {
        for bytes in ["H", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", EARLY] {
            Case::answered(bytes).then(then).gives_bad_gateway(&format!("{bytes:?} {then:?}"));
        }
    }
}

#[test]
fn case_17_an_unusual_status_passes() {
    let bytes = "HTTP/1.1 299 Quite Fine\r\ncontent-length: 2\r\n\r\nok";
    let answer = Case::answered(bytes).keeps().expect("a whole one");
    assert_eq!((answer.status, answer.text().as_str()), (299, "ok"));
}

#[test]
fn case_24_clear_text_before_the_handshake_is_502_and_is_sent_to_no_client() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx-evil: 1\r\n\r\nevil").await;
        peer.ended().await;
    })
    .plain()
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send(super::request("GET", "/any", "HTTP/1.1"));
    let answer = client.response();
    assert_eq!((answer.status, answer.head.field("x-evil")), (502, None));
    assert!(!answer.text().contains("evil"), "{}", answer.text());
    let status = answer.head.field("proxy-status").expect("the reason");
    assert!(status.contains("error=tls_protocol_error"), "{status}");
    assert!(answer.text().contains("does that port speak TLS"), "{}", answer.text());
    warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
    client.half_close();
    assert_eq!(client.end(), (Ending::Fin, Vec::new()));
}
