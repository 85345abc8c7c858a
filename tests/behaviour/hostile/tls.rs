//! Abuse of TLS: messages that the protocol permits around the handshake and between records but that nobody sends in
//! good faith (RFC 8446 section 4.6). OpenSSL's `R`, renegotiation, is in the tests with real peers.

use std::{io::Write as _, sync::Arc};

use super::{
    bare_tls::{Tls, config},
    request,
};
use crate::support::{client::Response, origin::Origin, setup::Setup};

const EVIL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx-evil: 1\r\n\r\nevil";
const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nright";
/// The alert `close_notify`, as a record in clear text.
const CLOSE_NOTIFY: &[u8] = &[21, 3, 3, 0, 2, 1, 0];
/// The warning `no_renegotiation`, as a record in clear text.
const WARNING: &[u8] = &[21, 3, 3, 0, 2, 1, 100];

/// Returns the answers to a GET and to a POST from this origin; meanwhile another, good upstream has to answer too.
fn answers(origin: &Origin) -> [Response; 2] {
    let good = Origin::serving().start();
    let setup = Setup::before(origin).upstream("good", &good).set("hosts", vec!["good.test"]);
    let warmline = setup.start();
    let answers = ["GET", "POST"].map(|method| {
        let mut client = warmline.connect();
        client.send(request(method, "/any", "HTTP/1.1"));
        client.response()
    });
    assert_eq!(warmline.connect().get("good.test", "/any").text(), "hello\n");
    warmline.wait_for_pool("every place's return", |pool| {
        pool.census.active + pool.census.connecting + pool.census.closing == 0
    });
    answers
}

fn assert_refused(origin: &Origin) {
    for answer in answers(origin) {
        assert_eq!((answer.status, answer.head.field("x-evil")), (502, None), "{answer:?}");
        assert!(!answer.text().contains("evil"), "{}", answer.text());
    }
}

#[test]
fn case_25_an_answer_in_the_flight_of_finished_is_sent_to_no_client() {
    let config = config(|config| config.send_half_rtt_data = true);
    let origin = Origin::scripted(move |peer| {
        let config = Arc::clone(&config);
        async move {
            let mut tls = Tls::new(peer, &config);
            // Reads the ClientHello; the server's reply will end with the response's bytes in its last record.
            tls.read().await;
            tls.session.writer().write_all(EVIL.as_bytes()).unwrap();
            tls.send().await;
            tls.read_all().await;
        }
    })
    .plain()
    .start();
    assert_refused(&origin);
}

/// Starts an origin that sends `count` tickets behind its Finished, and serves.
fn with_tickets(count: usize) -> Origin {
    let config = config(|config| config.send_tls13_tickets = count);
    Origin::scripted(move |peer| {
        let config = Arc::clone(&config);
        async move {
            let mut tls = Tls::new(peer, &config);
            tls.handshake().await;
            while tls.request().await && tls.answer(GOOD).await {}
        }
    })
    .plain()
    .start()
}

#[test]
fn case_25_many_tickets_are_read() {
    let origin = with_tickets(300);
    for answer in answers(&origin) {
        assert_eq!((answer.status, answer.text().as_str()), (200, "right"));
    }
    assert_eq!(origin.record().connections.len(), 1, "it served on");
}

#[test]
fn case_25_ten_thousand_tickets_in_one_flight_end_the_connection() {
    // rustls bounds the bytes of messages that span records, and these do; tickets that each fill one record are no
    // burden, as the tests with OpenSSL show.
    let origin = with_tickets(10_000);
    assert_refused(&origin);
    assert!(origin.record().connections.len() <= 4, "{}", origin.record().connections.len());
}

#[test]
fn case_25_a_flood_of_key_updates_ends_the_connection() {
    let config = config(|_| ());
    let origin = Origin::scripted(move |peer| {
        let config = Arc::clone(&config);
        async move {
            let mut tls = Tls::new(peer, &config);
            if !tls.handshake().await || !tls.request().await {
                return;
            }
            for _ in 0..10_000 {
                tls.session.refresh_traffic_keys().unwrap();
            }
            // Warmline may end the connection in the middle.
            tls.answer(EVIL).await;
            tls.read_all().await;
        }
    })
    .plain()
    .start();
    assert_refused(&origin);
    // A GET is sent again where no byte of a response came; a POST is not.
    assert!(origin.record().connections.len() <= 4, "{}", origin.record().connections.len());
}

#[test]
fn case_25_a_flood_of_key_updates_on_an_idle_connection_destroys_it() {
    let config = config(|_| ());
    let origin = Origin::scripted(move |peer| {
        let config = Arc::clone(&config);
        async move {
            let first = peer.number() == 0;
            let mut tls = Tls::new(peer, &config);
            tls.handshake().await;
            while tls.request().await && tls.answer(GOOD).await {
                for _ in 0..if first { 10_000 } else { 0 } {
                    tls.session.refresh_traffic_keys().unwrap();
                }
                tls.send().await;
            }
        }
    })
    .plain()
    .start();
    let warmline = Setup::before(&origin).start();
    assert_eq!(warmline.one_shot("/any").text(), "right");
    warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
    assert_eq!(warmline.one_shot("/any").text(), "right");
    assert_eq!(origin.record().connections.len(), 2);
}

#[test]
fn case_25_a_few_key_updates_are_within_the_rules() {
    let config = config(|_| ());
    let origin = Origin::scripted(move |peer| {
        let config = Arc::clone(&config);
        async move {
            let mut tls = Tls::new(peer, &config);
            tls.handshake().await;
            while tls.request().await {
                for _ in 0..8 {
                    tls.session.refresh_traffic_keys().unwrap();
                }
                tls.answer(GOOD).await;
            }
        }
    })
    .plain()
    .start();
    for answer in answers(&origin) {
        assert_eq!(answer.text(), "right");
    }
    assert_eq!(origin.record().connections.len(), 1);
}

/// Starts an origin that sends these bytes after the `ClientHello`, ends its side if `ends`, and reads on.
fn interrupting(bytes: Vec<u8>, ends: bool) -> Origin {
    Origin::scripted(move |mut peer| {
        let bytes = bytes.clone();
        async move {
            if peer.fill().await.is_ok() && peer.write(&bytes).await {
                if ends {
                    peer.half_close().await;
                }
                peer.ended().await;
            }
        }
    })
    .plain()
    .start()
}

#[test]
fn case_25_a_close_or_many_warnings_in_mid_handshake_fail_it() {
    for (what, bytes, ends) in [
        ("close_notify and FIN", CLOSE_NOTIFY.to_vec(), true),
        ("warnings", WARNING.repeat(9_000), false),
    ] {
        let origin = interrupting(bytes, ends);
        assert_refused(&origin);
        // Each of the two requests may dial twice more, since nothing of it was sent, and one small first message is
        // tried.
        assert!(origin.record().connections.len() <= 7, "{what}");
    }
}

#[test]
fn case_25_close_notify_alone_which_anybody_could_have_sent_costs_the_handshake_limit() {
    let origin = interrupting(CLOSE_NOTIFY.to_vec(), false);
    let warmline = Setup::before(&origin).set("timeouts.handshake", "200ms").start();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.text().contains("timeouts.handshake"), "{}", answer.text());
    warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
}

#[test]
fn case_25_close_notify_in_place_of_finished_fails_the_handshake() {
    let config = config(|_| ());
    let origin = Origin::scripted(move |peer| {
        let config = Arc::clone(&config);
        async move {
            let mut tls = Tls::new(peer, &config);
            tls.read().await;
            // Only the first record of the server's flight is sent, the ServerHello in clear text.
            let mut flight = Vec::new();
            while tls.session.wants_write() {
                tls.session.write_tls(&mut flight).unwrap();
            }
            let hello = 5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]));
            tls.peer.write(&flight[..hello]).await;
            tls.peer.write(CLOSE_NOTIFY).await;
            tls.peer.ended().await;
        }
    })
    .plain()
    .start();
    assert_refused(&origin);
}
