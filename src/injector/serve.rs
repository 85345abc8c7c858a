//! Connections of both ports: bounded in number and time, with TLS where there is some, ended in order.

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::Router;
use http::{HeaderValue, header::CONNECTION};
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
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

use crate::{
    drain::Drain,
    guests::{Answering, Bounds, Guests},
    tls::in_words,
};

/// The end of a port.
#[derive(Clone, Default)]
pub(super) struct End {
    /// It will come: answers say that they are their connection's last.
    pub(super) announced: Drain,
    /// It is here: nobody is accepted, and what is in flight finishes.
    pub(super) come: Drain,
}

/// Connections at once.
const MOST: usize = 256;
/// In this time all who wait in the kernel's backlog have been accepted, whatever they do then. API servers wait 5 s for a
/// review; a handshake takes long where many come at once.
const REVIEWS_TURNOVER: Duration = Duration::from_secs(4);
/// Kubelets wait for 1 s.
const HEALTH_TURNOVER: Duration = Duration::from_millis(400);
/// The time that an answer may take before its connection may have to go.
const ASKING: Duration = Duration::from_secs(2);
/// To the end of the TLS handshake, and from there to the end of the first request's header.
const FIRST: Duration = Duration::from_secs(5);
/// For each header after that. API servers keep idle connections for 90 s, and must be the first to close them: a
/// review that crosses our end is lost.
const IDLE: Duration = Duration::from_mins(2);
/// From that age on an answer says that it is the connection's last: so load spreads, and old certificates are left.
const AGE: Duration = Duration::from_mins(5);
/// How long what is in flight may take at the end.
const FINISH: Duration = Duration::from_secs(5);
/// Bytes of a request's header section.
const HEADER_BYTES: usize = 32 * 1024;

/// Serves until the end has begun and what was in flight is finished.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    end: End,
) {
    let turnover = if tls.is_some() { REVIEWS_TURNOVER } else { HEALTH_TURNOVER };
    let mut guests = Guests::new(Bounds::new(MOST, turnover, ASKING));
    loop {
        let (stream, from) = tokio::select! {
            next = guests.next(&listener, "a connection") => next,
            () = end.come.begun() => break,
        };
        let (tls, router, end) = (tls.clone(), router.clone(), end.clone());
        guests.welcome(from, |answering| converse(stream, tls, router, answering, end)).await;
    }
    drop(listener);
    let _ = timeout(FINISH, guests.gone()).await;
}

/// How a connection ends concerns nobody: what it was asked for is answered or not.
async fn converse(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    answering: Answering,
    end: End,
) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => answer(stream, router, answering, end).await,
        Some(tls) => match timeout(FIRST, tls.accept(stream)).await {
            Ok(Ok(stream)) => answer(stream, router, answering, end).await,
            Ok(Err(error)) => tell_failed_handshake(&in_words(error)),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}

/// An API server that does not trust us sends an alert; a port that is probed only ends.
fn tell_failed_handshake(error: &io::Error) {
    if error.kind() == io::ErrorKind::InvalidData {
        tracing::warn!(%error, "a TLS handshake failed");
    } else {
        tracing::debug!(%error, "a TLS handshake failed");
    }
}

async fn answer<S>(stream: S, router: Router, answering: Answering, end: End)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (began, asked) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        asked.store(true, Relaxed);
        let (answer, end) = (answering.during(router.call(request)), end.clone());
        async move {
            let mut response = answer.await?;
            if began.elapsed() > AGE || end.announced.has_begun() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
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
