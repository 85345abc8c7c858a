//! TLS towards upstreams: verified always, resumed where the peer lets us, counted.
//!
//! [`Settings`] hold everything about TLS that makes two connections exchangeable. One [`Client`] is made of them and
//! lives as long as they do: a session resumes only under the verifier and certificate that it was made with.

pub mod identity;
mod key;
pub mod key_log;
pub mod pem;
mod session;
pub mod trust;
mod verify;
mod x509;

use std::{fmt::Write as _, net::IpAddr, sync::Arc};

use rustls::{
    ClientConfig, HandshakeKind, KeyLog, ProtocolVersion, SupportedProtocolVersion,
    client::{ResolvesClientCert, Resumption},
    crypto::{CryptoProvider, aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256},
    pki_types::{CertificateDer, DnsName, ServerName},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use crate::label;
pub use identity::Identity;
use session::{Offer, Sessions};
pub use trust::Trust;
pub use verify::{Verifier, VerifyFailure, date};

/// Everything about TLS that makes two connections exchangeable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name sent as SNI; `None` sends none.
    pub server_name: Option<DnsName<'static>>,
    /// The name (or IP address) that the certificate must carry. There is always one.
    pub verify_name: ServerName<'static>,
    /// Which certificates are believed.
    pub trust: Arc<Trust>,
    /// Our certificate and key; `None` is one-way TLS.
    pub identity: Option<Arc<Identity>>,
    /// The lowest version that is spoken.
    pub min_version: MinVersion,
}

/// The lowest TLS version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

impl MinVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        const NEWEST: &[&SupportedProtocolVersion] = &[&TLS13];
        match self {
            Self::Tls12 => BOTH,
            Self::Tls13 => NEWEST,
        }
    }
}

label! {
    /// How a handshake went.
    pub enum Handshake {
        /// No session was offered, a full one was made.
        Full = "full",
        /// An earlier session went on.
        Resumed = "resumed",
        /// A session was offered, and the peer made a full handshake nevertheless.
        Refused = "refused",
        /// There is no connection.
        Failed = "failed",
    }
}

label! {
    /// The version that was agreed.
    pub enum Version {
        /// TLS 1.2.
        Tls12 = "1.2",
        /// TLS 1.3.
        Tls13 = "1.3",
        /// None was agreed.
        None = "none",
    }
}

impl Version {
    /// The version of a connection, or of one that failed half-way.
    pub fn of(connection: &rustls::ClientConnection) -> Self {
        match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Self::Tls12,
            Some(ProtocolVersion::TLSv1_3) => Self::Tls13,
            _ => Self::None,
        }
    }
}

/// One key's TLS: its configuration and its sessions, which clones share.
#[derive(Clone)]
pub struct Client {
    template: ClientConfig,
    /// What the connection is made with: the SNI, or where none is sent, the name to verify.
    name: ServerName<'static>,
    trust: Arc<Trust>,
    sessions: Arc<Sessions>,
}

impl Client {
    /// Prepares handshakes under these settings, for up to so many connections at once.
    pub fn new(
        settings: &Settings,
        connections: usize,
        key_log: Option<Arc<dyn KeyLog>>,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut template = configuration(settings, provider)?;
        template.enable_sni = settings.server_name.is_some();
        if let Some(key_log) = key_log {
            template.key_log = key_log;
        }
        let name = settings
            .server_name
            .clone()
            .map_or_else(|| settings.verify_name.clone(), ServerName::DnsName);
        let sessions = Arc::new(Sessions::new(connections));
        Ok(Self { template, name, trust: Arc::clone(&settings.trust), sessions })
    }

    /// Which certificates are believed.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// From now on there are up to so many connections at once: a burst of dials wants a session for each.
    pub fn resize(&self, connections: usize) {
        self.sessions.resize(connections);
    }

    /// Prepares one handshake with this address.
    pub fn prepare(&self, address: IpAddr) -> Preparation {
        let offer = Arc::new(Offer::new(Arc::clone(&self.sessions), address));
        let mut config = self.template.clone();
        config.resumption = Resumption::store(Arc::clone(&offer) as _);
        Preparation { config: Arc::new(config), name: self.name.clone(), offer }
    }
}

/// A judge of chains that servers show.
pub fn verifier(trust: &Arc<Trust>, name: &ServerName<'static>) -> Result<Verifier, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Verifier::new(Arc::clone(trust), name.clone(), provider)
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    // Through a suite of rustls: it needs no crate of our own.
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("the suite's name says TLS 1.3");
    suite.common.hash_provider.hash(bytes).as_ref().into()
}

/// A certificate's SHA-256 fingerprint, in hexadecimal, as `openssl x509 -fingerprint -sha256` has it but for colons.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    sha256(certificate).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn configuration(
    settings: &Settings,
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, rustls::Error> {
    let verifier = Verifier::new(
        Arc::clone(&settings.trust),
        settings.verify_name.clone(),
        Arc::clone(&provider),
    )?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(settings.min_version.versions())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match &settings.identity {
        Some(identity) => builder
            .with_client_cert_resolver(Arc::new(Always(Arc::clone(identity.certified_key())))),
        None => builder.with_no_client_auth(),
    })
}

/// Presents one identity to whoever asks.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// What one handshake needs.
pub struct Preparation {
    /// For this handshake alone; it shares verifier, identity and sessions with its siblings.
    pub config: Arc<ClientConfig>,
    /// The name to connect with.
    pub name: ServerName<'static>,
    offer: Arc<Offer>,
}

impl Preparation {
    /// How the finished handshake of a connection went.
    pub fn outcome(&self, connection: &rustls::ClientConnection) -> Handshake {
        match connection.handshake_kind() {
            Some(HandshakeKind::Resumed) => Handshake::Resumed,
            Some(_) if self.offer.made() => Handshake::Refused,
            Some(_) => Handshake::Full,
            None => Handshake::Failed,
        }
    }
}
