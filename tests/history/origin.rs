//! An origin that draws its faults at random and writes down each delivery.

use std::{
    iter::once,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::Method;

use crate::{
    content,
    faults::{Fault, Faults},
    history::{self, Delivery, Fate, ID_FIELD},
    support::{
        authority::{Authority, Identity, certificates_pem},
        message::Head,
        origin::{Connection, IdleEnd, Origin},
    },
};

/// The number of client certificates that an upstream rotates through.
const IDENTITIES: usize = 4;
/// The number of certificates that an origin has from the authority, and again that it has self-signed.
const SHOWN: usize = 2;

/// The length in bytes up to which an answer fits any receive window, so that it has arrived once it is written.
const SURELY_ARRIVED: usize = 16 * 1024;

/// A running origin, the certificates that it shows, and the client certificates that the proxy shows to it.
pub struct Upstream {
    /// The upstream's name, which is the server name in the origin's certificates.
    pub name: &'static str,
    /// The client certificates for this upstream; the first is in force at the start. Every other origin would accept
    /// them as well, so that a mix-up is seen, not refused.
    pub identities: Vec<Identity>,
    /// The origin's own certificates; the first is shown at the start.
    shows: Vec<Identity>,
    /// The number of changes so far; modulo the length of `shows`, the index of the certificate that is shown.
    turn: AtomicUsize,
    /// The origin, which records every connection.
    pub origin: Origin,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

/// The state that all connections of one origin share.
struct Server {
    upstream: usize,
    faults: Faults,
    seed: u64,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl Upstream {
    /// Starts the origin of the upstream with this number.
    pub fn start(upstream: usize, name: &'static str, faults: Faults, seed: u64) -> Self {
        let deliveries = Arc::new(Mutex::new(Vec::new()));
        let seed = seed.wrapping_mul(31).wrapping_add(upstream as u64);
        let server = Server { upstream, faults, seed, deliveries: Arc::clone(&deliveries) };
        let server = Arc::new(server);
        let script = move |connection| {
            let server = Arc::clone(&server);
            async move { server.serve(connection).await }
        };
        let authority = Authority::shared();
        let issued = (0..SHOWN).map(|_| authority.server(&[name]));
        let shows = issued.chain((0..SHOWN).map(|_| Identity::self_signed(&[name], false)));
        let shows: Vec<_> = shows.collect();
        let origin = Origin::scripted(script).start();
        origin.show(&shows[0]);
        let identity = |number| authority.client(&format!("for {name}, number {number}"));
        let identities = (0..IDENTITIES).map(identity).collect();
        Self { name, identities, shows, turn: AtomicUsize::new(0), origin, deliveries }
    }

    /// Returns the trust anchors for this upstream, in PEM: the authority and the origin's self-signed certificates.
    pub fn trust_pem(&self) -> String {
        let own = self.shows[SHOWN..].iter().map(|identity| identity.leaf().clone());
        let all: Vec<_> = once(Authority::shared().certificate().clone()).chain(own).collect();
        certificates_pem(&all)
    }

    /// Returns the certificate that the origin shows now, in DER.
    pub fn shown(&self) -> &[u8] {
        self.shows[self.turn.load(SeqCst) % self.shows.len()].leaf()
    }

    /// Has the origin show its next certificate.
    pub fn show_next(&self) {
        let turn = self.turn.fetch_add(1, SeqCst) + 1;
        self.origin.show(&self.shows[turn % self.shows.len()]);
    }

    /// Waits until every connection has ended, then returns the deliveries and the connections.
    pub fn finish(&self) -> (Vec<Delivery>, Vec<history::Connection>) {
        self.origin.wait_for("the end of every connection", |record| record.open == 0);
        let deliveries = std::mem::take(&mut *lock(&self.deliveries));
        let connections = self.origin.read(|record| {
            let seen = record.connections.iter().map(|seen| history::Connection {
                accepted: seen.accepted,
                ended: seen.ended,
                client: seen.handshake.as_ref().and_then(|tls| tls.client_certificate.clone()),
                server_name: seen.handshake.as_ref().and_then(|tls| tls.server_name.clone()),
            });
            seen.collect()
        });
        (deliveries, connections)
    }
}

impl Server {
    async fn serve(&self, mut connection: Connection) {
        let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(connection.number() as u64);
        let mut random = content::random(seed, "faults");
        while let Some(head) = connection.head().await {
            let delivery = self.arrived(&head, connection.number());
            let mut body = Vec::new();
            let read = connection.body(&head, &mut |bytes| body.extend_from_slice(bytes)).await;
            if read.is_err() {
                return;
            }
            self.note(delivery, |seen| seen.body = Some(content::hash(&body)));
            match self.faults.draw(&mut random) {
                fault @ (Fault::None | Fault::Dribble) => {
                    if !self.answer(&mut connection, delivery, fault).await {
                        return;
                    }
                }
                fault => return self.reset(connection, delivery, fault).await,
            }
            if let Some((limit, how)) = self.faults.draw_idle(&mut random)
                && connection.idles(limit).await
            {
                return connection.end_idle(self.harmless(how, delivery)).await;
            }
        }
        connection.close().await;
    }

    /// Writes the whole response; returns false if the peer has gone.
    async fn answer(&self, connection: &mut Connection, delivery: usize, fault: Fault) -> bool {
        let bytes = self.answer_to(delivery);
        let piece = if fault == Fault::Dribble { bytes.len() / 8 + 1 } else { bytes.len() };
        for piece in bytes.chunks(piece) {
            if fault == Fault::Dribble {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if !connection.write(piece).await {
                return false;
            }
        }
        self.note(delivery, |seen| seen.fate = Fate::Answered);
        true
    }

    /// Replaces RST by FIN after a long answer: RST discards the bytes that the proxy's receive window had no room for,
    /// which would break the answer instead of ending an idle connection.
    fn harmless(&self, how: IdleEnd, delivery: usize) -> IdleEnd {
        let long = self.answer_to(delivery).len() > SURELY_ARRIVED;
        if how == IdleEnd::Reset && long { IdleEnd::Truncated } else { how }
    }

    async fn reset(&self, mut connection: Connection, delivery: usize, fault: Fault) {
        let bytes = self.answer_to(delivery);
        let (fate, written) = match fault {
            Fault::InHeader => (Fate::ResetInHeader, 14),
            Fault::InBody => (Fate::ResetInBody, bytes.len() - 1),
            _ => (Fate::ResetBeforeHeader, 0),
        };
        self.note(delivery, |seen| seen.fate = fate);
        connection.write(&bytes[..written]).await;
        connection.reset();
    }

    fn arrived(&self, head: &Head, connection: usize) -> usize {
        let method = head.start.split(' ').next().unwrap_or_default();
        let id = head.field(ID_FIELD).and_then(|id| id.parse().ok());
        let delivery = Delivery {
            id: id.expect("a request without an id"),
            upstream: self.upstream,
            connection,
            method: Method::from_bytes(method.as_bytes()).expect("a method"),
            host: head.field("host").unwrap_or_default().to_owned(),
            body: None,
            fate: Fate::Unfinished,
        };
        let mut deliveries = lock(&self.deliveries);
        deliveries.push(delivery);
        deliveries.len() - 1
    }

    fn note(&self, delivery: usize, change: impl FnOnce(&mut Delivery)) {
        change(&mut lock(&self.deliveries)[delivery]);
    }

    /// Returns the bytes of the whole response to this delivery.
    fn answer_to(&self, delivery: usize) -> Vec<u8> {
        let id = lock(&self.deliveries)[delivery].id;
        let content::Answer { content, chunked } = content::answer(id);
        if !chunked {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", content.len());
            return [head.as_bytes(), &content].concat();
        }
        let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in content.chunks(3_000) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}

fn lock(deliveries: &Mutex<Vec<Delivery>>) -> std::sync::MutexGuard<'_, Vec<Delivery>> {
    deliveries.lock().unwrap_or_else(PoisonError::into_inner)
}
