//! The upstream: a TLS origin on a thread of its own that answers each request's head with the current input's bytes.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs, aws_lc_rs::kx_group::X25519},
    pki_types::PrivateKeyDer,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime,
    signal::unix::{SignalKind, signal},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    input::{Ending, Input},
    received::{self, Framing},
    world::{SANE, sane_body},
};

/// The origin's name.
pub const NAME: &str = "a.test";
/// The size of a small TLS record; a whole answer in such records still leaves in one segment.
const SMALL_RECORD: usize = 256;

/// The answer to requests that are not sane.
#[derive(Clone)]
struct Script {
    response: Vec<u8>,
    ending: Ending,
    small_records: bool,
}

/// A running origin.
pub struct Origin {
    address: SocketAddr,
    trust: String,
    script: Arc<Mutex<Script>>,
}

impl Origin {
    /// Starts an origin that asks for no client certificate.
    pub fn start() -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new([NAME.to_owned()]).expect("the name is ASCII");
        let certificate = params.self_signed(&key).expect("a certificate can be made");
        let trust = certificate.pem();
        let config = |small_records: bool| {
            let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
            // The cheapest key exchange: the handshake is not under test here.
            let provider =
                CryptoProvider { kx_groups: vec![X25519], ..aws_lc_rs::default_provider() };
            let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
                .with_safe_default_protocol_versions()
                .expect("the provider speaks TLS 1.3")
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], private)
                .expect("certificate and key belong together");
            config.max_fragment_size = small_records.then_some(SMALL_RECORD);
            TlsAcceptor::from(Arc::new(config))
        };
        let acceptors = [config(false), config(true)];
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be told");
        let address = listener.local_addr().expect("it is bound");
        let script = Script { response: Vec::new(), ending: Ending::Open, small_records: false };
        let script = Arc::new(Mutex::new(script));
        let shared = Arc::clone(&script);
        thread::spawn(move || run(listener, acceptors, shared));
        Self { address, trust, script }
    }

    /// Returns the address that the origin listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its certificate, which is self-signed, as PEM.
    pub fn trust_pem(&self) -> &str {
        &self.trust
    }

    /// Makes the origin answer as this input says from now on.
    pub fn answer_with(&self, input: &Input) {
        *self.script.lock().expect("nothing panics inside") = Script {
            response: input.response.clone(),
            ending: input.ending(),
            small_records: input.small_records(),
        };
    }
}

fn run(listener: std::net::TcpListener, acceptors: [TlsAcceptor; 2], script: Arc<Mutex<Script>>) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(async move {
        // A process whose main function is libFuzzer's does not ignore SIGPIPE as Rust's do; this handler stays for
        // good.
        let _ = signal(SignalKind::pipe()).expect("a signal can be handled");
        let listener = TcpListener::from_std(listener).expect("it is non-blocking");
        loop {
            let (tcp, _) = listener.accept().await.expect("descriptors are left");
            let small = script.lock().expect("nothing panics inside").small_records;
            let acceptor = acceptors[usize::from(small)].clone();
            let script = Arc::clone(&script);
            // The end of a connection is Warmline's to choose: errors are not findings.
            tokio::spawn(async move {
                tcp.set_nodelay(true)?;
                let tls = acceptor.accept(tcp).await?;
                Connection { tls, read: Vec::new(), script }.serve().await
            });
        }
    });
}

/// A connection from Warmline.
struct Connection {
    tls: TlsStream<TcpStream>,
    /// Bytes that were read and not used yet.
    read: Vec<u8>,
    script: Arc<Mutex<Script>>,
}

impl Connection {
    async fn serve(mut self) -> io::Result<()> {
        loop {
            let head = self.head().await?;
            if let Some(number) = head.target.strip_prefix(SANE) {
                self.answer_sanely(number.parse().unwrap_or_default()).await?;
            } else {
                let script = self.script.lock().expect("nothing panics inside").clone();
                // Written at once: no byte may come after Warmline has taken the connection back.
                self.tls.write_all(&script.response).await?;
                self.tls.flush().await?;
                if !matches!(script.ending, Ending::Open) {
                    return self.end(script.ending).await;
                }
            }
            self.skip_body(head.framing).await?;
        }
    }

    async fn answer_sanely(&mut self, number: u64) -> io::Result<()> {
        let body = sane_body(number);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        self.tls.write_all(&[head.as_bytes(), &body].concat()).await?;
        self.tls.flush().await
    }

    async fn end(mut self, ending: Ending) -> io::Result<()> {
        if matches!(ending, Ending::Polite) {
            self.tls.shutdown().await?;
        }
        let (mut tcp, _) = self.tls.into_inner();
        if matches!(ending, Ending::Reset) {
            return SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
        }
        tcp.shutdown().await?;
        // Bytes that are still on their way are read: otherwise the kernel resets, and the answer may be lost.
        tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await.map(|_| ())
    }

    async fn head(&mut self) -> io::Result<received::Head> {
        loop {
            if let Some(head) = received::head(&self.read) {
                self.read.drain(..head.length);
                return Ok(head);
            }
            self.more().await?;
        }
    }

    /// Reads a request's body to its end: the bytes behind it are the next request.
    async fn skip_body(&mut self, framing: Framing) -> io::Result<()> {
        match framing {
            Framing::Length(length) => self.skip(length).await,
            Framing::Chunked => loop {
                let line = self.line().await?;
                let size = str::from_utf8(&line).ok();
                let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
                match size.unwrap_or_else(|| panic!("a chunk's size: {}", line.escape_ascii())) {
                    0 => return self.skip_trailers().await,
                    size => self.skip(size).await?,
                }
                assert!(self.line().await?.is_empty(), "a chunk is longer than its size");
            },
        }
    }

    async fn skip_trailers(&mut self) -> io::Result<()> {
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(());
            }
            let (name, _) = received::field(&line);
            let frames = matches!(name.as_str(), "content-length" | "transfer-encoding" | "host");
            assert!(!frames, "{name} as a trailer");
        }
    }

    async fn skip(&mut self, mut length: usize) -> io::Result<()> {
        while length > self.read.len() {
            length -= self.read.len();
            self.read.clear();
            self.more().await?;
        }
        self.read.drain(..length);
        Ok(())
    }

    /// Reads a line, and returns it without its end.
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.read.windows(2).position(|window| window == b"\r\n") {
                let line = self.read.drain(..end + 2).take(end).collect();
                return Ok(line);
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.tls.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
