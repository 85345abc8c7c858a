//! The admission webhook: pods that ask for a sidecar get one ("Kubernetes" in docs/design.md).
//!
//! `decision` makes the decision, purely: one pod in, one decision out. `review` speaks the API server's protocol, and
//! `serve` bounds the API server's connections. For the webhook's own CA and certificate `rotation` decides (purely,
//! too), and `agreement` carries the decisions out on the API server, together with the other replicas.

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
mod readiness;
mod resources;
mod review;
mod rotation;
mod routes;
mod serve;
mod sidecar;
mod volumes;
mod webhook;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rustls::{ServerConfig, crypto::aws_lc_rs, server::NoServerSessionStorage};
use tokio::{net::TcpListener, time::sleep};
use tokio_rustls::TlsAcceptor;

pub(crate) use quantity::{is_cpu, is_memory};
pub(crate) use resources::{Bounds, Defaults};
pub(crate) use sidecar::{ConfigSource, Platform, PullPolicy, Settings as Sidecar};

use crate::drain::Drain;
use certificate::CurrentCertificate;
pub(crate) use cluster_version::TooOld;
use readiness::Readiness;
use routes::ReviewState;
use serve::End;

/// The injector's settings, as its command line gives them.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The sidecar that pods get.
    pub sidecar: Sidecar,
    /// The address at which the API server's reviews come in.
    pub bind: SocketAddr,
    /// The address for metrics and health.
    pub health_bind: SocketAddr,
    /// The maker of the serving certificate.
    pub certificate: Certificate,
}

/// The maker of the serving certificate.
#[derive(Debug)]
pub(crate) enum Certificate {
    /// Somebody else, such as cert-manager, puts certificate and key into this folder.
    Files(PathBuf),
    /// The injector makes its own, together with the other replicas.
    Own(OwnCertificate),
}

/// The objects by which replicas agree on a CA, and the lifetimes of certificates.
#[derive(Debug)]
pub(crate) struct OwnCertificate {
    /// The namespace of the Secret and of the service; `None`: the namespace of the injector's own pod.
    pub namespace: Option<String>,
    /// The name of the service through which the API server calls the injector.
    pub service: String,
    /// The name of the Secret that holds the CA.
    pub secret: String,
    /// The name of the `MutatingWebhookConfiguration` whose `caBundle` the injector keeps up to date.
    pub webhook: String,
    /// The lifetime of a CA.
    pub ca_lifetime: Duration,
    /// The lifetime of a serving certificate; at most a third of `ca_lifetime`.
    pub certificate_lifetime: Duration,
}

/// The reason that the injector cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An address cannot be bound.
    #[error("{address} cannot be bound: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        error: io::Error,
    },
    /// The cluster is too old.
    #[error(transparent)]
    TooOld(#[from] TooOld),
    /// There is no usable way to the API server; the text is the reason.
    #[error(
        "no way to the API server: {0} (run it in a pod with its ServiceAccount's token, or give --certificate-files, \
         which needs none)"
    )]
    NoCluster(String),
    /// The lifetimes leave no time for rotation.
    #[error(
        "--certificate-lifetime must be at most a third of --ca-lifetime: a CA is replaced in its last third"
    )]
    Lifetimes,
    /// The default request of this resource (`cpu` or `memory`) is above its default limit.
    #[error("--{0}-request is above --{0}-limit: no pod could be injected")]
    Resources(&'static str),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {}", crate::tls::words(.0))]
    Tls(#[from] rustls::Error),
    /// Metrics cannot be set up.
    #[error("metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The time for which new reviews are still accepted after the drain has begun. API servers learn of the end with a
/// delay.
const LINGER: Duration = Duration::from_secs(3);

/// Runs the injector until the drain has begun and the reviews in flight are answered. Fails if the settings contradict
/// each other, an address cannot be bound, there is no way to the API server where one is needed, or the cluster is too
/// old.
pub(crate) async fn run(settings: Settings, drain: Drain) -> Result<(), Error> {
    let Defaults { cpu, memory } = &settings.sidecar.resources;
    for (name, bounds) in [("cpu", cpu), ("memory", memory)] {
        if bounds.is_contradiction() {
            return Err(Error::Resources(name));
        }
    }
    let webhook = bound(settings.bind)?;
    let health = bound(settings.health_bind)?;
    let readiness = Arc::new(Readiness::new(drain.clone())?);
    let tls = acceptor(Arc::clone(&readiness.current))?;
    let keeper = Keeper::of(settings.certificate).await?;
    announce(&webhook, &health);
    let state = ReviewState::new(Arc::clone(&readiness), settings.sidecar);
    let end = End { announced: drain.clone(), come: Drain::default() };
    let reviews = serve::serve(webhook, Some(tls), routes::webhook(state), end.clone());
    let health = serve::serve(health, None, routes::health(Arc::clone(&readiness)), End::default());
    let ending = async {
        drain.begun().await;
        sleep(LINGER).await;
        end.come.begin();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = reviews => {}
        () = health => {}
        error = keep_certificate(keeper, Arc::clone(&readiness)) => return Err(error),
        () = ending => {}
    }
    tracing::info!("warmline injector has ended");
    Ok(())
}

/// The keeper of the serving certificate, with the way to the API server where one is needed.
enum Keeper {
    Files(PathBuf),
    Own(OwnCertificate, kube::Client),
}

impl Keeper {
    /// Makes the keeper, with a client of the API server where one is needed. Fails where it is clear before anything
    /// is served that the injector cannot run.
    async fn of(certificate: Certificate) -> Result<Self, Error> {
        Ok(match certificate {
            Certificate::Files(folder) => Self::Files(folder),
            Certificate::Own(own) => {
                let client = cluster::client_for(&own).await?;
                Self::Own(own, client)
            }
        })
    }
}

/// Keeps the serving certificate up to date for ever. Completes only with the error that makes this impossible.
async fn keep_certificate(keeper: Keeper, readiness: Arc<Readiness>) -> Error {
    let outcome = match keeper {
        Keeper::Files(folder) => {
            let follow = files::follow(&folder, readiness);
            tokio::select! { never = follow => never, Err(error) = cluster::look() => Err(error) }
        }
        Keeper::Own(own, client) => cluster::agree(own, client, readiness).await,
    };
    match outcome {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn bound(address: SocketAddr) -> Result<TcpListener, Error> {
    bind::bind(address).map_err(|error| Error::Bind { address, error })
}

/// Makes the TLS acceptor, which shows the newest certificate in each handshake. Session resumption is off, so that no
/// client goes on relying on a certificate that it verified earlier.
fn acceptor(current: Arc<CurrentCertificate>) -> Result<TlsAcceptor, rustls::Error> {
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

/// Logs that the injector is serving, with its version and both addresses.
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
