//! The demo's origin: an HTTPS server on a thread of its own that refuses clients without a certificate, and counts.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Sub,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use http::{Response, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{
    HandshakeKind, ServerConfig, ServerConnection, crypto::aws_lc_rs, server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::{self, Runtime},
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;
use x509_parser::parse_x509_certificate;

use super::{
    Error, ORIGIN,
    authority::{Authority, Credentials},
    network,
};

/// The wait after a failed accept (no descriptors left) before the next.
const RESPITE: Duration = Duration::from_millis(50);

/// The running origin; it ends when this is dropped.
pub struct Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The origin's counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// The number of TCP connections accepted.
    pub connections: u64,
    /// The number of full handshakes.
    pub full: u64,
    /// The number of handshakes that resumed a session.
    pub resumed: u64,
    /// The number of requests answered.
    pub requests: u64,
}

impl Sub for Seen {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            connections: self.connections - earlier.connections,
            full: self.full - earlier.full,
            resumed: self.resumed - earlier.resumed,
            requests: self.requests - earlier.requests,
        }
    }
}

impl Origin {
    /// Starts the origin on a free port of 127.0.0.1, behind a simulated network with this round trip; when this
    /// returns, it accepts.
    pub fn start(
        authority: &Authority,
        credentials: &Credentials,
        round_trip: Duration,
    ) -> Result<Self, Error> {
        let acceptor = acceptor(authority, credentials)?;
        let (listener, address) = listen().map_err(Error::Origin)?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::Origin)?;
        let seen = Arc::<Mutex<Seen>>::default();
        let server = Arc::new(Server { acceptor, round_trip, seen: Arc::clone(&seen) });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("origin".into())
            .spawn(move || run(&runtime, listener, server, stopped))
            .map_err(Error::Origin)?;
        Ok(Self { address, seen, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the address that the origin listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what the origin has counted so far.
    pub fn seen(&self) -> Seen {
        *lock(&self.seen)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A thread that panicked has said so on standard error.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Makes the TLS acceptor that shows these credentials, and refuses clients without a certificate of this authority.
fn acceptor(authority: &Authority, credentials: &Credentials) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = Arc::new(authority.roots()?);
    let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(credentials.chain(), credentials.key())?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Opens a listening socket on a free port of the loopback address; returns the address too. Fails if the kernel does.
fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The state that all connections share.
struct Server {
    acceptor: TlsAcceptor,
    round_trip: Duration,
    seen: Arc<Mutex<Seen>>,
}

/// Serves the listener on this thread until the origin is dropped; logs an error if the listener cannot be registered
/// with the runtime.
fn run(
    runtime: &Runtime,
    listener: TcpListener,
    server: Arc<Server>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => tokio::select! {
                () = accept(listener, server) => {}
                _ = stopped => {}
            },
            Err(error) => tracing::error!(%error, "the demo's origin cannot listen"),
        }
    });
}

/// Accepts connections for as long as it is polled, and serves each on a task of its own. Waits 50 ms after an error.
async fn accept(listener: tokio::net::TcpListener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move { server.serve(stream).await });
            }
            Err(_) => tokio::time::sleep(RESPITE).await,
        }
    }
}

impl Server {
    /// Counts the connection and serves it, behind the simulated network unless the round trip is zero.
    async fn serve(&self, stream: TcpStream) {
        let number = self.count(|seen| {
            seen.connections += 1;
            seen.connections
        });
        // A failure only delays small responses.
        let _ = stream.set_nodelay(true);
        if self.round_trip.is_zero() {
            self.converse(stream, number).await;
        } else {
            self.converse(network::distant(stream, self.round_trip), number).await;
        }
    }

    /// Shakes hands, counts the handshake, and serves and counts the requests until the connection ends. A client whose
    /// handshake fails learns the reason from TLS.
    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, connection: u64) {
        let Ok(stream) = self.acceptor.accept(stream).await else { return };
        let tls = stream.get_ref().1;
        let resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
        self.count(|seen| if resumed { seen.resumed += 1 } else { seen.full += 1 });
        let greeting = Greeting { client: subject(tls), connection, resumed };
        let answer = service_fn(async |_| {
            let request = self.count(|seen| {
                seen.requests += 1;
                seen.requests
            });
            Ok::<_, Infallible>(greeting.response(request))
        });
        // An error here is the client's end of the connection.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
    }

    fn count<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        change(&mut lock(&self.seen))
    }
}

/// The text of the origin's responses on one connection.
struct Greeting {
    /// The subject of the client's certificate.
    client: String,
    connection: u64,
    resumed: bool,
}

impl Greeting {
    /// Returns the response 200 with the greeting as its text. `request` is the request's number since the origin's
    /// start.
    fn response(&self, request: u64) -> Response<Full<bytes::Bytes>> {
        let handshake = if self.resumed { "resumed" } else { "full" };
        let text = format!(
            "Hello from {ORIGIN}. Your certificate says {}.\n\
             This is request {request} since I started, on connection {} ({handshake} handshake).\n",
            self.client, self.connection
        );
        let mut response = Response::new(Full::from(text));
        let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    }
}

/// Returns the subject of the client's certificate; empty if it cannot be read.
fn subject(tls: &ServerConnection) -> String {
    let leaf = tls.peer_certificates().and_then(<[_]>::first);
    let parsed = leaf.and_then(|leaf| parse_x509_certificate(leaf).ok());
    parsed.map_or_else(String::new, |(_, certificate)| certificate.subject().to_string())
}
