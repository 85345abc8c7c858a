//! The ends of exchanges are logged rightly: the side, the stage and the reason.

use serde_json::json;

use crate::support::{
    client::Client,
    log_lines::{self, Line, line_of},
    origin::{Connection, Gate, Origin},
    running::Running,
    setup::{Following, Setup},
};

fn logged(origin: &Origin) -> Setup {
    log_lines::catch();
    Setup::before(origin).set_global("log.access", "errors")
}

/// Returns the access line of a download that `then` broke off after half of the body.
fn broken<F>(
    target: &str,
    head: &'static str,
    then: impl Fn(Connection) -> F + Send + Sync + Clone + 'static,
) -> Line
where
    F: Future<Output = ()> + Send + 'static,
{
    let origin = Origin::scripted(move |mut peer| {
        let then = then.clone();
        async move {
            peer.request().await;
            peer.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhalf\n\r\n")).await;
            then(peer).await;
        }
    })
    .start();
    let warmline = logged(&origin).start();
    warmline.ask(target).end();
    let line = line_of(&format!("GET {target}"));
    assert_eq!(line.get("end"), "upstream-body", "{line:?}");
    line
}

#[test]
fn fault_24_a_response_that_broke_off_says_how() {
    const LENGTH: &str = "content-length: 1000";
    const CHUNKED: &str = "transfer-encoding: chunked";
    let fin = broken("/ends-early", LENGTH, Connection::close);
    let truncated = broken("/truncated", LENGTH, |mut peer| async move {
        peer.half_close_without_notify().await;
        peer.ended().await;
    });
    let reset = broken("/reset", LENGTH, |peer| async move { peer.reset() });
    let chunk = broken("/bad-chunk", CHUNKED, |mut peer| async move {
        peer.write("0x5\r\n").await;
        peer.ended().await;
    });
    for (line, words) in [
        (&fin, "end of file before message length reached"),
        (&truncated, ": TCP ended without close_notify"),
        (&reset, "reset by peer"),
        (&chunk, "hunk size"),
    ] {
        let error = line.get("error");
        assert!(error.starts_with("the upstream's response broke off: "), "{error}");
        assert!(error.contains(words) && !error.contains("https://"), "{error}");
    }
}

/// Begins an exchange on an upstream whose old exchanges end 100 ms after a replacement; the response's head has come
/// if `begun`.
fn in_flight(begun: bool, target: &str) -> (Origin, Following, Client) {
    let origin = Origin::scripted(move |mut peer| async move {
        peer.request().await;
        if begun {
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        }
        peer.ended().await;
        peer.close().await;
    })
    .start();
    let warmline = logged(&origin)
        .set("hosts", json!(["a.test"]))
        .set("pool.rotationDeadline", "100ms")
        .upstream("other", &origin)
        .set("hosts", json!(["b.test"]))
        .start_following();
    let mut client = warmline.connect();
    client.send(format!("POST {target} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n"));
    if begun {
        client.response_head();
    } else {
        origin.wait_for("the request", |record| record.request_count == 1);
    }
    (origin, warmline, client)
}

fn ended(_client: Client, target: &str) -> String {
    let line = line_of(&format!("POST {target}"));
    assert!(line.get("end").starts_with("us-"), "{line:?}");
    line.get("error").to_owned()
}

#[test]
fn fault_24_an_exchange_on_a_removed_upstream_says_that_it_was_removed() {
    for (begun, target) in [(false, "/removed-before"), (true, "/removed-within")] {
        let (_origin, mut warmline, client) = in_flight(begun, target);
        warmline.document["upstreams"].as_array_mut().unwrap().remove(0);
        warmline.apply();
        let error = ended(client, target);
        assert!(error.contains("its upstream was removed from the configuration"), "{error}");
    }
}

#[test]
fn fault_24_an_exchange_on_a_reconfigured_upstream_says_that_its_configuration_was_replaced() {
    for (begun, target) in [(false, "/reconfigured-before"), (true, "/reconfigured-within")] {
        let (_origin, mut warmline, client) = in_flight(begun, target);
        warmline.set("upstreams.0.tls.minVersion", "1.3").apply();
        let error = ended(client, target);
        assert!(error.contains("the configuration that its connection was made under"), "{error}");
        assert!(!error.contains("certificate"), "{error}");
    }
}

/// Sends a POST with a length of four and this much of its body.
fn post(warmline: &Running, target: &str, body: &str) -> Client {
    let mut client = warmline.connect();
    let head = format!("POST {target} HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4");
    client.send(format!("{head}\r\n\r\n{body}"));
    client
}

/// Begins the drain, waits until its end cuts the request off, and returns the `end` of the access line.
fn drained(warmline: &Running, mut client: Client, target: &str) -> String {
    warmline.shutdown();
    client.end();
    let line = line_of(&format!("POST {target}"));
    assert!(line.get("error").contains("(drain)"), "{line:?}");
    line.get("end").to_owned()
}

#[test]
fn fault_24_an_exchange_that_the_end_of_the_drain_cuts_off_is_logged_with_its_stage() {
    let origin = Origin::serving().before_handshake(Gate::new()).start();
    let setup = logged(&origin).set("pool.maxConnections", 1).set("pool.queueTimeout", "20s");
    let warmline = setup.set_global("drain", "100ms").start();
    let dials = post(&warmline, "/drained-in-dial", "body");
    origin.wait_for("a dial", |record| record.connections.len() == 1);
    let queues = post(&warmline, "/drained-in-queue", "body");
    warmline.wait_for_pool("a waiter", |pool| pool.queued == 1);
    assert_eq!(drained(&warmline, queues, "/drained-in-queue"), "us-queue");
    assert_eq!(drained(&warmline, dials, "/drained-in-dial"), "us-connect");

    let origin = Origin::serving().start();
    let warmline = logged(&origin).set_global("drain", "100ms").start();
    let uploads = post(&warmline, "/drained-in-upload", "bo");
    let waits = post(&warmline, "/hold/drained", "body");
    origin.wait_for("both", |record| record.request_count == 2);
    assert_eq!(drained(&warmline, uploads, "/drained-in-upload"), "us-body");
    assert_eq!(drained(&warmline, waits, "/hold/drained"), "us-response");
}
