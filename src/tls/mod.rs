//! TLS towards upstreams: always verified, resumed where the server allows, and counted.
//!
//! [`Settings`] hold everything about TLS that makes two connections exchangeable. A [`Connector`] is made of them and
//! lives as long as they do: a session resumes only under the verifier and certificate that it was made with.

pub mod alert;
mod chain_end;
pub mod identity;
mod inflow;
mod key;
pub mod key_log;
mod note;
pub mod pem;
mod refusal;
mod session;
mod term;
mod tolerance;
pub mod trust;
mod verify;
mod words;
mod x509;

use std::{
    fmt::Write as _,
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::Instant,
};

use rustls::{
    ClientConfig, HandshakeKind, KeyLog, ProtocolVersion, SupportedProtocolVersion,
    client::{ResolvesClientCert, Resumption, Tls12Resumption},
    crypto::{CryptoProvider, aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256},
    pki_types::{CertificateDer, DnsName, ServerName, UnixTime},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use crate::label;
pub use identity::Identity;
pub use inflow::{Inflow, Records};
use note::LastCertificateUse;
pub use note::{CertificateUse, Note};
use session::{HandshakeView, Sessions};
pub use term::Term;
use tolerance::KeyShare;
pub use tolerance::{AllowedOffer, AnswerKind, KeyExchange, Lesson, Policy};
pub use trust::Trust;
pub use verify::{Verifier, VerifyFailure};
pub use words::{alert_name, in_words, words};

/// Everything about TLS that makes two connections exchangeable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name sent as SNI; `None` sends none.
    pub server_name: Option<DnsName<'static>>,
    /// The name or IP address that the server's certificate must carry.
    pub verify_name: ServerName<'static>,
    /// The certificates that are trusted.
    pub trust: Arc<Trust>,
    /// Warmline's certificate and key; `None` for one-way TLS.
    pub identity: Option<Arc<Identity>>,
    /// The lowest version that is allowed.
    pub min_version: MinVersion,
    /// The rule for resumption and for the groups of the key exchange.
    pub policy: Policy,
}

impl Settings {
    /// Makes settings of these names, this trust and this identity; all others have their defaults.
    #[must_use]
    pub fn new(
        server_name: Option<DnsName<'static>>,
        verify_name: ServerName<'static>,
        trust: Arc<Trust>,
        identity: Option<Arc<Identity>>,
    ) -> Self {
        Self {
            server_name,
            verify_name,
            trust,
            identity,
            min_version: MinVersion::default(),
            policy: Policy::default(),
        }
    }
}

/// The lowest TLS version that is allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

impl MinVersion {
    /// Returns the TLS versions that are allowed, the newest first, in the form that rustls takes.
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
    /// The kind of a handshake.
    pub enum Handshake {
        /// No session was offered, and a full handshake was made.
        Full = "full" => "no session was offered: none was at hand, or this was the second try",
        /// An earlier session was resumed.
        Resumed = "resumed" => "an earlier session went on",
        /// A session was offered, and the server made a full handshake nevertheless.
        Refused = "refused" => "we offered a session, the upstream did not take it",
        /// The handshake failed.
        Failed = "failed" => "it broke off, perhaps healed by a second try; or, with TLS 1.3, our certificate was refused after it",
    }
}

label! {
    /// The TLS version that was agreed.
    pub enum Version {
        /// TLS 1.2.
        Tls12 = "1.2",
        /// TLS 1.3.
        Tls13 = "1.3",
        /// No version was agreed.
        None = "none",
    }
}

impl Version {
    /// Returns the version of a connection, or of one that failed half-way.
    pub fn of(connection: &rustls::ClientConnection) -> Self {
        match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Self::Tls12,
            Some(ProtocolVersion::TLSv1_3) => Self::Tls13,
            _ => Self::None,
        }
    }
}

/// The means to begin TLS connections under one set of settings: the configuration and its sessions, which clones share.
#[derive(Clone)]
pub struct Connector {
    /// The configuration with every key exchange group, the hybrid ones first.
    hybrid: ClientConfig,
    /// The configuration without the hybrid groups.
    classic: ClientConfig,
    /// The name that rustls connects with: the SNI, or the name to verify if no SNI is sent.
    name: ServerName<'static>,
    trust: Arc<Trust>,
    verifier: Arc<Verifier>,
    sessions: Arc<Sessions>,
    shown: Arc<LastCertificateUse>,
}

impl Connector {
    /// Creates a connector with room for the sessions of this number of connections at once. Fails if rustls refuses a
    /// trusted certificate.
    pub fn new(
        settings: &Settings,
        connections: usize,
        key_log: Option<Arc<dyn KeyLog>>,
    ) -> Result<Self, rustls::Error> {
        let (trust, verify_name) = (Arc::clone(&settings.trust), settings.verify_name.clone());
        let verifier = Arc::new(Verifier::new(trust, verify_name, Arc::clone(&HYBRID))?);
        let shown = Arc::default();
        let resolver = resolver(settings.identity.as_deref(), &shown);
        let shared = Shared { verifier: Arc::clone(&verifier), resolver, key_log };
        let classic = configuration(settings, &CLASSIC, &shared)?;
        let hybrid = configuration(settings, &HYBRID, &shared)?;
        let name = settings
            .server_name
            .clone()
            .map_or_else(|| settings.verify_name.clone(), ServerName::DnsName);
        let sessions = Arc::new(Sessions::new(settings.policy, connections));
        let trust = Arc::clone(&settings.trust);
        Ok(Self { hybrid, classic, name, trust, verifier, sessions, shown })
    }

    /// Returns the certificates that are trusted.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Returns the use of Warmline's certificate in the handshakes so far.
    pub fn shown(&self) -> CertificateUse {
        self.shown.get()
    }

    /// Changes the number of connections for whose sessions there is room: a burst of dials needs a session for each.
    pub fn resize(&self, connections: usize) {
        self.sessions.resize(connections);
    }

    /// Takes over what another client has learned of addresses, but none of its sessions: for certificates that were
    /// replaced. Does nothing if the two have different rules for resumption and key exchange.
    pub fn learn_from(&self, other: &Self) {
        self.sessions.learn_from(&other.sessions);
    }

    /// Prepares one handshake with this address, which offers what the earlier handshakes with that address allow.
    pub fn prepare(&self, address: IpAddr, now: Instant) -> Preparation {
        self.prepare_with(address, self.sessions.first_offer(address, now), now)
    }

    /// Prepares the second try of a handshake that began at `begun` and failed; `allowed` is the offer that the first
    /// try's failure left.
    pub fn prepare_again(
        &self,
        address: IpAddr,
        allowed: AllowedOffer,
        begun: Instant,
    ) -> Preparation {
        self.prepare_with(address, allowed, begun)
    }

    /// Prepares a handshake with this offer: a configuration of its own, whose session store notes what is offered, and
    /// a note for the other facts.
    fn prepare_with(&self, address: IpAddr, allowed: AllowedOffer, begun: Instant) -> Preparation {
        let view =
            Arc::new(HandshakeView::new(Arc::clone(&self.sessions), address, allowed, begun));
        let template = match allowed.key_share {
            KeyShare::Large | KeyShare::Small => &self.hybrid,
            KeyShare::Classic => &self.classic,
        };
        let mut config = template.clone();
        config.resumption = Resumption::store(Arc::clone(&view) as _);
        if !self.sessions.resumes() {
            config.resumption = config.resumption.tls12_resumption(Tls12Resumption::Disabled);
        }
        let (name, verifier) = (self.name.clone(), Arc::clone(&self.verifier));
        Preparation { config: Arc::new(config), name, view, verifier, note: Arc::default() }
    }

    /// Forgets the sessions of an address, as a connection that was resumed ended before anything came over it; the
    /// second time within ten minutes no session is offered there for a while. Returns what was learned, if the log is
    /// to tell it.
    pub fn session_ended(&self, address: IpAddr, now: Instant) -> Option<Lesson> {
        self.sessions.session_ended(address, now)
    }
}

/// Creates a judge of the chains that servers show. Fails if a trusted certificate cannot serve as a root, or if there
/// is none.
pub fn verifier(trust: &Arc<Trust>, name: &ServerName<'static>) -> Result<Verifier, rustls::Error> {
    Verifier::new(Arc::clone(trust), name.clone(), Arc::clone(&HYBRID))
}

/// Returns the SHA-256 hash of these bytes.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    // The hash of one of rustls' suites is used, so that no further crate is needed.
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("the suite's name says TLS 1.3");
    suite.common.hash_provider.hash(bytes).as_ref().into()
}

/// Returns a certificate's SHA-256 fingerprint in hexadecimal, as `openssl x509 -fingerprint -sha256` prints it,
/// without colons.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    sha256(certificate).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The parts that both configurations of a client share: rustls resumes a session only with the very objects that it
/// was made with.
struct Shared {
    verifier: Arc<Verifier>,
    resolver: Arc<dyn ResolvesClientCert>,
    key_log: Option<Arc<dyn KeyLog>>,
}

/// Creates a configuration with the algorithms of this provider. Fails if rustls takes no version with them.
fn configuration(
    settings: &Settings,
    provider: &Arc<CryptoProvider>,
    shared: &Shared,
) -> Result<ClientConfig, rustls::Error> {
    let resolver: Arc<dyn ResolvesClientCert> = Arc::clone(&shared.resolver);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(settings.min_version.versions())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&shared.verifier) as _)
        .with_client_cert_resolver(resolver);
    config.enable_sni = settings.server_name.is_some();
    if let Some(key_log) = &shared.key_log {
        config.key_log = Arc::clone(key_log);
    }
    Ok(config)
}

/// All algorithms, the hybrid groups first.
static HYBRID: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// All algorithms but the hybrid groups.
static CLASSIC: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = CryptoProvider::clone(&HYBRID);
    provider.kx_groups.retain(|group| !session::is_large(group.name()));
    Arc::new(provider)
});

/// Creates the resolver that presents this identity to servers that ask, or nothing without an identity; each use is
/// noted in `shown`.
fn resolver(
    identity: Option<&Identity>,
    shown: &Arc<LastCertificateUse>,
) -> Arc<dyn ResolvesClientCert> {
    let shown = Arc::clone(shown);
    match identity {
        Some(identity) => {
            Arc::new(CertificateResolver { key: Arc::clone(identity.certified_key()), shown })
        }
        None => Arc::new(NoCertificateResolver(shown)),
    }
}

/// A resolver that presents no certificate.
#[derive(Debug)]
struct NoCertificateResolver(Arc<LastCertificateUse>);

impl ResolvesClientCert for NoCertificateResolver {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.note(CertificateUse::NotConfigured);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A resolver that presents one certificate to each server that asks.
#[derive(Debug)]
struct CertificateResolver {
    key: Arc<CertifiedKey>,
    shown: Arc<LastCertificateUse>,
}

impl ResolvesClientCert for CertificateResolver {
    fn resolve(&self, _: &[&[u8]], taken: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // rustls sends no certificate if the key can make none of the signatures that the server takes.
        let signs = self.key.key.choose_scheme(taken).is_some();
        self.shown.note(if signs { CertificateUse::Sent } else { CertificateUse::NoSignature });
        Some(Arc::clone(&self.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The means for one handshake.
pub struct Preparation {
    /// The configuration for this handshake alone; it shares verifier, identity and sessions with those of other
    /// handshakes.
    pub config: Arc<ClientConfig>,
    /// The name to connect with.
    pub name: ServerName<'static>,
    view: Arc<HandshakeView>,
    verifier: Arc<Verifier>,
    /// The facts that the handshake leaves behind; it must run as `note.of(handshake)`.
    pub note: Arc<Note>,
}

impl Preparation {
    /// Returns the count of the bytes that come from the server, which the reader of the socket keeps.
    pub fn inflow(&self) -> Arc<Inflow> {
        Arc::clone(self.view.inflow())
    }

    /// True if a first try that has not succeeded so far is to make way for a second one that offers less.
    pub fn makes_way(&self) -> bool {
        self.view.makes_way()
    }

    /// True if the first message was large, and got an alert that its size may cause.
    pub fn large_got_an_alert(&self) -> bool {
        self.view.large_got_an_alert()
    }

    /// Returns the beginning of the handshake, or of the first try if this is the second.
    pub fn begun(&self) -> Instant {
        self.view.begun()
    }

    /// Notes that the handshake of a connection is done: stores the sessions that have arrived, and lets those that
    /// follow in. Returns its kind, and what was learned of the address, if the log is to tell it.
    pub fn succeeded(
        &self,
        connection: &rustls::ClientConnection,
        now: Instant,
    ) -> (Handshake, Option<Lesson>) {
        let handshake = match connection.handshake_kind() {
            Some(HandshakeKind::Resumed) => Handshake::Resumed,
            Some(_) if self.view.has_offered_session() => Handshake::Refused,
            Some(_) => Handshake::Full,
            None => Handshake::Failed,
        };
        let chain = connection.peer_certificates().unwrap_or_default();
        let certificates = chain.iter().map(|certificate| certificate.len()).sum();
        let end = || chain_end::of(chain, &self.verifier, UnixTime::now());
        let resumed = handshake == Handshake::Resumed;
        (handshake, self.view.succeeded(resumed, end, certificates, now))
    }

    /// Notes that the handshake failed, and not because of the server's certificate; forgets the sessions of its
    /// address if it offered one. Returns the offer for a second try, if one may help.
    pub fn failed(&self, now: Instant) -> Option<AllowedOffer> {
        self.view.failed(now)
    }
}

#[cfg(test)]
mod tests;
