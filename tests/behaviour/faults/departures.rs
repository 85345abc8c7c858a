//! Clients that leave, end their side or stall: noticed in time, and logged as the client's own doing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    client::{Client, Ending},
    log_lines::{self, Line, line_of},
    origin::{self, End, Gate, Origin},
    pattern,
    running::Running,
    setup::Setup,
    soaking,
};

fn logged(origin: &Origin) -> Setup {
    log_lines::catch();
    Setup::before(origin).set_global("log.access", "errors")
}

/// Starts an origin that sends one event and is silent until its reader has gone.
fn events() -> Origin {
    Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n").await;
        peer.write("transfer-encoding: chunked\r\n\r\n7\r\ndata:1\n\r\n").await;
        peer.ended().await;
        peer.close().await;
    })
    .start()
}

/// Connects a client, asks for the target and reads the first event.
fn listener(warmline: &Running, target: &str) -> Client {
    let mut client = warmline.ask(target);
    read_event(&mut client);
    client
}

fn read_event(client: &mut Client) {
    client.response_head();
    let mut came = Vec::new();
    while !came.ends_with(b"data:1\n\r\n") {
        came.extend(client.read_some().expect("the first event"));
    }
}

/// Returns requests to these targets, in two parts each: the method with the target, and the rest with bytes behind the
/// request that hyper reads only with the next request.
fn with_tails(targets: [&str; 3]) -> [(String, String); 3] {
    let host = origin::NAME;
    let [first, second, third] = targets;
    let chunked = "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    [
        (
            format!("GET {first}"),
            format!(" HTTP/1.1\r\nHost: {host}\r\n\r\nGET /next HTTP/1.1\r\n"),
        ),
        (format!("POST {second}"), format!(" HTTP/1.1\r\nHost: {host}\r\n{chunked}\r\n")),
        (
            format!("POST {third}"),
            format!(" HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\nx\r\n"),
        ),
    ]
}

fn assert_client_left(line: &Line) {
    assert_eq!((line.get("end"), line.get("error")), ("downstream-body", ""), "{line:?}");
}

#[test]
fn fault_35_a_client_that_closes_a_silent_stream_gives_its_connection_back() {
    let origin = events();
    let warmline = logged(&origin).start();
    drop(listener(&warmline, "/closed-stream"));
    assert_client_left(&line_of("GET /closed-stream"));
    warmline.wait_for_pool("the connection's end", |pool| pool.census.total() == 0);
    origin.wait_for("its end", |record| record.ends() == [Some(End::Polite)]);
    let blamed = warmline.metric("warmline_request_failures_total", &[("by", "upstream")]);
    assert_eq!(blamed, 0, "the upstream did nothing wrong");
}

#[test]
fn fault_35_a_client_that_resets_a_silent_stream_ends_it_at_once() {
    let origin = events();
    let warmline = logged(&origin).start();
    listener(&warmline, "/reset-stream").reset();
    assert_client_left(&line_of("GET /reset-stream"));
    origin.wait_for("its end", |record| record.ends() == [Some(End::Polite)]);
}

/// Starts an origin whose response's body has this many pieces, one every 50 ms; returns with it the longest pause that
/// it really made, in milliseconds.
fn flowing(pieces: usize) -> (Origin, Arc<AtomicU64>) {
    let longest = Arc::new(AtomicU64::new(0));
    let pauses = Arc::clone(&longest);
    let origin = Origin::scripted(move |mut peer| {
        let pauses = Arc::clone(&pauses);
        async move {
            while peer.request().await.is_some() {
                let length = 5 * pieces;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                peer.write(head).await;
                let mut last = Instant::now();
                for _ in 0..pieces {
                    peer.write("piece").await;
                    pauses.fetch_max(last.elapsed().as_millis() as u64, Relaxed);
                    last = Instant::now();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            peer.close().await;
        }
    });
    (origin.start(), longest)
}

/// Asserts that a client that sends these bytes behind its request, and then ends its side, gets a body whose pieces
/// flow. On a busy machine the origin itself may pause for longer than Warmline waits for such a client; what came then
/// shows nothing, and the client asks once more.
fn assert_flows_on(pieces: usize, tail: &str) {
    let (origin, longest) = flowing(pieces);
    let warmline = Setup::before(&origin).start();
    for _ in 0..5 {
        longest.store(0, Relaxed);
        let mut client = warmline.ask("/flowing");
        client.send(tail);
        client.response_head();
        client.half_close();
        let (end, body) = client.end();
        if longest.load(Relaxed) < 500 {
            assert_eq!((end, body), (Ending::Fin, b"piece".repeat(pieces)));
            return warmline.wait_for_pool("its return", |pool| pool.census.idle == 1);
        }
    }
    panic!("the origin's pieces never flowed");
}

#[test]
fn fault_35_a_client_that_has_ended_its_side_gets_all_of_a_body_that_flows_for_ten_seconds() {
    assert_flows_on(if soaking() { 1_200 } else { 200 }, "");
}

/// Starts an origin that sends the response's head after the request's head, and the length of the request's body once
/// that has come and the gate is open.
fn counting(gate: Gate) -> Origin {
    Origin::scripted(move |mut peer| {
        let gate = gate.clone();
        async move {
            while let Some(head) = peer.head().await {
                peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                gate.opened().await;
                let mut reader = pattern::Reader::default();
                if peer.body(&head, &mut |bytes| reader.take(bytes)).await.is_err() {
                    break;
                }
                let text = format!("{} {:?}", reader.length, reader.wrong_at);
                peer.write(format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len())).await;
            }
            peer.close().await;
        }
    })
    .start()
}

fn post(warmline: &Running, target: &str, length: usize) -> Client {
    let mut client = warmline.connect();
    let host = origin::NAME;
    client.send(format!(
        "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"
    ));
    client
}

#[test]
fn fault_35_a_fin_behind_a_whole_upload_breaks_nothing_however_late_the_upstream_reads_it() {
    let gate = Gate::new();
    let origin = counting(gate.clone());
    let warmline = Setup::before(&origin).start();
    for length in [1, 70_000, 300_000] {
        let mut client = post(&warmline, "/whole", length);
        client.response_head();
        client.send(pattern::bytes(length as u64));
        client.half_close();
        gate.open();
        let (end, body) = client.end();
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains(&format!("{length} None")), "{length}: {body}");
        assert_eq!(end, Ending::Fin, "{length}");
    }
}

#[test]
fn fault_35_a_fin_before_the_requests_end_is_a_broken_upload_after_the_responses_head_too() {
    let gate = Gate::new();
    gate.open();
    let origin = counting(gate);
    let warmline = logged(&origin).start();
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut client = warmline.connect();
        let target = format!("/broken-upload-{}", framing.len());
        client.send(format!("POST {target} HTTP/1.1\r\nHost: api.test\r\n{framing}\r\n\r\n"));
        client.response_head();
        client.send("5\r\nhalf");
        client.half_close();
        assert_eq!(client.end().0, Ending::Reset, "{framing}");
        let line = line_of(&format!("POST {target}"));
        assert_eq!(line.get("end"), "downstream-body", "{line:?}");
        assert!(line.get("error").contains("the request's body broke off"), "{line:?}");
        warmline.wait_for_pool("the connection's end", |pool| pool.census.total() == 0);
    }
}

#[test]
fn fault_35_a_client_that_stalls_in_its_upload_is_told_408_and_it_is_its_own_fault() {
    let origin = Origin::serving().start();
    let warmline = logged(&origin).set("timeouts.idle", "200ms").start();
    let mut client = post(&warmline, "/stalled-upload", 100);
    client.send("half");
    let answer = client.response();
    assert_eq!((answer.status, answer.head.field("connection")), (408, Some("close")));
    assert!(answer.text().contains("timeouts.idle"), "{}", answer.text());
    let told = answer.head.field("proxy-status").unwrap();
    assert!(told.contains("error=http_request_error"), "{told}");
    assert_eq!(line_of("POST /stalled-upload").get("end"), "downstream-body");
}

#[test]
fn fault_35_a_client_that_stalls_in_its_upload_after_the_responses_head_is_at_fault_too() {
    let gate = Gate::new();
    gate.open();
    let origin = counting(gate);
    let warmline = logged(&origin).set("timeouts.idle", "1s").start();
    let mut client = post(&warmline, "/stalled-late", 100);
    client.response_head();
    client.send("half");
    assert_eq!(client.end().0, Ending::Reset);
    let line = line_of("POST /stalled-late");
    assert_eq!(line.get("end"), "downstream-body", "{line:?}");
    assert!(line.get("error").contains("the client sent no byte of its request"), "{line:?}");
}

#[test]
fn fault_35_an_upstream_that_stops_to_read_an_upload_is_at_fault() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.head().await;
        peer.reads_nothing().await;
    })
    .start();
    let warmline = logged(&origin).set("timeouts.idle", "1s").start();
    let length = 1_000_000_000;
    let mut client = post(&warmline, "/unread-upload", length);
    client.send_until_answered(length);
    assert_eq!(client.response().status, 504);
    assert_eq!(line_of("POST /unread-upload").get("end"), "upstream-body");
}

#[test]
fn fault_35_a_client_that_resets_while_its_bytes_are_held_up_has_left() {
    let origin = Origin::scripted(|mut peer| async move {
        let head = peer.head().await.unwrap();
        if head.start.contains("/answered") {
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        }
        peer.reads_nothing().await;
    })
    .start();
    let warmline = logged(&origin).start();
    let length = 1_000_000_000;
    for (target, end) in [("/held-up", "downstream-response"), ("/answered", "downstream-body")] {
        let mut client = post(&warmline, target, length);
        if target == "/answered" {
            client.response_head();
        }
        client.send_until_blocked(length);
        client.reset();
        let line = line_of(&format!("POST {target}"));
        assert_eq!((line.get("end"), line.get("error")), (end, ""), "{line:?}");
    }
    // A next request in the buffer also keeps hyper from reading, so that the reset is noticed in another way.
    let origin = events();
    let warmline = logged(&origin).start();
    let mut client = listener(&warmline, "/reset-behind-a-request");
    client.send("GET /any HTTP/1.1\r\nHost: api.test\r\n\r\n");
    client.reset();
    assert_client_left(&line_of("GET /reset-behind-a-request"));
}

#[test]
fn fault_35_a_client_that_has_ended_its_side_and_reads_slowly_gets_the_rest() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.ask("/bytes/30000000");
    client.response_head();
    client.half_close();
    // Longer than the second within which an ended client has to read something; the sockets' buffers were full long
    // before.
    thread::sleep(Duration::from_millis(1_500));
    let mut reader = pattern::Reader::default();
    let (end, body) = client.end();
    reader.take(&body);
    assert_eq!((end, reader.length, reader.wrong_at), (Ending::Fin, 30_000_000, None));
}

#[test]
fn fault_35_a_client_that_closes_a_silent_stream_behind_a_next_request_or_an_empty_line_has_left() {
    let origin = events();
    let warmline = logged(&origin).start();
    let requests = with_tails(["/behind-a-request", "/behind-chunks", "/behind-a-body"]);
    for (number, (request, tail)) in requests.into_iter().enumerate() {
        let mut client = warmline.connect();
        client.send(format!("{request}{tail}"));
        read_event(&mut client);
        drop(client);
        assert_client_left(&line_of(&request));
        origin.wait_for("its end", |record| record.connections[number].end == Some(End::Polite));
    }
    warmline.wait_for_pool("the connections' end", |pool| pool.census.total() == 0);
    let blamed = warmline.metric("warmline_request_failures_total", &[("by", "upstream")]);
    assert_eq!(blamed, 0, "the upstream did nothing wrong");
}

#[test]
fn fault_35_a_client_that_closes_behind_a_next_request_or_an_empty_line_before_its_answer_has_left()
{
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.ended().await;
        peer.close().await;
    })
    .start();
    let warmline = logged(&origin).start();
    let requests = with_tails(["/early-request", "/early-chunks", "/early-body"]);
    for (number, (request, tail)) in requests.into_iter().enumerate() {
        let mut client = warmline.connect();
        client.send(format!("{request}{tail}"));
        origin.wait_for("the request", |record| record.request_count == number + 1);
        drop(client);
        let line = line_of(&request);
        assert_eq!((line.get("end"), line.get("error")), ("downstream-response", ""), "{line:?}");
        origin.wait_for("its end", |record| record.connections[number].end == Some(End::Polite));
    }
}

#[test]
fn fault_35_a_flowing_body_goes_on_for_a_client_that_has_ended_its_side_behind_a_next_request() {
    assert_flows_on(60, "GET /next HTTP/1.1\r\n");
}

/// Connects a client, has its request answered, and sends behind the request these bytes, which belong to no request.
fn stray(warmline: &Running, request: &str, tail: &str) -> Client {
    let mut client = warmline.connect();
    client.send(format!("{request}{tail}"));
    assert_eq!(client.response().status, 200);
    client
}

#[test]
fn fault_35_a_client_that_sends_empty_lines_alone_is_idle_and_not_in_a_header() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin)
        .set_global("listeners.0.limits.headerTimeout", "100ms")
        .set_global("listeners.0.limits.idleTimeout", "2s")
        .start();
    let head = format!("POST /echo HTTP/1.1\r\nHost: {}\r\n", origin::NAME);
    let length = format!("{head}Content-Length: 1\r\n\r\nx");
    let chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    let mut clients = Vec::new();
    for request in [&length, &chunks] {
        for tail in ["\r\n", "\n", "\r\n\r\n", "\r"] {
            clients.push(stray(&warmline, request, tail));
            let mut late = stray(&warmline, request, "");
            late.send(tail);
            clients.push(late);
        }
    }
    let mut new = warmline.connect();
    new.send("\r\n");
    for mut client in clients.into_iter().chain([new]) {
        assert_eq!(client.end(), (Ending::Fin, Vec::new()));
    }
}

#[test]
fn fault_35_a_client_that_has_sent_an_empty_line_rests_and_its_next_request_is_served() {
    let origin = Origin::serving().start();
    let warmline =
        Setup::before(&origin).set_global("listeners.0.limits.headerTimeout", "100ms").start();
    log_lines::catch();
    let chunks = "POST /echo HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    for (tail, rest, status) in [("\r\n", "", 200), ("\r", "\n", 200), ("\r", "", 400)] {
        let mut client = stray(&warmline, chunks, tail);
        log_lines::client_rests(client.address(), 1);
        // Meanwhile another connection comes to rest, which takes longer than `headerTimeout`.
        let other = stray(&warmline, chunks, "");
        log_lines::client_rests(other.address(), 1);
        client.send(format!("{rest}GET /any HTTP/1.1\r\nHost: api.test\r\n\r\n"));
        assert_eq!(client.response().status, status, "{tail:?} {rest:?}");
    }
}
