//! Tests of the support itself, with plain rustls clients and without Warmline.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use crate::support::{
    authority::{self, Authority, Identity},
    client::{Client, Ending},
    key_format::KeyFormat,
    names::Names,
    origin::{self, End, Gate, Handshakes, Origin, Resumption},
    pattern,
};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A plain rustls client that remembers its sessions.
struct Peer(Arc<ClientConfig>);

impl Peer {
    fn with(identity: &Identity) -> Self {
        Self::with_key(identity, identity.private_key())
    }

    fn with_key(identity: &Identity, key: PrivateKeyDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(Authority::shared().certificate().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(identity.chain.clone(), key)
            .unwrap();
        Self(Arc::new(config))
    }

    fn connect(&self, origin: &Origin) -> Stream {
        let name = ServerName::try_from(origin::NAME).unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.0), name).unwrap();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, origin.port())).unwrap();
        StreamOwned::new(connection, stream)
    }

    fn get(&self, origin: &Origin) -> Stream {
        let mut stream = self.connect(origin);
        exchange(&mut stream, "/any");
        stream
    }
}

fn exchange(stream: &mut Stream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: api.test\r\nx-id: {path}\r\n\r\n").unwrap();
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

fn close_politely(mut stream: Stream) {
    stream.conn.send_close_notify();
    stream.flush().unwrap();
}

#[test]
fn the_origin_counts_connections_requests_and_ids() {
    let origin = Origin::serving().start();
    let peer = Peer::with(&Authority::shared().client("peer"));
    let (mut first, second) = (peer.get(&origin), peer.get(&origin));
    exchange(&mut first, "/other");
    drop((first, second));
    origin.wait_for("both ends", |record| record.open == 0);
    let record = origin.record();
    assert_eq!((record.connections.len(), record.most_open, record.request_count), (2, 2, 3));
    let carried: Vec<_> = record.requests.iter().map(|request| request.connection).collect();
    assert_eq!(carried, [0, 1, 0]);
    assert_eq!(record.duplicates(), ["/any"]);
}

#[test]
fn the_origin_says_from_when_to_when_each_connection_was_open() {
    let origin = Origin::serving().start();
    let peer = Peer::with(&Authority::shared().client("peer"));
    let (first, second) = (peer.get(&origin), peer.get(&origin));
    drop(first);
    origin.wait_for("the first end", |record| record.open == 1);
    let third = peer.get(&origin);
    drop((second, third));
    origin.wait_for("all ends", |record| record.open == 0);
    let open = |number: usize| {
        let connection = &origin.record().connections[number];
        (connection.accepted, connection.ended.unwrap())
    };
    assert!(open(0).0 <= open(1).0 && open(1).0 <= open(0).1, "the first two overlap");
    assert!(open(0).1 <= open(2).0 && open(2).0 <= open(1).1, "the third follows the first");
}

#[test]
fn the_origin_tells_a_polite_close_from_a_truncated_one_and_a_reset() {
    let origin = Origin::serving().start();
    let peer = Peer::with(&Authority::shared().client("peer"));
    close_politely(peer.get(&origin));
    origin.wait_for("the first end", |record| record.connections[0].end.is_some());
    // FIN alone; dropping the socket with unread bytes would send a reset.
    let truncated = peer.get(&origin);
    truncated.sock.shutdown(std::net::Shutdown::Write).unwrap();
    origin.wait_for("the second end", |record| record.connections[1].end.is_some());
    let reset = peer.get(&origin);
    socket2::SockRef::from(&reset.sock).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(reset);
    origin.wait_for("all ends", |record| record.open == 0);
    let ends = [Some(End::Polite), Some(End::Truncated), Some(End::Reset)];
    assert_eq!(origin.record().ends(), ends);
}

#[test]
fn the_origin_counts_bytes_that_follow_a_close_notify() {
    let origin = Origin::serving().start();
    let peer = Peer::with(&Authority::shared().client("peer"));
    let mut stream = peer.get(&origin);
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    origin.wait_for("the close", |record| record.connections[0].end.is_some());
    stream.sock.write_all(b"stray").unwrap();
    drop(stream);
    origin.wait_for("the bytes", |record| record.connections[0].bytes_after_close == 5);
}

fn handshakes_of_three(origin: &Origin) -> Handshakes {
    let peer = Peer::with(&Authority::shared().client("peer"));
    for _ in 0..3 {
        close_politely(peer.get(origin));
    }
    origin.record().handshakes()
}

#[test]
fn the_origin_tells_resumed_handshakes_from_full_ones_in_both_versions() {
    for resumption in [Resumption::Sessions, Resumption::Tickets] {
        let expected = Handshakes { full: 1, resumed: 2 };
        let tls13 = Origin::serving().resumption(resumption).start();
        assert_eq!(handshakes_of_three(&tls13), expected, "TLS 1.3 {resumption:?}");
        let tls12 = Origin::serving().tls12().resumption(resumption).start();
        assert_eq!(handshakes_of_three(&tls12), expected, "TLS 1.2 {resumption:?}");
    }
    let never = Origin::serving().resumption(Resumption::None).start();
    assert_eq!(handshakes_of_three(&never), Handshakes { full: 3, resumed: 0 });
}

#[test]
fn the_origin_can_forget_its_sessions() {
    let origin = Origin::serving().tls12().start();
    let peer = Peer::with(&Authority::shared().client("peer"));
    for _ in 0..2 {
        close_politely(peer.get(&origin));
        origin.forget_sessions();
    }
    assert_eq!(origin.record().handshakes(), Handshakes { full: 2, resumed: 0 });
}

#[test]
fn the_origin_sees_the_name_and_the_client_certificate() {
    let origin = Origin::serving().start();
    let identity = Authority::shared().client("peer");
    drop(Peer::with(&identity).get(&origin));
    let record = origin.record();
    let handshake = record.connections[0].handshake.as_ref().unwrap();
    assert_eq!(handshake.server_name.as_deref(), Some(origin::NAME));
    assert_eq!(handshake.client_certificate.as_deref(), Some(identity.leaf().as_ref()));
}

#[test]
fn a_client_certificate_of_another_authority_fails_the_handshake() {
    let origin = Origin::serving().start();
    let mut stream = Peer::with(&Authority::new("foreign").client("peer")).connect(&origin);
    let refused = stream.write_all(b"GET").and_then(|()| stream.read(&mut [0; 10]));
    assert!(refused.unwrap_err().to_string().contains("UnknownCA"));
    origin.wait_for("the refusal", |record| record.connections[0].handshake_error.is_some());
    // The end is recorded before the socket is closed.
    origin.wait_for("no connection is open", |record| record.open == 0);
}

#[test]
fn the_origin_listens_on_four_addresses_with_one_port() {
    let addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];
    let origin = Origin::serving().addresses(&addresses).start();
    for address in addresses {
        TcpStream::connect((address, origin.port())).unwrap();
    }
    origin.wait_for("four connections", |record| record.connections.len() == 4);
    let mut seen: Vec<_> =
        origin.record().connections.iter().map(|c| c.local.ip().to_string()).collect();
    seen.sort();
    assert_eq!(seen, addresses);
}

#[test]
fn a_script_has_the_whole_connection_to_itself() {
    let origin = Origin::scripted(|mut peer| async move {
        assert_eq!(peer.request().await.expect("a request"), b"ping");
        peer.write("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n").await;
        peer.write("content-length: 9\r\n\r\nhalf").await;
        peer.reset();
    })
    .plain()
    .start();
    let mut client = Client::connect((Ipv4Addr::LOCALHOST, origin.port()).into());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nping");
    let broken = client.response_to("POST").unwrap_err();
    assert_eq!(broken.end, Ending::Reset);
    assert_eq!((broken.partial.status, broken.partial.interim.len()), (200, 1));
}

#[test]
fn a_client_sees_silence_and_may_end_its_side_first() {
    let (asked, answered) = (Gate::new(), Gate::new());
    let (hear, tell) = (asked.clone(), answered.clone());
    let origin = Origin::scripted(move |mut peer| {
        let (hear, tell) = (hear.clone(), tell.clone());
        async move {
            peer.head().await;
            hear.open();
            tell.opened().await;
            let (end, _) = peer.ended().await;
            assert_eq!(end, End::Polite);
            peer.answer("after").await;
        }
    })
    .plain()
    .start();
    let mut client = Client::connect((Ipv4Addr::LOCALHOST, origin.port()).into());
    client.send("GET / HTTP/1.1\r\n\r\n");
    asked.wait();
    client.assert_silent();
    client.half_close();
    answered.open();
    assert_eq!(client.response().text(), "after");
}

#[test]
#[should_panic(expected = "the script of connection 0 panicked")]
fn a_script_that_panics_fails_its_test() {
    let origin = Origin::scripted(|_peer| async { panic!("on purpose") }).plain().start();
    Client::connect((Ipv4Addr::LOCALHOST, origin.port()).into()).end();
}

#[test]
fn the_service_frames_its_answers_in_every_way() {
    let origin = Origin::serving().plain().start();
    let mut client = Client::connect((Ipv4Addr::LOCALHOST, origin.port()).into());
    let big = 300_000;
    assert_eq!(client.get("a", "/bytes/300000").body, pattern::bytes(big));
    assert_eq!(client.get("a", "/chunked/300000").body, pattern::bytes(big));
    assert_eq!(
        client.request("HEAD", "a", "/bytes/300000").head.field("content-length"),
        Some("300000")
    );
    assert_eq!(client.get("a", "/trailers").trailers, [("x-sum".into(), "7".into())]);
    assert_eq!(client.get("a", "/status/204").status, 204);
    assert_eq!(client.post("a", "/echo", "some").text(), "some");
    assert_eq!(client.post("a", "/count", pattern::bytes(big)).text(), "300000 right");
    assert_eq!(client.post("a", "/count", "no pattern").text(), "10 wrong");
    origin.release();
    assert_eq!(client.get("a", "/hold").text(), "held\n");
    assert_eq!(client.get("a", "/close").text(), "closing\n");
    assert_eq!(client.end(), (Ending::Fin, Vec::new()));
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn the_service_echoes_chunks_and_trailers() {
    let origin = Origin::serving().plain().start();
    let mut client = Client::connect((Ipv4Addr::LOCALHOST, origin.port()).into());
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("4\r\nsome\r\n1\r\n!\r\n0\r\nx-t: 1\r\n\r\n");
    let response = client.response();
    assert_eq!((response.text().as_str(), response.head.field("trailer")), ("some!", Some("x-t")));
    assert_eq!(response.trailers, [("x-t".into(), "1".into())]);
}

#[test]
fn keys_are_written_in_all_three_forms() {
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let rsa = Authority::shared().client_for("rsa", rsa);
    let ec = Authority::shared().client("ec");
    let origin = Origin::serving().start();
    for (identity, format, label) in [
        (&rsa, KeyFormat::Pkcs8, "-----BEGIN PRIVATE KEY-----"),
        (&rsa, KeyFormat::Pkcs1, "-----BEGIN RSA PRIVATE KEY-----"),
        (&ec, KeyFormat::Pkcs8, "-----BEGIN PRIVATE KEY-----"),
        (&ec, KeyFormat::Sec1, "-----BEGIN EC PRIVATE KEY-----"),
    ] {
        let pem = identity.key_pem(format);
        assert!(pem.starts_with(label), "{pem}");
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        drop(Peer::with_key(identity, key).get(&origin));
    }
}

#[test]
fn a_sec1_key_names_its_curve() {
    let folder = tempfile::tempdir().unwrap();
    let files = Authority::shared().client("ec").write_as(folder.path(), "ec", KeyFormat::Sec1);
    let key = PrivateKeyDer::from_pem_file(files.key).unwrap();
    let p256 = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    assert!(key.secret_der().windows(p256.len()).any(|bytes| bytes == p256));
}

#[test]
fn an_identity_is_written_with_its_whole_chain() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Authority::shared().intermediate("middle").server(&["api.test", "127.0.0.1"]);
    let files = identity.padded_to(200).write(folder.path(), "long");
    let read = CertificateDer::pem_file_iter(files.certificate).unwrap();
    assert_eq!(read.map(Result::unwrap).count(), 200);
}

#[test]
fn odd_certificates_can_be_made() {
    let authority = Authority::shared();
    for params in [
        authority::expired(authority::server_params(&["api.test"])),
        authority::not_yet_valid(authority::client_params("peer")),
        authority::common_name_only("api.test"),
        authority::only_name(authority::dns_name("victim.example\0.evil.example")),
        authority::only_name(authority::dns_name("f*.example")),
        authority::only_name(authority::dns_name("*")),
        authority::only_name(rcgen::SanType::URI("https://api.test/".try_into().unwrap())),
    ] {
        assert_eq!(authority.issue(&params).chain.len(), 1);
    }
}

#[test]
fn names_change_their_answer_at_every_query() {
    let names = Names::default().in_turn("api.test", &[&["127.0.0.1"], &["127.0.0.2"]]);
    let answers: Vec<_> = (0..3).map(|_| names.query("api.test").unwrap()[0].to_string()).collect();
    assert_eq!(answers, ["127.0.0.1", "127.0.0.2", "127.0.0.1"]);
    assert_eq!((names.query("other.test"), names.queries()), (None, 4));
}
