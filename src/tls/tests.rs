//! Handshakes in memory: the sessions of a server that are stored, and their bounds.
#![allow(clippy::unwrap_used)] // a failed test is what it is for

use std::{sync::Arc, time::Instant};

use rustls::{
    ClientConnection, ServerConfig, ServerConnection,
    crypto::aws_lc_rs::{Ticketer, default_provider},
    pki_types::PrivateKeyDer,
    server::ProducesTickets,
};

use super::*;

/// The bytes of each ticket that the server gives.
const TICKET: usize = 10_000;

/// A producer of tickets that are as long as the test needs.
#[derive(Debug)]
struct Long(Arc<dyn ProducesTickets>);

impl ProducesTickets for Long {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let ticket = self.0.encrypt(plain)?;
        let length = u16::try_from(ticket.len()).ok()?.to_be_bytes();
        let mut long = [&length[..], &ticket].concat();
        long.resize(TICKET, 0);
        Some(long)
    }

    fn decrypt(&self, long: &[u8]) -> Option<Vec<u8>> {
        let (length, rest) = long.split_at_checked(2)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        self.0.decrypt(rest.get(..length)?)
    }
}

/// A server and a client that trusts it; the server's certificate ends with the year 2090.
struct Scene {
    client: Connector,
    server: Arc<ServerConfig>,
    certificate: usize,
}

impl Scene {
    fn new(resumption: bool) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["a.example".into()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2091, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        let name = "a.example";
        let trust = Arc::new(Trust::from_pem(certificate.pem().as_bytes()).unwrap());
        let settings = Settings {
            policy: Policy { resumption, ..Policy::default() },
            ..Settings::new(Some(name.try_into().unwrap()), name.try_into().unwrap(), trust, None)
        };
        let mut server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        server.ticketer = Arc::new(Long(Ticketer::new().unwrap()));
        let client = Connector::new(&settings, 8, None).unwrap();
        Self { client, server: Arc::new(server), certificate: certificate.der().len() }
    }

    fn address() -> IpAddr {
        IpAddr::from([192, 0, 2, 1])
    }

    /// Makes a handshake, and reads everything that the server sends behind it: before the client looks at the outcome,
    /// or after.
    fn connect(&self, tickets_come_first: bool) -> Handshake {
        let preparation = self.client.prepare(Self::address(), Instant::now());
        let mut client =
            ClientConnection::new(Arc::clone(&preparation.config), preparation.name.clone())
                .unwrap();
        let mut server = ServerConnection::new(Arc::clone(&self.server)).unwrap();
        let mut outcome = None;
        while client.wants_write() || server.wants_write() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            if !client.is_handshaking() && !tickets_come_first {
                outcome = Some(preparation.succeeded(&client, Instant::now()).0);
            }
            feed(&bytes, |bytes| {
                server.read_tls(bytes).unwrap();
                server.process_new_packets().unwrap();
            });
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            preparation.inflow().came(bytes.len());
            feed(&bytes, |bytes| {
                client.read_tls(bytes).unwrap();
                client.process_new_packets().unwrap();
            });
        }
        outcome.unwrap_or_else(|| preparation.succeeded(&client, Instant::now()).0)
    }
}

fn feed(bytes: &[u8], mut read: impl FnMut(&mut &[u8])) {
    let mut left = bytes;
    while !left.is_empty() {
        read(&mut left);
    }
}

#[test]
fn fault_38_a_stored_session_counts_with_its_ticket_and_the_servers_certificates() {
    for tickets_come_first in [true, false] {
        let scene = Scene::new(true);
        assert_eq!(scene.connect(tickets_come_first), Handshake::Full);
        let stored = scene.client.sessions.stored(Scene::address());
        assert_eq!(stored.len(), 2);
        let bytes: usize = stored.iter().map(|(_, bytes)| bytes).sum();
        let least = 2 * (TICKET + scene.certificate);
        assert!((least..least + 6_000).contains(&bytes), "{bytes} of {least}");
    }
}

#[test]
fn fault_02_the_end_of_a_chain_goes_from_each_connection_to_its_sessions() {
    let end = rcgen::date_time_ymd(2091, 1, 1).unix_timestamp();
    for tickets_come_first in [true, false] {
        let scene = Scene::new(true);
        for handshake in [Handshake::Full, Handshake::Resumed, Handshake::Resumed] {
            assert_eq!(scene.connect(tickets_come_first), handshake);
            for (until, _) in scene.client.sessions.stored(Scene::address()) {
                assert_eq!(i64::try_from(until.as_secs()).unwrap(), end);
            }
        }
    }
}

#[test]
fn fault_02_without_resumption_nothing_is_stored() {
    let scene = Scene::new(false);
    for _ in 0..2 {
        assert_eq!(scene.connect(false), Handshake::Full);
        assert_eq!(scene.client.sessions.stored(Scene::address()), []);
    }
}

#[test]
fn fault_12_lessons_about_an_address_outlive_a_replaced_certificate_and_its_sessions_do_not() {
    let (old, new) = (Scene::new(true), Scene::new(true));
    old.connect(true);
    let now = Instant::now();
    for _ in 0..2 {
        old.client.session_ended(Scene::address(), now);
    }
    old.connect(true);
    new.client.learn_from(&old.client);
    assert_eq!(new.client.sessions.stored(Scene::address()), []);
    assert_eq!(new.connect(true), Handshake::Full);
    assert_eq!(new.connect(true), Handshake::Full, "no session is offered to this address");
}
