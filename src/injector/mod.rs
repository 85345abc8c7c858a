//! The admission webhook: pods that ask for a sidecar get one (design, section 9).
//!
//! `decision` is what it is for, and pure: one pod in, one decision out. Around it `review` speaks the API server's
//! protocol, and `serve` bounds those who connect. The webhook's own CA and certificate: `rotation` decides (pure too),
//! `agreement` does it on the API server, together with the other replicas.

mod agreement;
mod annotations;
mod authority;
mod bind;
mod certificate;
mod cluster;
mod cluster_version;
mod decision;
mod files;
mod filling;
mod obstacles;
mod patch;
mod pod;
mod quantity;
mod resources;
mod review;
mod rotation;
mod routes;
mod serve;
mod sidecar;
mod standing;
mod webhook;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rustls::{ServerConfig, crypto::aws_lc_rs, server::NoServerSessionStorage};
use tokio::{net::TcpListener, time::sleep};
use tokio_rustls::TlsAcceptor;

pub use quantity::{is_cpu, is_memory};
pub use resources::{Bounds, Defaults};
pub use sidecar::{ConfigSource, Platform, PullPolicy, Settings as Sidecar};

use crate::drain::Drain;
use certificate::Current;
pub use cluster_version::TooOld;
use routes::Desk;
use serve::End;
use standing::Standing;

/// What the injector is told.
#[derive(Debug)]
pub struct Settings {
    /// What pods get.
    pub sidecar: Sidecar,
    /// Where the API server sends reviews.
    pub bind: SocketAddr,
    /// Metrics and health.
    pub health_bind: SocketAddr,
    /// Who makes the serving certificate.
    pub certificate: Certificate,
}

/// Who makes the serving certificate.
#[derive(Debug)]
pub enum Certificate {
    /// Somebody else, and puts it into this folder.
    Files(PathBuf),
    /// We do, together with the other replicas.
    Own(Own),
}

/// Where replicas agree on a CA, and what it is like.
#[derive(Debug)]
pub struct Own {
    /// Of the Secret and the service; `None`: the pod's.
    pub namespace: Option<String>,
    /// The service that the API server calls.
    pub service: String,
    /// The Secret that holds the CA.
    pub secret: String,
    /// The `MutatingWebhookConfiguration` whose `caBundle` is kept.
    pub webhook: String,
    /// How long a CA lives.
    pub ca_lifetime: Duration,
    /// How long a serving certificate lives.
    pub certificate_lifetime: Duration,
}

/// Why the injector cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be bound.
    #[error("{address} cannot be bound: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The cluster is too old.
    #[error(transparent)]
    TooOld(#[from] TooOld),
    /// Nothing says where the API server is.
    #[error(
        "no way to the API server: {0} (run it in a pod with its ServiceAccount's token, or give --certificate-files, \
         which needs none)"
    )]
    NoCluster(String),
    /// Lifetimes that leave no time for rotation.
    #[error(
        "--certificate-lifetime must be at most a third of --ca-lifetime: a CA is replaced in its last third"
    )]
    Lifetimes,
    /// What sidecars ask for and may have by default.
    #[error("--{0}-request is above --{0}-limit: no pod could be injected")]
    Resources(&'static str),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {}", crate::tls::words(.0))]
    Tls(#[from] rustls::Error),
    /// Metrics cannot be set up.
    #[error("metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// After the sign to end reviews are taken for so long: until then API servers may not know.
const LINGER: Duration = Duration::from_secs(3);

/// Runs until the end has begun and the reviews in flight are answered.
pub async fn run(settings: Settings, drain: Drain) -> Result<(), Error> {
    let Defaults { cpu, memory } = &settings.sidecar.resources;
    for (name, bounds) in [("cpu", cpu), ("memory", memory)] {
        if bounds.is_contradiction() {
            return Err(Error::Resources(name));
        }
    }
    let webhook = bound(settings.bind)?;
    let health = bound(settings.health_bind)?;
    let standing = Arc::new(Standing::new(drain.clone())?);
    let tls = acceptor(Arc::clone(&standing.current))?;
    announce(&webhook, &health);
    let desk = Desk::new(Arc::clone(&standing), settings.sidecar);
    let end = End { announced: drain.clone(), come: Drain::default() };
    let reviews = serve::serve(webhook, Some(tls), routes::webhook(desk), end.clone());
    let health = serve::serve(health, None, routes::health(Arc::clone(&standing)), End::default());
    let ending = async {
        drain.begun().await;
        sleep(LINGER).await;
        end.come.begin();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = reviews => {}
        () = health => {}
        error = keep_certificate(settings.certificate, Arc::clone(&standing)) => return Err(error),
        () = ending => {}
    }
    tracing::info!("warmline injector has ended");
    Ok(())
}

/// Completes only where it cannot.
async fn keep_certificate(certificate: Certificate, standing: Arc<Standing>) -> Error {
    let outcome = match certificate {
        Certificate::Files(folder) => {
            let follow = files::follow(&folder, standing);
            tokio::select! { never = follow => never, Err(error) = cluster::look() => Err(error) }
        }
        Certificate::Own(own) => cluster::agree(own, standing).await,
    };
    match outcome {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn bound(address: SocketAddr) -> Result<TcpListener, Error> {
    bind::bind(address).map_err(|error| Error::Bind { address, error })
}

/// TLS with the newest certificate. Without resumption: no handshake leans on a certificate of before.
fn acceptor(current: Arc<Current>) -> Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(current);
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

fn announce(webhook: &TcpListener, health: &TcpListener) {
    let address = |listener: &TcpListener| {
        listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        webhook = %address(webhook),
        health = %address(health),
        "warmline injector is serving"
    );
}
