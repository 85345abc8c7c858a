//! An upstream that closes idle connections at any time: a request that cannot be sent again takes a new connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::support::{
    client::Client,
    origin::{self, Origin},
    running::Running,
    setup::Setup,
};

/// The times in milliseconds after which the origin closes the first idle connections, without a pattern.
const LIVES: [u64; 5] = [25, 100, 50, 5, 200];

/// Starts an origin that closes as many idle connections as `LIVES` has times; later connections are kept.
fn closer() -> Origin {
    let lived = Arc::new(AtomicUsize::new(0));
    Origin::scripted(move |mut peer| {
        let lived = Arc::clone(&lived);
        async move {
            while peer.request().await.is_some() {
                peer.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                if let Some(life) = LIVES.get(lived.fetch_add(1, SeqCst)) {
                    tokio::time::sleep(Duration::from_millis(*life)).await;
                    return peer.close().await;
                }
            }
        }
    })
    .start()
}

/// Has the origin close those connections, one after the other, until the pool has learned from that.
fn teach(warmline: &Running) {
    for _ in LIVES {
        assert_eq!(warmline.one_shot("/lesson").status, 200);
        warmline.wait_for_pool("the origin's close", |pool| pool.census.total() == 0);
    }
    assert!(warmline.upstream("origin").pool().closes_at_any_time());
}

/// Sends requests with these methods; returns for each the number of its connection, counted from the first one that is
/// kept.
fn carried(origin: &Origin, client: &mut Client, methods: &[&str]) -> Vec<usize> {
    for method in methods {
        let answer = match *method {
            "POST" => client.post(origin::NAME, "/any", "body"),
            other => client.request(other, origin::NAME, "/any"),
        };
        assert_eq!(answer.status, 200, "{method}");
    }
    origin.read(|record| {
        let requests = record.requests.iter().skip(LIVES.len());
        requests.map(|request| request.connection - LIVES.len()).collect()
    })
}

fn risky(warmline: &Running) -> u64 {
    warmline.metric("warmline_pool_checkouts_total", &[("reason", "risky")])
}

#[test]
fn before_an_upstream_that_closes_at_any_time_gets_reuse_and_posts_dial() {
    let origin = closer();
    let warmline = Setup::before(&origin).start();
    teach(&warmline);
    let mut client = warmline.connect();
    let carried = carried(&origin, &mut client, &["GET", "GET", "POST", "GET", "POST", "DELETE"]);
    assert_eq!(carried, [0, 0, 1, 1, 2, 2]);
    assert_eq!(risky(&warmline), 2);
}

#[test]
fn without_retries_no_request_could_be_sent_again() {
    let origin = closer();
    let warmline = Setup::before(&origin).set("retries.max", 0).start();
    teach(&warmline);
    assert_eq!(carried(&origin, &mut warmline.connect(), &["GET", "GET"]), [0, 1]);
    assert_eq!(risky(&warmline), 2);
}
