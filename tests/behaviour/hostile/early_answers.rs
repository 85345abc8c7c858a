//! Responses before the request's body has come, from the upstream and from Warmline itself (RFC 9112 section 9.6).

use crate::support::{
    client::{Client, Ending},
    origin::{Gate, Origin},
    running::Running,
    setup::Setup,
};

/// Starts an origin that answers once it has the head, then counts the bytes that still come.
fn answering_early(
    answer: &'static str,
) -> (Origin, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let came = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&came);
    let origin = Origin::scripted(move |mut peer| {
        let counter = std::sync::Arc::clone(&counter);
        async move {
            let Some(head) = peer.head().await else { return };
            if head.start.starts_with("POST ") {
                peer.write(answer).await;
                let (_, bytes) = peer.ended().await;
                counter.fetch_add(bytes.len(), std::sync::atomic::Ordering::Relaxed);
            } else {
                peer.answer("right").await;
                peer.ended().await;
            }
            peer.close().await;
        }
    })
    .start();
    (origin, came)
}

const TOO_LARGE: &str = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\n\r\ntoo long";

fn post_head(warmline: &Running, length: usize) -> Client {
    let mut client = warmline.connect();
    client
        .send(format!("POST /any HTTP/1.1\r\nHost: api.test\r\nContent-Length: {length}\r\n\r\n"));
    client
}

#[test]
fn case_03_an_answer_before_the_requests_end_is_forwarded_and_the_connection_destroyed() {
    let (origin, came) = answering_early(TOO_LARGE);
    let warmline = Setup::before(&origin).start();
    let mut client = post_head(&warmline, 100);
    client.send("four");
    let answer = client.response();
    assert_eq!((answer.status, answer.text().as_str()), (413, "too long"));
    origin.wait_for("the end", |record| record.connections[0].end.is_some());
    assert_eq!(warmline.one_shot("/after").text(), "right");
    assert_eq!(origin.record().connections.len(), 2);
    assert!(came.load(std::sync::atomic::Ordering::Relaxed) <= 4);
}

#[test]
fn case_03_a_client_whose_request_is_not_wanted_to_its_end_is_told_to_close() {
    let (origin, _) = answering_early(TOO_LARGE);
    let warmline = Setup::before(&origin).start();
    let mut client = post_head(&warmline, 100);
    client.send("four");
    assert_eq!(client.response().head.field("connection"), Some("close"));
    client.half_close();
    assert_eq!(client.end(), (Ending::Fin, Vec::new()));
}

#[test]
fn case_03_after_an_early_answer_no_more_of_the_request_is_sent() {
    let (origin, came) = answering_early("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let warmline = Setup::before(&origin).start();
    let mut client = post_head(&warmline, 100_000_000);
    assert_eq!(client.response().text(), "ok");
    // Warmline may read a little more, then it closes.
    let piece = vec![b'x'; 64 * 1024];
    while client.try_send(&piece).is_ok() {}
    origin.wait_for("the end", |record| record.connections[0].end.is_some());
    let sent = came.load(std::sync::atomic::Ordering::Relaxed);
    assert!(sent < 1_000_000, "{sent} bytes were sent after the answer");
    warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
}

#[test]
fn case_03_a_long_answer_before_the_requests_end_comes_whole() {
    let gate = Gate::new();
    let opened = gate.clone();
    let origin = Origin::scripted(move |mut peer| {
        let opened = opened.clone();
        async move {
            peer.head().await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").await;
            opened.opened().await;
            peer.write("other").await;
            peer.ended().await;
            peer.close().await;
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = post_head(&warmline, 100);
    client.send("four");
    client.response_head();
    let mut came = client.read_some().expect("the first half");
    client.send("more");
    gate.open();
    while came.len() < 10 {
        came.extend(client.read_some().expect("the second half"));
    }
    assert_eq!(came, b"firstother");
    warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
}

#[test]
fn case_33_after_an_answer_of_ours_a_body_is_never_taken_for_the_next_request() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n";
    for framing in
        [format!("Content-Length: {}", smuggled.len() + 10), "Transfer-Encoding: chunked".into()]
    {
        let mut client = warmline.connect();
        client.send(format!("POST /any HTTP/1.1\r\nHost: nobody.test\r\n{framing}\r\n\r\n"));
        let answer = client.response();
        assert_eq!(answer.status, 404);
        let _ = client.try_send(smuggled);
        let _ = client.try_send(smuggled);
        client.half_close();
        let (_, rest) = client.end();
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"), "{}", rest.escape_ascii());
    }
    assert_eq!(origin.record().request_count, 0);
}

#[test]
fn case_33_a_body_that_came_whole_leaves_the_clients_connection_usable_or_closed() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send("POST /any HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 4\r\n\r\nbody");
    let answer = client.response();
    assert_eq!(answer.status, 404);
    if answer.head.field("connection") == Some("close") {
        client.half_close();
        assert_eq!(client.end(), (Ending::Fin, Vec::new()));
    } else {
        assert_eq!(client.get("api.test", "/any").text(), "hello\n");
    }
}

#[test]
fn case_33_a_client_that_goes_on_sending_still_reads_our_whole_answer() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    for length in [10_000, 60_000, 10_000_000] {
        let mut client = warmline.connect();
        client.send(format!(
            "POST /any HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: {length}\r\n\r\n"
        ));
        // The write may fail because Warmline has closed; the client then still reads the answer.
        let _ = client.try_send(vec![b'x'; length]);
        let answer = client.response();
        assert_eq!(answer.status, 404, "{length}");
        assert!(answer.text().contains("configured hosts"), "{length}");
    }
}

#[test]
fn case_33_a_503_to_an_unfinished_upload_closes_or_drains() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set("pool.maxConnections", 1).set("pool.maxQueue", 0);
    let warmline = setup.start();
    let mut holder = warmline.connect();
    holder.send("GET /hold HTTP/1.1\r\nHost: api.test\r\n\r\n");
    origin.wait_for("the holder", |record| record.request_count == 1);
    let mut client = post_head(&warmline, 100);
    client.send("GET /smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n");
    assert_eq!(client.response().status, 503);
    client.half_close();
    let (_, rest) = client.end();
    assert_eq!(rest, b"", "{}", rest.escape_ascii());
    origin.release();
    assert_eq!(holder.response().text(), "held\n");
    assert_eq!(origin.record().request_count, 1);
}
