//! The way to the API server: checks that the cluster is new enough, and then keeps the agreement with the other
//! replicas.

use std::{convert::Infallible, sync::Arc, time::Duration};

use kube::Client;
use tokio::time::{sleep, timeout};

use super::{
    Error, OwnCertificate,
    agreement::{Agreement, AgreementNames},
    cluster_version,
    readiness::Readiness,
    rotation::CertificateTerms,
};
use crate::{api_server, backoff::Backoff};

/// The time limit for one answer of the API server.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest first wait before the version is asked for again; doubled after each failure, up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Returns a client of the API server. Fails if the lifetimes leave no time for rotation, or if there is no way to the API
/// server.
pub(super) async fn client_for(own: &OwnCertificate) -> Result<Client, Error> {
    if own.certificate_lifetime > own.ca_lifetime / 3 {
        return Err(Error::Lifetimes);
    }
    client().await
}

/// Agrees with the other replicas on the CA for as long as the future is polled. Fails if the cluster is too old.
pub(super) async fn agree(
    own: OwnCertificate,
    client: Client,
    readiness: Arc<Readiness>,
) -> Result<Infallible, Error> {
    require_new_enough(&client).await?;
    let namespace = own.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let terms = CertificateTerms {
        authority: own.ca_lifetime,
        certificate: own.certificate_lifetime,
        name: format!("{}.{namespace}.svc", own.service),
    };
    let names = AgreementNames { namespace, secret: own.secret, configuration: own.webhook };
    Ok(Agreement::new(client, names, terms, readiness).keep().await)
}

/// Checks that the cluster is new enough, if the pod has a token: asking for the version needs no rights. Without a way
/// to the API server the check is left out, and the log says why.
pub(super) async fn look() -> Result<(), Error> {
    match client().await {
        Ok(client) => require_new_enough(&client).await,
        Err(error) => {
            tracing::info!(reason = %error, "the cluster's version is not looked at");
            Ok(())
        }
    }
}

async fn client() -> Result<Client, Error> {
    let config = api_server::config().await.map_err(|no| Error::NoCluster(no.to_string()))?;
    Client::try_from(config).map_err(|error| Error::NoCluster(api_server::reason(&error)))
}

/// Asks for the cluster's version until the API server answers. Fails if the version is too old.
async fn require_new_enough(client: &Client) -> Result<(), Error> {
    let (mut backoff, mut told) = (Backoff::new(FIRST_PAUSE), String::new());
    loop {
        let reason = match timeout(PATIENCE, client.apiserver_version()).await {
            Ok(Ok(info)) => {
                cluster_version::check(&info)?;
                tracing::info!(version = %info.git_version, "the API server answers");
                return Ok(());
            }
            Ok(Err(error)) => api_server::reason(&error),
            Err(_) => "it takes too long".to_owned(),
        };
        if told != reason {
            tracing::warn!(%reason, "the API server does not answer; trying on");
            told = reason;
        }
        sleep(backoff.after_failure(LONGEST_PAUSE, fastrand::f64())).await;
    }
}
