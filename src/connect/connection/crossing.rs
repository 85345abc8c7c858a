//! Events that come between an exchange and its connection: a response without a request that is on its way, which no
//! request gets, whatever its method; and the end of the driver.

use std::{
    future::poll_fn,
    io::{Read, Write},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use http::{Method, Request};
use http_body_util::BodyExt;

use super::{Connection, Facts, REST_DELAY, STALE_CHECK_AFTER, StaleCheck, over};
use crate::{
    connect::{
        HeaderCase, RequestBody,
        meter::doubted::{Peer, connected},
    },
    tls::{CertificateUse, Handshake, Version},
};

fn facts() -> Arc<Facts> {
    Arc::new(Facts {
        generation: 0,
        peer: SocketAddr::from(([127, 0, 0, 1], 443)),
        local: None,
        handshake: Handshake::Full,
        shown: CertificateUse::default(),
        version: Version::Tls13,
        connect_time: Duration::ZERO,
        handshake_time: Duration::ZERO,
    })
}

fn request(method: Method) -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::Empty);
    *request.method_mut() = method;
    request
}

fn say(peer: &mut Peer, text: &str) {
    let length = text.len();
    write!(peer, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}").unwrap();
    peer.flush().unwrap();
}

/// Makes an exchange; a thread serves the peer's side of it.
async fn exchange(connection: &mut Connection, mut peer: Peer) -> Peer {
    let serving = tokio::task::spawn_blocking(move || {
        assert!(peer.read(&mut [0; 1024]).unwrap() > 0);
        say(&mut peer, "right");
        peer
    });
    connection.ready().await.unwrap();
    let sent = connection.send(request(Method::GET), StaleCheck::Never, Instant::now()).await;
    let response = sent.unwrap_or_else(|error| panic!("{}", error.into_error()));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "right");
    connection.release(Instant::now());
    serving.await.unwrap()
}

/// Makes the peer send a response without a request on an idle connection, and sends a request this long after the
/// connection's last exchange or its opening: the request must come back unwritten.
async fn cross(used: bool, method: Method, stale_check: StaleCheck, after: Duration) {
    let (stream, meter, mut peer) = connected().await;
    peer.sock.set_nodelay(true).unwrap();
    let (mut connection, driver) = over(stream, HeaderCase::Lower, meter, facts()).await.unwrap();
    let driving = tokio::spawn(driver.run(|| (), |_| ()));
    if used {
        peer = exchange(&mut connection, peer).await;
    } else {
        // The driver reads the socket once before anything is there.
        tokio::task::yield_now().await;
    }
    // The runtime looks at no socket between this and the request.
    say(&mut peer, "evil");
    connection.ready().await.expect("it was noticed: this test shows nothing");
    let at = connection.released + after;
    let sent = connection.send(request(method.clone()), stale_check, at).await;
    let Err(mut error) = sent else { panic!("{method} got an answer that nobody asked for") };
    assert!(error.take_message().is_some(), "{method}: nothing of it was written");
    drop((connection, peer));
    driving.await.unwrap();
}

#[tokio::test]
async fn fault_37_a_request_on_an_idle_connection_does_not_get_an_unrequested_response() {
    for used in [true, false] {
        for (method, stale_check, after) in [
            (Method::GET, StaleCheck::IfIdle, STALE_CHECK_AFTER),
            (Method::HEAD, StaleCheck::IfIdle, STALE_CHECK_AFTER),
            (Method::POST, StaleCheck::Always, Duration::ZERO),
        ] {
            cross(used, method, stale_check, after).await;
        }
    }
}

#[tokio::test]
async fn an_exchange_that_wakes_a_resting_connection_gets_an_error_if_the_driver_is_dropped() {
    let (stream, meter, _peer) = connected().await;
    let (mut connection, mut driver) =
        over(stream, HeaderCase::Lower, meter, facts()).await.unwrap();
    poll_fn(|cx| Poll::Ready(driver.http.poll_without_shutdown(cx).is_pending())).await;
    let later = Instant::now() + REST_DELAY;
    assert!(connection.idle_sender.rest(later, true, Waker::noop()));
    let mut ready = pin!(connection.ready());
    assert!(poll_fn(|cx| Poll::Ready(ready.as_mut().poll(cx).is_pending())).await);
    drop(driver);
    let ended = poll_fn(|cx| Poll::Ready(ready.as_mut().poll(cx))).await;
    assert!(matches!(ended, Poll::Ready(Err(_))));
}
