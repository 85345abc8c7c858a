//! Idle connections that end while a request is sent on them: no GET is lost, no POST is delivered twice.
//!
//! The origin closes each idle connection at a random moment, about as long after its answer as the next request takes
//! to come, so that many closes and requests cross.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::support::{
    origin::{IdleClose, IdleEnd, Origin},
    running::Running,
    setup::Setup,
    soaking, together, wait_for,
};

const CLIENTS: usize = 16;

/// Returns the number of requests of one kind, over all clients.
fn requests() -> usize {
    if soaking() { 1_000_000 } else { 2_000 }
}

fn closing(how: IdleEnd) -> Origin {
    let idle = IdleClose { within: Duration::from_micros(1_500), seed: 3, how };
    Origin::serving().closing_idle(idle).start()
}

fn before(origin: &Origin) -> Running {
    Setup::before(origin).set_global("threads", 2).start()
}

/// Sends requests with ids from several clients; returns the number of responses with status 200, and of all others.
fn send_all(warmline: &Running, head: &(dyn Fn(&str) -> String + Sync)) -> (usize, usize) {
    let (good, bad) = (AtomicUsize::new(0), AtomicUsize::new(0));
    together(CLIENTS, |client| {
        let mut connection = warmline.connect();
        for turn in 0..requests() / CLIENTS {
            connection.send(head(&format!("{client}-{turn}")));
            let counter = if connection.response().status == 200 { &good } else { &bad };
            counter.fetch_add(1, Relaxed);
        }
    });
    (good.into_inner(), bad.into_inner())
}

fn no_get_is_lost(how: IdleEnd) {
    let origin = closing(how);
    let warmline = before(&origin);
    let get = |id: &str| format!("GET /any HTTP/1.1\r\nHost: api.test\r\nx-id: {id}\r\n\r\n");
    let (good, bad) = send_all(&warmline, &get);
    assert_eq!((good, bad), (requests() / CLIENTS * CLIENTS, 0), "lost GETs");
    let accepted = origin.read(|record| record.connections.len());
    assert!(accepted > CLIENTS, "the origin closed nothing: this test shows nothing");
}

fn no_post_is_delivered_twice(how: IdleEnd) {
    let origin = closing(how);
    let warmline = before(&origin);
    let post = |id: &str| {
        format!(
            "POST /echo HTTP/1.1\r\nHost: api.test\r\nx-id: {id}\r\nContent-Length: 3\r\n\r\nabc"
        )
    };
    let (good, bad) = send_all(&warmline, &post);
    assert_eq!(good + bad, requests() / CLIENTS * CLIENTS);
    origin.read(|record| {
        assert_eq!(record.duplicates(), Vec::<&str>::new(), "delivered twice");
        assert!(record.deliveries.len() >= good, "answered without delivery");
    });
    println!("{how:?}: {bad} of {} POSTs were answered by a failure", good + bad);
}

#[test]
fn no_get_is_lost_when_the_origin_closes_politely() {
    no_get_is_lost(IdleEnd::Polite);
}

#[test]
fn no_get_is_lost_when_the_origin_closes_its_socket() {
    no_get_is_lost(IdleEnd::Closed);
}

#[test]
fn no_get_is_lost_when_the_origin_truncates() {
    no_get_is_lost(IdleEnd::Truncated);
}

#[test]
fn no_get_is_lost_when_the_origin_resets() {
    no_get_is_lost(IdleEnd::Reset);
}

#[test]
fn no_post_is_delivered_twice_when_the_origin_closes_politely() {
    no_post_is_delivered_twice(IdleEnd::Polite);
}

#[test]
fn no_post_is_delivered_twice_when_the_origin_closes_its_socket() {
    no_post_is_delivered_twice(IdleEnd::Closed);
}

#[test]
fn no_post_is_delivered_twice_when_the_origin_resets() {
    no_post_is_delivered_twice(IdleEnd::Reset);
}

#[test]
fn a_post_on_a_connection_that_died_while_idle_goes_on_a_new_one() {
    let origin = Origin::scripted(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.answer("ok").await;
            if peer.number() == 0 {
                return peer.close().await;
            }
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    assert_eq!(warmline.one_shot("/first").status, 200);
    origin.wait_for("the end of the first", |record| record.open == 0);
    warmline.wait_for_pool("the pool's notice", |pool| pool.census.total() == 0);
    assert_eq!(warmline.connect().post("api.test", "/second", "body").status, 200);
    assert_eq!(origin.record().requests.len(), 2);
}

/// Starts an origin that answers every request but the one with this number, counted from 0, after which it ends the
/// connection.
fn dying(at_request: usize) -> Origin {
    let asked = Arc::new(AtomicUsize::new(0));
    Origin::scripted(move |mut peer| {
        let asked = Arc::clone(&asked);
        async move {
            while peer.request().await.is_some() {
                if asked.fetch_add(1, Relaxed) == at_request {
                    return peer.close().await;
                }
                peer.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    })
    .start()
}

#[test]
fn only_a_reused_connection_that_is_found_dead_is_stale() {
    for (at_request, stale, unfit) in [(0, 0, 1), (1, 1, 0)] {
        let origin = dying(at_request);
        let warmline = Setup::before(&origin).start();
        for _ in 0..2 {
            assert_eq!(warmline.one_shot("/any").status, 200);
        }
        wait_for("the dead one's end", || warmline.closed("stale") + warmline.closed("unfit") == 1);
        assert_eq!((warmline.closed("stale"), warmline.closed("unfit")), (stale, unfit));
    }
}
