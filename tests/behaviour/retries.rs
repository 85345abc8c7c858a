//! Retries beyond requests without a body: bodies that are still held, requests that an idempotency key makes
//! repeatable, and requests that were never sent; and the bounds on retries. Deliveries are counted at the origin.

use std::{
    fs,
    io::copy,
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use crate::support::{
    client::{Client, Response},
    origin::{self, Connection, Origin},
    running::Running,
    setup::Setup,
    soaking, together, wait_for,
};

const KIB: usize = 1024;

/// Returns random text of this length, the same at every call.
fn body(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..length).map(|_| random.u8(b'a'..=b'z')).collect()
}

/// Starts an origin that resets the first `count` connections after reading a whole request; later ones send the
/// request's body back.
fn dying(count: usize) -> Origin {
    Origin::scripted(move |mut peer| async move {
        while let Some(body) = peer.request().await {
            if peer.number() < count {
                return peer.reset();
            }
            peer.answer(&String::from_utf8_lossy(&body)).await;
        }
        peer.close().await;
    })
    .start()
}

fn ask(warmline: &Running, method: &str, fields: &str, content: &[u8]) -> Response {
    let mut client = warmline.connect();
    let length = content.len();
    client.send(format!(
        "{method} /any HTTP/1.1\r\nHost: api.test\r\n{fields}Content-Length: {length}\r\n\r\n"
    ));
    client.send(content);
    client.response()
}

fn retried(warmline: &Running, reason: &str) -> u64 {
    warmline.metric("warmline_retries_total", &[("reason", reason)])
}

fn refused(warmline: &Running, reason: &str) -> u64 {
    warmline.metric("warmline_retries_refused_total", &[("reason", reason)])
}

#[test]
fn case_02_a_put_is_delivered_again_whole_as_long_as_its_body_is_held() {
    for length in [1, 10 * KIB, 64 * KIB] {
        let origin = dying(2);
        let warmline = Setup::before(&origin).start();
        let answer = ask(&warmline, "PUT", "", &body(length));
        assert!(answer.status == 200 && answer.body == body(length), "{length}");
        let record = origin.record();
        assert_eq!((record.request_count, record.connections.len()), (3, 3), "{length}");
        assert_eq!(retried(&warmline, "unanswered"), 2);
    }
}

#[test]
fn case_02_a_put_above_the_bound_is_502_and_was_sent_once() {
    for length in [64 * KIB + 1, 100 * KIB] {
        let origin = dying(1);
        let warmline = Setup::before(&origin).start();
        let answer = ask(&warmline, "PUT", "", &body(length));
        assert_eq!(answer.status, 502, "{length}");
        assert!(answer.text().contains("sent once"), "{}", answer.text());
        assert_eq!(origin.record().request_count, 1, "{length}");
        assert_eq!(refused(&warmline, "max") + refused(&warmline, "budget"), 0, "no limit spoke");
    }
}

#[test]
fn case_02_chunks_whose_sum_passes_the_bound_are_sent_once() {
    for (chunks, status, deliveries) in [(64, 200, 2), (65, 502, 1)] {
        let origin = dying(1);
        let warmline = Setup::before(&origin).start();
        let mut client = warmline.connect();
        client.send("PUT /any HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..chunks {
            client.send([b"400\r\n", &body(KIB)[..], b"\r\n"].concat());
        }
        client.send("0\r\n\r\n");
        let answer = client.response();
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(origin.record().request_count, deliveries);
    }
}

#[test]
fn case_02_trailers_are_delivered_again_too() {
    let origin = Origin::scripted(|mut peer| async move {
        let head = peer.head().await.expect("a request");
        let mut content = Vec::new();
        let trailers = peer.body(&head, &mut |bytes| content.extend_from_slice(bytes)).await;
        if peer.number() == 0 {
            return peer.reset();
        }
        let trailers = trailers.expect("a whole body");
        peer.answer(&format!("{} {trailers:?}", String::from_utf8_lossy(&content))).await;
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send("PUT /any HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n");
    client.send("Trailer: x-sum\r\n\r\n4\r\nfour\r\n3\r\nsix\r\n0\r\nx-sum: 7\r\n\r\n");
    assert_eq!(client.response().text(), "foursix [(\"x-sum\", \"7\")]");
    assert_eq!(origin.record().request_count, 2);
}

/// Reads `count` bytes of a request's body.
async fn read_some(peer: &mut Connection, count: usize) {
    let head = peer.head().await.expect("a request");
    if head.field("expect").is_some() {
        peer.write("HTTP/1.1 100 Continue\r\n\r\n").await;
    }
    while peer.unread() < count {
        peer.fill().await.expect("more of the body");
    }
}

#[test]
fn case_02_a_body_on_its_way_is_sent_from_its_beginning_and_goes_on() {
    let origin = Origin::scripted(|mut peer| async move {
        if peer.number() == 0 {
            read_some(&mut peer, 10 * KIB).await;
            return peer.reset();
        }
        let body = peer.request().await.expect("a request");
        peer.answer(&String::from_utf8_lossy(&body)).await;
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let (mut client, body) = (warmline.connect(), body(20 * KIB));
    client.send("PUT /any HTTP/1.1\r\nHost: api.test\r\nContent-Length: 20480\r\n\r\n");
    client.send(&body[..10 * KIB]);
    origin.wait_for("the head once more", |record| record.request_count == 2);
    client.send(&body[10 * KIB..]);
    let answer = client.response();
    assert!(answer.status == 200 && answer.body == body);
    warmline.wait_for_pool("its return", |pool| pool.census.total() <= 1);
}

#[test]
fn case_02_a_body_that_the_upstream_had_asked_for_is_not_sent_again() {
    let origin = Origin::scripted(|mut peer| async move {
        read_some(&mut peer, 4).await;
        peer.reset();
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send("PUT /any HTTP/1.1\r\nHost: api.test\r\nExpect: 100-continue\r\n");
    client.send("Content-Length: 8\r\n\r\n");
    assert!(client.response_head().start.contains(" 100 "), "its 100 is a byte of an answer");
    client.send("half");
    assert_eq!(client.response().status, 502);
    assert_eq!(origin.record().request_count, 1);
}

#[test]
fn case_02_a_body_that_its_application_broke_off_is_not_sent_again() {
    let origin = Origin::scripted(|mut peer| async move {
        let head = peer.head().await.expect("a request");
        let _ = peer.body(&head, &mut |_| ()).await;
        peer.ended().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send("PUT /any HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("4\r\nfour\r\n");
    origin.wait_for("the request", |record| record.request_count == 1);
    client.send("no size\r\n");
    assert_eq!(client.response().status, 400);
    warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
    assert_eq!(origin.record().request_count, 1);
}

#[test]
fn case_02_a_post_with_a_body_is_never_delivered_twice() {
    for method in ["POST", "PATCH"] {
        let origin = dying(1);
        let warmline = Setup::before(&origin).start();
        let answer = ask(&warmline, method, "Idempotency-Key: \"one\"\r\n", &body(10 * KIB));
        assert_eq!((answer.status, origin.record().request_count), (502, 1), "{method}");
    }
}

#[test]
fn a_key_makes_a_post_repeatable_where_it_is_configured() {
    for (method, fields, status, deliveries) in [
        ("POST", "Idempotency-Key: \"8e03978e\"\r\n", 200, 2),
        ("PATCH", "Idempotency-Key: \"8e03978e\"\r\n", 200, 2),
        ("POST", "", 502, 1),
        ("POST", "Idempotency-Key: \"\"\r\n", 502, 1),
        ("POST", "Idempotency-Key: a\r\nIdempotency-Key: b\r\n", 502, 1),
    ] {
        let origin = dying(1);
        let warmline = Setup::before(&origin).set("retries.idempotencyKey", true).start();
        let answer = ask(&warmline, method, fields, &body(10 * KIB));
        let seen = (answer.status, origin.record().request_count);
        assert_eq!(seen, (status, deliveries), "{method} {fields}");
    }
}

/// Returns the port of a relay to this origin that ends its first `count` connections before their handshake.
fn refusing_first(count: usize, origin: &Origin) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let to = origin.port();
    thread::spawn(move || {
        for (number, accepted) in listener.incoming().enumerate() {
            if number >= count {
                relay(accepted.expect("a connection"), to);
            }
        }
    });
    port
}

fn relay(from: TcpStream, to: u16) {
    let to = TcpStream::connect(("127.0.0.1", to)).expect("the origin accepts");
    let ways = [(from.try_clone(), to.try_clone()), (Ok(to), Ok(from))];
    for (from, to) in ways.map(|(from, to)| (from.expect("a copy"), to.expect("a copy"))) {
        thread::spawn(move || {
            let _ = copy(&mut &from, &mut &to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

#[test]
fn case_01_a_post_whose_connection_could_not_be_made_is_sent_on_the_next_with_all_of_its_body() {
    for length in [10 * KIB, 200 * KIB] {
        let origin = dying(0);
        let port = refusing_first(2, &origin);
        let endpoint = format!("{}:{port}", origin::NAME);
        let setup = Setup::new().upstream_at("origin", &endpoint);
        // A classic key share rules out a second handshake, which would not count as a retry.
        let warmline = setup.set("tls.keyExchange", "classic").start();
        let answer = ask(&warmline, "POST", "", &body(length));
        assert!(answer.status == 200 && answer.body == body(length), "{length}");
        assert_eq!((origin.record().request_count, retried(&warmline, "dial-failed")), (1, 2));
    }
}

#[test]
fn case_39_an_upstream_that_always_resets_costs_no_more_retries_than_the_budget() {
    let origin = dying(usize::MAX);
    let warmline = Setup::before(&origin).set("pool.maxConnections", 10).start();
    let begun = Instant::now();
    let answers: Vec<_> = (0..200).map(|_| warmline.one_shot("/any")).collect();
    let retries = retried(&warmline, "unanswered");
    // The budget: what was saved up, 20 % of 200, and 3 for each second begun.
    let bound = 30 + 40 + 3 * (begun.elapsed().as_secs() + 1);
    assert!((60..=bound).contains(&retries), "{retries} retries of at most {bound}");
    assert_eq!(origin.record().request_count as u64, 200 + retries, "each was a delivery");
    assert!(answers.iter().all(|answer| answer.status == 502));
    let telling = answers.iter().filter(|answer| answer.text().contains("retries.budget")).count();
    assert_eq!(telling as u64, refused(&warmline, "budget"));
    assert!(telling > 0, "the budget was never used up");
    let status = answers[199].head.field("proxy-status").expect("the reason for machines");
    assert!(status.contains("error=http_response_incomplete; details=\"the retry budget"));
}

#[test]
fn case_39_dials_that_fail_are_retried_within_the_budget() {
    let origin = dying(0);
    let port = refusing_first(usize::MAX, &origin);
    let endpoint = format!("{}:{port}", origin::NAME);
    let setup = Setup::new().upstream_at("origin", &endpoint).set("retries.budget", "0%");
    let warmline = setup.set("pool.maxConnections", 10).start();
    let begun = Instant::now();
    let answers: Vec<_> = (0..100).map(|_| warmline.one_shot("/any")).collect();
    let (retries, bound) =
        (retried(&warmline, "dial-failed"), 30 + 3 * (begun.elapsed().as_secs() + 1));
    assert!((30..=bound).contains(&retries), "{retries} retries of at most {bound}");
    assert!(answers.iter().all(|answer| answer.status == 502));
    assert!(answers[99].text().contains("retries.budget"), "{}", answers[99].text());
}

#[test]
fn retries_that_the_maximum_forbids_are_counted_apart() {
    let origin = dying(usize::MAX);
    let warmline = Setup::before(&origin).start();
    assert!(!warmline.one_shot("/any").text().contains("budget"));
    assert_eq!((retried(&warmline, "unanswered"), refused(&warmline, "max")), (2, 1));
}

#[test]
fn the_budget_of_a_new_configuration_applies_in_place() {
    let origin = dying(usize::MAX);
    let setup = Setup::before(&origin).set("pool.maxConnections", 1).set("retries.budget", "0%");
    let mut warmline = setup.start_following();
    for _ in 0..40 {
        warmline.one_shot("/any");
    }
    let before = retried(&warmline, "unanswered");
    warmline.set("upstreams.0.retries.budget", "100%").apply();
    for _ in 0..40 {
        warmline.one_shot("/any");
    }
    let after = retried(&warmline, "unanswered");
    assert!(after - before >= 39, "{before} {after}");
}

/// The number of simultaneous uploads.
const UPLOADS: usize = 200;

/// Returns this process's resident memory in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux says it");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("the line is there");
    let kibibytes = line.split_whitespace().nth(1).and_then(|word| word.parse::<usize>().ok());
    kibibytes.expect("a number") * KIB
}

/// Begins uploads of unknown length that stop after 100 KiB, and returns the memory in use once all of that is at the
/// origin. Then finishes the uploads.
fn upload_together(warmline: &Running, method: &str, arrived: &AtomicUsize) -> usize {
    arrived.store(0, Relaxed);
    let mut clients: Vec<Client> = (0..UPLOADS).map(|_| warmline.connect()).collect();
    let head = "/any HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    for client in &mut clients {
        client.send(format!("{method} {head}{:x}\r\n", 100 * KIB));
        client.send(body(100 * KIB));
    }
    wait_for("the first half of each", || arrived.load(Relaxed) == UPLOADS * 100 * KIB);
    let resident = resident();
    for client in &mut clients {
        client.send("\r\n0\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
    resident
}

#[test]
fn uploads_above_the_bound_hold_no_memory() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&arrived);
    let origin = Origin::scripted(move |mut peer| {
        let count = Arc::clone(&count);
        async move {
            while let Some(head) = peer.head().await {
                let mut note = |bytes: &[u8]| _ = count.fetch_add(bytes.len(), Relaxed);
                peer.body(&head, &mut note).await.expect("a whole body");
                peer.answer("").await;
            }
        }
    })
    .start();
    let warmline = Setup::before(&origin).set("pool.maxConnections", UPLOADS).start();
    // Bodies of POSTs are never held, so the difference is what is held of the PUTs. Memory comes and goes in pieces of
    // some MiB.
    let most = |method| (0..2).map(|_| upload_together(&warmline, method, &arrived)).max().unwrap();
    let (posts, puts) = (most("POST"), most("PUT"));
    let more = puts.saturating_sub(posts) / KIB;
    println!("{UPLOADS} PUTs hold {more} KiB more than as many POSTs");
    assert!(!soaking() || more < UPLOADS * 40, "they hold {more} KiB");
}

#[test]
fn held_bodies_of_many_uploads_at_once_are_each_their_own() {
    let origin = Origin::scripted(|mut peer| async move {
        let Some(body) = peer.request().await else { return };
        if peer.number() < 40 {
            return peer.reset();
        }
        peer.answer(&String::from_utf8_lossy(&body)).await;
        peer.close().await;
    })
    .start();
    // A request may meet several connections in a row that reset.
    let setup = Setup::before(&origin).set_global("threads", 2).set("retries.max", 40);
    let warmline = setup.set("retries.budget", "100%").start();
    together(40, |number| {
        let content = format!("{number} ").repeat(4 * KIB).into_bytes();
        let answer = ask(&warmline, "PUT", "", &content);
        assert_eq!((answer.status, answer.body == content), (200, true), "{number}");
    });
    assert!(retried(&warmline, "unanswered") >= 40);
}
