//! Ends of the peer that tokio has not noticed yet: a doubted read finds them before a write, and only then; an end
//! that a write meets does not hide what the peer had sent before.

use std::{
    io::{ErrorKind, Write},
    net::{Shutdown, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs,
    pki_types::PrivateKeyDer,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{Meter, MeteredStream, Window};
use crate::connect::tcp::Tcp;

pub(in crate::connect) type Peer = StreamOwned<ServerConnection, std::net::TcpStream>;
type Read = Poll<Result<usize, ErrorKind>>;

const NAME: &str = "peer.test";
const WATCHDOG: Duration = Duration::from_secs(10);

/// Returns both ends of a connection whose handshake is done; this side has read everything that came.
pub(in crate::connect) async fn connected() -> (MeteredStream, Arc<Meter>, Peer) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.into()]).unwrap();
    let provider = || Arc::new(aws_lc_rs::default_provider());
    let server =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let server = server.unwrap().with_no_client_auth();
    let server = server.with_single_cert(vec![cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut session = ServerConnection::new(Arc::new(server)).unwrap();
        session.complete_io(&mut socket).unwrap();
        StreamOwned::new(session, socket)
    });
    let socket = TcpStream::connect(address).await.unwrap();
    let socket = Tcp::new(socket, Arc::default());
    let connector = TlsConnector::from(Arc::new(client));
    let stream = connector.connect(NAME.try_into().unwrap(), socket).await.unwrap();
    let meter = Arc::new(Meter::default());
    let mut stream = MeteredStream::new(stream, Arc::clone(&meter));
    let peer = peer.join().unwrap();
    assert_eq!(read(&mut stream), Poll::Pending);
    (stream, meter, peer)
}

/// Polls a read once; the runtime looks at no socket in between.
fn read(stream: &mut MeteredStream) -> Read {
    let mut bytes = [0; 64];
    let mut buffer = ReadBuf::new(&mut bytes);
    let mut cx = Context::from_waker(Waker::noop());
    let read = Pin::new(stream).poll_read(&mut cx, &mut buffer);
    read.map(|read| read.map(|()| buffer.filled().len()).map_err(|error| error.kind()))
}

/// Returns the result of a doubted read once the peer's end has crossed the loopback.
fn read_to_end(stream: &mut MeteredStream) -> Read {
    let begun = Instant::now();
    loop {
        let found = read(stream);
        if found.is_ready() || begun.elapsed() > WATCHDOG {
            return found;
        }
    }
}

async fn an_unnoticed_end_is_found(end: impl FnOnce(Peer) -> Option<Peer>, found: Read) {
    let (mut stream, meter, peer) = connected().await;
    let _open = end(peer);
    assert_eq!(read(&mut stream), Poll::Pending, "it was noticed: this test shows nothing");
    meter.look_at_socket();
    assert_eq!(read_to_end(&mut stream), found);
    assert!(meter.peer_end().is_some());
}

#[tokio::test]
async fn a_polite_end_is_found() {
    let polite = |mut peer: Peer| {
        peer.conn.send_close_notify();
        peer.flush().unwrap();
        peer.sock.shutdown(Shutdown::Write).unwrap();
        Some(peer)
    };
    an_unnoticed_end_is_found(polite, Poll::Ready(Ok(0))).await;
}

#[tokio::test]
async fn an_end_without_close_notify_is_found() {
    let truncate = |peer: Peer| {
        peer.sock.shutdown(Shutdown::Write).unwrap();
        Some(peer)
    };
    an_unnoticed_end_is_found(truncate, Poll::Ready(Err(ErrorKind::UnexpectedEof))).await;
}

#[tokio::test]
async fn a_reset_is_found() {
    let reset = |peer: Peer| {
        SockRef::from(&peer.sock).set_linger(Some(Duration::ZERO)).unwrap();
        None
    };
    an_unnoticed_end_is_found(reset, Poll::Ready(Err(ErrorKind::ConnectionReset))).await;
}

#[tokio::test]
async fn bytes_that_do_not_end_a_connection_keep_it_and_are_read_as_ever() {
    let (mut stream, meter, mut peer) = connected().await;
    peer.conn.refresh_traffic_keys().unwrap();
    peer.flush().unwrap();
    meter.look_at_socket();
    assert_eq!(read(&mut stream), Poll::Pending);
    peer.write_all(b"answer").unwrap();
    assert_eq!(read_to_end(&mut stream), Poll::Ready(Ok(6)));
    assert_eq!(meter.peer_end(), None);
}

#[tokio::test]
async fn bytes_that_did_not_fit_into_one_read_come_with_the_next() {
    let (mut stream, meter, mut peer) = connected().await;
    peer.write_all(&[b'x'; 100]).unwrap();
    meter.look_at_socket();
    assert_eq!(read_to_end(&mut stream), Poll::Ready(Ok(64)));
    stream.write_all(b"request").await.unwrap();
    assert_eq!(read(&mut stream), Poll::Ready(Ok(36)));
}

#[tokio::test]
async fn after_a_write_the_socket_is_not_looked_at_again() {
    let (mut stream, meter, peer) = connected().await;
    meter.look_at_socket();
    stream.write_all(b"request").await.unwrap();
    peer.sock.shutdown(Shutdown::Write).unwrap();
    // Written at once, without a wait: tokio has not looked at the sockets meanwhile.
    assert_eq!(read(&mut stream), Poll::Pending);
}

#[tokio::test]
async fn fault_06_bytes_that_a_peer_sent_before_it_reset_are_read_although_writing_fails() {
    let (mut stream, meter, mut peer) = connected().await;
    peer.sock.set_nodelay(true).unwrap();
    peer.write_all(b"its answer").unwrap();
    peer.flush().unwrap();
    SockRef::from(&peer.sock).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    let begun = Instant::now();
    while meter.peer_end().is_none() && begun.elapsed() < WATCHDOG {
        stream.write_all(b"more of the request").await.expect("it is taken, and thrown away");
        stream.flush().await.expect("nothing is left to flush");
    }
    assert!(meter.peer_end().is_some(), "no write has met the reset");
    let mut came = Vec::new();
    let end = stream.read_to_end(&mut came).await;
    assert_eq!(came, b"its answer", "{end:?}");
}

#[tokio::test]
async fn fault_08_the_bytes_of_the_handshake_do_not_count_as_acknowledged_bytes_of_the_first_exchange()
 {
    let (mut stream, meter, _peer) = connected().await;
    meter.begin_exchange();
    meter.limit_unacknowledged(Duration::from_secs(5), Window::MayFill);
    stream.write_all(&[b'x'; 100]).await.unwrap();
    stream.flush().await.unwrap();
    // A record of TLS 1.3 adds a header of 5 bytes, a type of 1 and a tag of 16.
    let record = 100 + 5 + 1 + 16;
    assert!(
        !meter.relax_unacknowledged_limit(Instant::now(), || Some(record)),
        "nothing is acknowledged"
    );
    assert!(meter.relax_unacknowledged_limit(Instant::now(), || Some(record - 1)));
}
