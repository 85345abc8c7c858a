//! HTTP for operators, bounded against those who are slow or hostile.

use std::{pin::pin, time::Duration};

use axum::Router;
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::guests::{Answering, Bounds, Guests};

/// Bounds on the clients of one listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// On connections at once.
    pub guests: Bounds,
    /// From the end of an answer, or from the start, to the end of the next request's header.
    pub header: Duration,
    /// How old a connection becomes before it takes no further request.
    pub age: Duration,
    /// How long a connection past its age may take to finish its answer.
    pub finish: Duration,
}

/// In this time all who wait in the kernel's backlog have been accepted, whatever they do then: a probe behind them is answered
/// before it is given up (kubelets wait for 1 s).
const TURNOVER: Duration = Duration::from_millis(400);
/// The time that an answer may take before its connection may have to go; answers take some milliseconds.
const ASKING: Duration = Duration::from_millis(250);

impl Limits {
    /// Makes the limits of a port that has room for so many connections.
    pub(super) fn for_operators(most: usize) -> Self {
        Self {
            guests: Bounds::new(most, TURNOVER, ASKING),
            header: Duration::from_secs(10),
            age: Duration::from_mins(1),
            finish: Duration::from_secs(10),
        }
    }
}

/// Bytes of a request's header section.
const HEADER_BYTES: usize = 16 * 1024;

/// Serves for as long as it is polled.
pub(super) async fn serve(listener: std::net::TcpListener, router: Router, limits: Limits) {
    let listener =
        match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "an operator's port cannot be served"),
        };
    let mut guests = Guests::new(limits.guests);
    loop {
        let (stream, from) = guests.next(&listener, "an operator's connection").await;
        guests.welcome(from, |answering| converse(stream, router.clone(), answering, limits)).await;
    }
}

async fn converse(stream: TcpStream, router: Router, answering: Answering, limits: Limits) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = router.call(request);
        answering.during(answer)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // How such a connection ends concerns nobody: what it was asked for is answered or not.
    if timeout(limits.age, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(limits.finish, connection).await;
    }
}
