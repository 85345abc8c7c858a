//! A TLS server whose bytes a script controls: it can send what a server in good faith never would.

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
};

use rustls::{
    ServerConfig, ServerConnection,
    version::{TLS12, TLS13},
};

use crate::support::{
    authority::Authority,
    origin::{Connection, NAME},
};

/// Returns a configuration with a good certificate and every TLS version, without client certificates; `change` may
/// alter it.
pub fn config(change: impl FnOnce(&mut ServerConfig)) -> Arc<ServerConfig> {
    let identity = Authority::shared().server(&[NAME]);
    let key = identity.private_key();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap();
    let mut config =
        builder.with_no_client_auth().with_single_cert(identity.chain.clone(), key).unwrap();
    change(&mut config);
    Arc::new(config)
}

/// A TLS session over a script's plain connection, both in the script's control.
pub struct Tls {
    pub peer: Connection,
    pub session: ServerConnection,
    /// Decrypted bytes that no request has taken yet.
    plain: Vec<u8>,
}

impl Tls {
    /// Makes a session on this connection; nothing is read or sent yet.
    pub fn new(peer: Connection, config: &Arc<ServerConfig>) -> Self {
        let mut session = ServerConnection::new(Arc::clone(config)).unwrap();
        session.set_buffer_limit(None);
        Self { peer, session, plain: Vec::new() }
    }

    /// Reads and decrypts once; returns false at the peer's end or after an error.
    pub async fn read(&mut self) -> bool {
        if self.peer.fill().await.is_err() {
            return false;
        }
        let bytes = self.peer.take();
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            self.session.read_tls(&mut bytes).unwrap();
            if self.session.process_new_packets().is_err() {
                return false;
            }
            // An error here says that there are no more bytes for now.
            let _ = self.session.reader().read_to_end(&mut self.plain);
        }
        true
    }

    /// Sends all pending records; returns false if the peer has gone.
    pub async fn send(&mut self) -> bool {
        let mut bytes = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut bytes).unwrap();
        }
        self.peer.write(bytes).await
    }

    /// Makes the handshake; returns false if it failed.
    pub async fn handshake(&mut self) -> bool {
        while self.session.is_handshaking() {
            if !self.read().await || !self.send().await {
                return false;
            }
        }
        true
    }

    /// Reads a request's head and drops it; returns false if the connection ended before.
    pub async fn request(&mut self) -> bool {
        while !self.plain.ends_with(b"\r\n\r\n") {
            if !self.read().await || !self.send().await {
                return false;
            }
        }
        self.plain.clear();
        true
    }

    /// Sends this text; returns false if the peer has gone.
    pub async fn answer(&mut self, text: &str) -> bool {
        self.session.writer().write_all(text.as_bytes()).unwrap();
        self.send().await
    }

    /// Reads to the peer's end.
    pub async fn read_all(mut self) {
        while self.read().await {}
    }
}
