//! A counting origin on a thread and runtime of its own: it speaks mutual TLS (or plain TCP), serves well-behaved HTTP
//! or runs a script for each connection, and records everything that it sees.

mod connection;
mod gate;
mod record;
mod service;
mod sessions;

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime,
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;

pub use connection::Connection;
pub use gate::Gate;
pub use record::{ConnectionRecord, End, Handshakes, Record};
pub use service::{IdleClose, IdleEnd};
pub use sessions::Resumption;

use super::authority::{Authority, Identity};
use connection::Wire;
use record::{Handshake, Witness};
use service::Service;
use sessions::Sessions;

/// The name in an origin's certificate unless a test sets another.
pub const NAME: &str = "api.test";

/// An origin's treatment of one connection.
type Script = Arc<dyn Fn(Connection) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The client certificates that an origin asks for.
#[derive(Clone)]
pub enum ClientCertificates {
    /// No client certificate.
    NotAsked,
    /// A certificate signed by this authority; otherwise the handshake fails.
    Required(rustls::pki_types::CertificateDer<'static>),
    /// A certificate signed by this authority, with only the signature algorithm Ed25519 accepted.
    RequiredEd25519(rustls::pki_types::CertificateDer<'static>),
}

/// The settings of an origin that is not started yet.
pub struct Builder {
    identity: Identity,
    clients: ClientCertificates,
    versions: Vec<&'static SupportedProtocolVersion>,
    resumption: Resumption,
    addresses: Vec<IpAddr>,
    plain: bool,
    gate: Gate,
    /// The gate that handshakes wait for, if any.
    handshakes: Option<Gate>,
    /// The delay before each handshake, as if the origin were far away.
    distance: Duration,
    idle: Option<IdleClose>,
    script: Option<Script>,
    leaves: Option<Leaving>,
}

/// The signals for an origin to stop listening on its first address.
#[derive(Debug, Clone)]
pub struct Leaving {
    /// The gate whose opening asks the origin to stop listening there.
    pub asked: Gate,
    /// The gate that the origin opens once nothing listens there any more.
    pub left: Gate,
}

impl Leaving {
    /// Asks the origin to leave its first address, and waits until it has.
    pub fn happens(&self) {
        self.asked.open();
        self.left.wait();
    }
}

/// A running origin; it stops when dropped, and panics then if anything went wrong inside.
pub struct Origin {
    port: u16,
    gate: Gate,
    witness: Arc<Witness>,
    sessions: Arc<Sessions>,
    shown: Arc<Shown>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    /// Makes a well-behaved origin called [`NAME`] that requires a client certificate of [`Authority::shared`], on
    /// 127.0.0.1, TLS 1.3.
    pub fn serving() -> Builder {
        let authority = Authority::shared();
        Builder {
            identity: authority.server(&[NAME]),
            clients: ClientCertificates::Required(authority.certificate().clone()),
            versions: vec![&TLS13],
            resumption: Resumption::Sessions,
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            plain: false,
            gate: Gate::new(),
            handshakes: None,
            distance: Duration::ZERO,
            idle: None,
            script: None,
            leaves: None,
        }
    }

    /// Makes an origin like [`Origin::serving`] whose connections are treated by this script after their handshake.
    pub fn scripted<F>(script: impl Fn(Connection) -> F + Send + Sync + 'static) -> Builder
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let script: Script = Arc::new(move |connection| Box::pin(script(connection)));
        Builder { script: Some(script), ..Self::serving() }
    }

    /// Makes an origin that sends half of a body of ten bytes, then nothing until the connection's end.
    pub fn stalling() -> Builder {
        Self::scripted(|mut peer| async move {
            peer.request().await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
            peer.ended().await;
            peer.close().await;
        })
    }

    /// Makes an origin that reads one request and sends nothing until the connection's end. Unlike one that answers at
    /// last, it sees how Warmline ended the connection however late it looks: its own bytes would be answered by RST.
    pub fn unanswering() -> Builder {
        Self::scripted(|mut peer| async move {
            peer.request().await;
            peer.ended().await;
            peer.close().await;
        })
    }

    /// Returns the port, the same on every address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Opens the gate that answers to `/hold` wait for.
    pub fn release(&self) {
        self.gate.open();
    }

    /// Shows this certificate from now on and forgets every session, like a server that was restarted.
    pub fn show(&self, identity: &Identity) {
        self.shown.replace(identity);
        self.forget_sessions();
    }

    /// Forgets every session, so that the next one offered is refused.
    pub fn forget_sessions(&self) {
        self.sessions.forget();
    }

    /// Returns a copy of the record so far.
    pub fn record(&self) -> Record {
        self.read(Clone::clone)
    }

    /// Reads the record so far without a copy.
    pub fn read<T>(&self, read: impl FnOnce(&Record) -> T) -> T {
        self.witness.read(read)
    }

    /// Blocks until the record fulfils the condition; panics with the record if it never does.
    pub fn wait_for(&self, what: &str, condition: impl Fn(&Record) -> bool) {
        self.witness.wait_for(what, condition);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the origin's thread panicked");
            let failures = self.witness.read(|record| record.failures.clone());
            assert!(failures.is_empty(), "the origin failed: {failures:#?}");
        }
    }
}

impl Builder {
    /// Sets the certificate that the origin shows.
    pub fn identity(self, identity: Identity) -> Self {
        Self { identity, ..self }
    }

    /// Sets the client certificates that the origin asks for.
    pub fn clients(self, clients: ClientCertificates) -> Self {
        Self { clients, ..self }
    }

    /// Requires client certificates of this authority.
    pub fn requires(self, authority: &Authority) -> Self {
        let certificate = authority.certificate().clone();
        self.clients(ClientCertificates::Required(certificate))
    }

    /// Speaks TLS 1.2 alone.
    pub fn tls12(self) -> Self {
        Self { versions: vec![&TLS12], ..self }
    }

    /// Speaks TLS 1.2 and 1.3.
    pub fn tls12_and_13(self) -> Self {
        Self { versions: vec![&TLS13, &TLS12], ..self }
    }

    /// Lets clients resume sessions in this way.
    pub fn resumption(self, resumption: Resumption) -> Self {
        Self { resumption, ..self }
    }

    /// Listens on these addresses, on one and the same port.
    pub fn addresses(self, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Self { addresses, ..self }
    }

    /// Speaks no TLS: the script gets the plain TCP connection.
    pub fn plain(self) -> Self {
        Self { plain: true, ..self }
    }

    /// Accepts connections, but begins no handshake until the gate is open.
    pub fn before_handshake(self, gate: Gate) -> Self {
        Self { handshakes: Some(gate), ..self }
    }

    /// Begins each handshake this much later, as if the origin were far away.
    pub fn far_away(self, distance: Duration) -> Self {
        Self { distance, ..self }
    }

    /// Closes idle connections at random.
    pub fn closing_idle(self, idle: IdleClose) -> Self {
        Self { idle: Some(idle), ..self }
    }

    /// Stops listening on the first address once asked to; connections there stay.
    pub fn leaving_first_address(self, leaving: &Leaving) -> Self {
        Self { leaves: Some(leaving.clone()), ..self }
    }

    /// Starts the origin.
    pub fn start(self) -> Origin {
        let witness = Arc::new(Witness::default());
        let sessions = Arc::new(Sessions::default());
        let shown = Arc::new(Shown::new(&self.identity));
        let server = Arc::new(Server {
            acceptor: (!self.plain).then(|| self.acceptor(&shown, &sessions)),
            handshakes: self.handshakes.clone(),
            distance: self.distance,
            script: self.script.clone().unwrap_or_else(|| self.service()),
            witness: Arc::clone(&witness),
        });
        let (stop, stopped) = oneshot::channel();
        let (bound, port) = mpsc::channel();
        let (addresses, leaves) = (self.addresses, self.leaves);
        let run = move || run(&addresses, leaves, &server, &bound, stopped);
        let thread = thread::Builder::new().name("origin".into()).spawn(run).expect("a thread");
        let port = port.recv().expect("the origin listens");
        let (stop, thread) = (Some(stop), Some(thread));
        Origin { port, gate: self.gate, witness, sessions, shown, stop, thread }
    }

    fn service(&self) -> Script {
        let service = Arc::new(Service { gate: self.gate.clone(), idle: self.idle });
        Arc::new(move |connection| {
            let service = Arc::clone(&service);
            Box::pin(async move { service.serve(connection).await })
        })
    }

    fn acceptor(&self, shown: &Arc<Shown>, sessions: &Arc<Sessions>) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .expect("the versions are known")
            .with_client_cert_verifier(self.clients.verifier())
            .with_cert_resolver(Arc::<Shown>::clone(shown));
        sessions.apply(self.resumption, &mut config);
        TlsAcceptor::from(Arc::new(config))
    }
}

impl ClientCertificates {
    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let mut provider = aws_lc_rs::default_provider();
        let authority = match self {
            Self::NotAsked => return WebPkiClientVerifier::no_client_auth(),
            Self::Required(authority) => authority,
            Self::RequiredEd25519(authority) => {
                let mapping = &mut provider.signature_verification_algorithms.mapping;
                let is_taken =
                    |(scheme, _): &(SignatureScheme, _)| *scheme == SignatureScheme::ED25519;
                let taken = mapping.iter().position(is_taken).expect("Ed25519 is known");
                *mapping = &mapping[taken..=taken];
                authority
            }
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).expect("an authority's certificate");
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider));
        builder.build().expect("a verifier")
    }
}

/// A certificate resolver that shows one certificate for every name, without judging it, since odd ones are wanted.
#[derive(Debug)]
struct Shown(Mutex<Arc<CertifiedKey>>);

impl Shown {
    fn new(identity: &Identity) -> Self {
        Self(Mutex::new(certified(identity)))
    }

    fn replace(&self, identity: &Identity) {
        *self.0.lock().expect("nothing panics inside") = certified(identity);
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().expect("nothing panics inside")))
    }
}

fn certified(identity: &Identity) -> Arc<CertifiedKey> {
    let key = aws_lc_rs::sign::any_supported_type(&identity.private_key());
    Arc::new(CertifiedKey::new(identity.chain.clone(), key.expect("a usable key")))
}

/// The state that the accept loops share.
struct Server {
    /// The TLS acceptor; `None` for plain TCP.
    acceptor: Option<TlsAcceptor>,
    handshakes: Option<Gate>,
    distance: Duration,
    script: Script,
    witness: Arc<Witness>,
}

fn run(
    addresses: &[IpAddr],
    mut leaves: Option<Leaving>,
    server: &Arc<Server>,
    bound: &mpsc::Sender<u16>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listeners = listen(addresses);
        let port = listeners[0].local_addr().expect("it is bound").port();
        bound.send(port).expect("the test waits for the port");
        for listener in listeners {
            let accepting = accept(listener, Arc::clone(server));
            match leaves.take() {
                Some(leaving) => tokio::spawn(until_left(accepting, leaving)),
                None => tokio::spawn(accepting),
            };
        }
        let _ = stopped.await;
    });
}

/// Listens on every address, on one port that is free on all of them.
fn listen(addresses: &[IpAddr]) -> Vec<TcpListener> {
    for _ in 0..100 {
        let mut port = 0;
        let bind = |address: &IpAddr| {
            let listener = listen_on(SocketAddr::new(*address, port))?;
            port = listener.local_addr()?.port();
            Ok::<_, std::io::Error>(listener)
        };
        if let Ok(listeners) = addresses.iter().map(bind).collect() {
            return listeners;
        }
    }
    panic!("no port is free on every one of {addresses:?}");
}

fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(address)?;
    socket.listen(1024)
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    while let Ok((stream, peer)) = listener.accept().await {
        settle().await;
        let local = stream.local_addr().expect("it is bound");
        let number = server.witness.accepted(local, peer);
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.serve(number, stream).await });
    }
}

async fn until_left(accepting: impl Future<Output = ()>, leaving: Leaving) {
    {
        let accepting = std::pin::pin!(accepting);
        tokio::select! {
            () = accepting => {}
            () = leaving.asked.opened() => {}
        }
    }
    leaving.left.open();
}

/// Lets other tasks handle events that came before this connection, so that an earlier end is recorded first.
async fn settle() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

impl Server {
    async fn serve(&self, number: usize, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        if let Some(gate) = &self.handshakes {
            gate.opened().await;
        }
        tokio::time::sleep(self.distance).await;
        let witness = Arc::clone(&self.witness);
        let wire = match &self.acceptor {
            None => Wire::Plain(stream),
            Some(acceptor) => match acceptor.accept(stream).await {
                Ok(stream) => {
                    let handshake = Handshake::of(stream.get_ref().1);
                    witness.update(|r| r.connections[number].handshake = Some(handshake));
                    Wire::Tls(Box::new(stream))
                }
                Err(error) => {
                    let error = Some(error.to_string());
                    witness.update(|record| record.connections[number].handshake_error = error);
                    return witness.closed(number);
                }
            },
        };
        let _judge = PanicJudge { number, witness: Arc::clone(&witness) };
        (self.script)(Connection::new(number, wire, witness)).await;
    }
}

/// A guard that records the panic of a script, which tokio would keep to itself.
struct PanicJudge {
    number: usize,
    witness: Arc<Witness>,
}

impl Drop for PanicJudge {
    fn drop(&mut self) {
        if thread::panicking() {
            self.witness.failed(format!("the script of connection {} panicked", self.number));
        }
    }
}
