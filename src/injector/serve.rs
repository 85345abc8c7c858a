//! Connections of both ports: bounded in number and time, with TLS on the webhook's port, closed in order at the end.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Body};
use http::{HeaderValue, Response, header::CONNECTION};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceBuilder;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::{
    clients::{ActivityReport, Bounds, Clients},
    drain::Drain,
    tls::in_words,
};

/// The end of a port, in two steps.
#[derive(Clone, Default)]
pub(super) struct End {
    /// The first step: the end is near, and each answer says that it is its connection's last (`Connection: close`).
    pub(super) announced: Drain,
    /// The second step: no more connections are accepted, and the requests in flight finish.
    pub(super) come: Drain,
}

/// The largest number of connections at the same time.
const MOST: usize = 256;
/// The time within which every client in the kernel's backlog of the webhook's port has been accepted, whatever the
/// clients before it do. API servers wait 5 s for a review, and handshakes are slow if many come at once.
const REVIEWS_TURNOVER: Duration = Duration::from_secs(4);
/// The same time for the port of metrics and health. Kubelets wait 1 s for a probe.
const HEALTH_TURNOVER: Duration = Duration::from_millis(400);
/// The time that an answer may take. A connection whose answer takes longer may be closed to make room for a new one.
const ASKING: Duration = Duration::from_secs(2);
/// The time limit of the TLS handshake, and of the wait from there until the first request's header is complete.
const FIRST: Duration = Duration::from_secs(5);
/// The time limit for each later header, counted from the answer before. API servers keep idle connections for 90 s and
/// must be the first to close them, because a review that is sent while this side closes is lost.
const IDLE: Duration = Duration::from_mins(2);
/// The age from which on each answer says that it is its connection's last. So load spreads over the replicas, and no
/// connection stays with an old certificate.
const AGE: Duration = Duration::from_mins(5);
/// The time that the requests in flight have to finish at the end.
const FINISH: Duration = Duration::from_secs(5);
/// The largest header section of a request, in bytes.
const HEADER_BYTES: usize = 32 * 1024;

/// Serves the port until its end has come; then closes the listener, and waits until the requests in flight are
/// finished, at most [`FINISH`].
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    end: End,
) {
    let turnover = if tls.is_some() { REVIEWS_TURNOVER } else { HEALTH_TURNOVER };
    let mut clients = Clients::new(Bounds::new(MOST, turnover, ASKING));
    loop {
        let (stream, from) = tokio::select! {
            next = clients.next(&listener, "a connection") => next,
            () = end.come.begun() => break,
        };
        let (tls, router, end) = (tls.clone(), router.clone(), end.clone());
        clients.serve(from, |report| converse(stream, tls, router, report, end)).await;
    }
    drop(listener);
    let _ = timeout(FINISH, clients.all_ended()).await;
}

/// Serves one connection, after its TLS handshake where `tls` is given; a failed handshake is logged. Its errors are
/// not returned: the client got its answer or did not, and nothing else depends on that.
async fn converse(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    report: ActivityReport,
    end: End,
) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve_http(stream, router, report, end).await,
        Some(tls) => match timeout(FIRST, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve_http(stream, router, report, end).await,
            Ok(Err(error)) => log_failed_handshake(&in_words(error)),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}

/// Logs a failed handshake. The level is a warning if the client sent an alert or invalid data, as an API server does
/// that does not trust the certificate, and debug if the connection only ended, as port probes do.
fn log_failed_handshake(error: &io::Error) {
    if error.kind() == io::ErrorKind::InvalidData {
        tracing::warn!(%error, "a TLS handshake failed");
    } else {
        tracing::debug!(%error, "a TLS handshake failed");
    }
}

/// Serves the requests of one connection, TLS done. Ends when the client does, if no request comes within [`FIRST`], if
/// a later header takes longer than [`IDLE`], or, at the end of the port, once the request in flight is answered
/// ([`FINISH`] at most). Answers say that they are the last from [`AGE`] on, and once the end is announced.
async fn serve_http<S>(stream: S, router: Router, report: ActivityReport, end: End)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (began, asked) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let (announced, has_asked) = (end.announced.clone(), Arc::clone(&asked));
    let close_if_last = move |_: &Response<Body>| {
        let is_last = began.elapsed() > AGE || announced.has_begun();
        is_last.then(|| HeaderValue::from_static("close"))
    };
    let stack = ServiceBuilder::new()
        .layer(SetResponseHeaderLayer::overriding(CONNECTION, close_if_last))
        .map_future(move |answer| {
            has_asked.store(true, Relaxed);
            report.during(answer)
        });
    let service = TowerToHyperService::new(stack.service(router));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let nobody_asks = async {
        sleep(FIRST).await;
        if asked.load(Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = connection.as_mut() => {}
        () = nobody_asks => {}
        () = end.come.begun() => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(FINISH, connection).await;
        }
    }
}
