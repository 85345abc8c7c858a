//! An upstream that closes idle connections at any time: a request that cannot be sent again takes a new connection.

use crate::support::{
    client::Client,
    lives::Lives,
    origin::{self, Origin},
    running::Running,
    setup::Setup,
};

/// Starts an origin that ends idle connections until the lessons are over; later connections are kept.
fn closer(lives: &Lives) -> Origin {
    let lives = lives.clone();
    Origin::scripted(move |mut peer| {
        let lives = lives.clone();
        async move {
            while peer.request().await.is_some() {
                peer.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                if let Some(life) = lives.of(peer.number()) {
                    tokio::time::sleep(life).await;
                    return peer.close().await;
                }
            }
        }
    })
    .start()
}

/// Starts Warmline with these retries, and has the origin close connections, one after the other, until the pool has
/// learned from that; returns the number of those connections.
fn taught(retries: u64) -> (Origin, Running, usize) {
    let lives = Lives::default();
    let origin = closer(&lives);
    let warmline = Setup::before(&origin).set("retries.max", retries).start();
    let lessons = lives.teach(&warmline, |_| {
        assert_eq!(warmline.one_shot("/lesson").status, 200);
        warmline.wait_for_pool("the origin's close", |pool| pool.census.total() == 0);
    });
    (origin, warmline, lessons)
}

/// Sends requests with these methods; returns for each the number of its connection, counted from the first one behind
/// the lessons.
fn carried(origin: &Origin, client: &mut Client, methods: &[&str], lessons: usize) -> Vec<usize> {
    for method in methods {
        let answer = match *method {
            "POST" => client.post(origin::NAME, "/any", "body"),
            other => client.request(other, origin::NAME, "/any"),
        };
        assert_eq!(answer.status, 200, "{method}");
    }
    origin.read(|record| {
        let requests = record.requests.iter().skip(lessons);
        requests.map(|request| request.connection - lessons).collect()
    })
}

fn risky(warmline: &Running) -> u64 {
    warmline.metric("warmline_pool_checkouts_total", &[("reason", "risky")])
}

#[test]
fn before_an_upstream_that_closes_at_any_time_gets_reuse_and_posts_dial() {
    let (origin, warmline, lessons) = taught(2);
    let mut client = warmline.connect();
    let methods = ["GET", "GET", "POST", "GET", "POST", "DELETE"];
    assert_eq!(carried(&origin, &mut client, &methods, lessons), [0, 0, 1, 1, 2, 2]);
    assert_eq!(risky(&warmline), 2);
}

#[test]
fn without_retries_no_request_could_be_sent_again() {
    let (origin, warmline, lessons) = taught(0);
    assert_eq!(carried(&origin, &mut warmline.connect(), &["GET", "GET"], lessons), [0, 1]);
    assert_eq!(risky(&warmline), 2);
}
