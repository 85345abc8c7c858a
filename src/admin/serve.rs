//! HTTP for operators, bounded against slow and hostile clients.

use std::{pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower::ServiceBuilder;

use crate::clients::{ActivityReport, Bounds, Clients};

/// The bounds on the clients of one listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The bounds on the number of connections.
    pub clients: Bounds,
    /// The time limit for a request's header, from the connection's start or the end of the answer before.
    pub header: Duration,
    /// The age from which on a connection takes no further request.
    pub age: Duration,
    /// The time that a connection past its age has to finish its answer.
    pub finish: Duration,
}

/// The time within which every client in the kernel's backlog has been accepted, whatever the clients before it do. So
/// a probe is answered before the kubelet gives it up after 1 s.
const TURNOVER: Duration = Duration::from_millis(400);
/// The time that an answer may take; answers take some milliseconds. A connection whose answer takes longer may be
/// closed to make room for a new one.
const ASKING: Duration = Duration::from_millis(250);

impl Limits {
    /// Makes the limits of a port with room for `most` connections: 10 s for a request's header, and a minute for a
    /// connection.
    pub(super) fn for_operators(most: usize) -> Self {
        Self {
            clients: Bounds::new(most, TURNOVER, ASKING),
            header: Duration::from_secs(10),
            age: Duration::from_mins(1),
            finish: Duration::from_secs(10),
        }
    }
}

/// The largest header section of a request, in bytes.
const HEADER_BYTES: usize = 16 * 1024;

/// Serves the listener for as long as the future is polled. If the listener cannot be registered with the runtime, logs
/// the error and returns: then the port is not served.
pub(super) async fn serve(listener: std::net::TcpListener, router: Router, limits: Limits) {
    let listener =
        match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "an operator's port cannot be served"),
        };
    let mut clients = Clients::new(limits.clients);
    loop {
        let (stream, from) = clients.next(&listener, "an operator's connection").await;
        clients.serve(from, |report| converse(stream, router.clone(), report, limits)).await;
    }
}

/// Serves the requests of one connection, and reports to `report` while an answer is under way. Ends when the client
/// does or sends an invalid request, if a header takes longer than `limits.header`, or at the age `limits.age`, once
/// the answer in flight is written (within `limits.finish`).
async fn converse(stream: TcpStream, router: Router, report: ActivityReport, limits: Limits) {
    let reported = ServiceBuilder::new().map_future(move |answer| report.during(answer));
    let service = TowerToHyperService::new(reported.service(router));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // The error of such a connection is dropped: the client got its answer or did not, and nothing else depends on
    // that.
    if timeout(limits.age, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(limits.finish, connection).await;
    }
}
