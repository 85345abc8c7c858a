//! The demo's clients: like an application without a pool, connecting for each request and closing afterwards; and, for
//! the training run of `scripts/release`, with connections that are kept.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Uri,
    header::{CONNECTION, HOST},
};
use http_body_util::{BodyExt as _, Empty};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector},
    },
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{DnsName, ServerName},
};

use tokio::task::JoinSet;

use super::{
    Error, ORIGIN,
    authority::{Authority, Credentials},
};

/// A client that makes a connection for each request, over plain HTTP or mutual TLS according to the URL's scheme.
pub struct OneShot {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl OneShot {
    /// Makes a client that trusts this authority, and shows these credentials to servers that ask. It keeps no TLS
    /// session, like a process that is started for one request.
    pub fn new(authority: &Authority, credentials: &Credentials) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(authority.roots()?)
            .with_client_auth_cert(credentials.chain(), credentials.key())?;
        config.resumption = Resumption::disabled();
        let name = DnsName::try_from_str(ORIGIN).expect("the origin's name is a DNS name");
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .with_server_name_resolver(FixedServerNameResolver::new(ServerName::DnsName(
                name.to_owned(),
            )))
            .enable_http1()
            .wrap_connector(tcp);
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client })
    }

    /// Sends this many GET requests one after another; returns the time that each took, from connecting to the end of
    /// the response. Fails at the first request without a 2xx response.
    pub async fn send(&self, to: &Uri, count: usize) -> Result<Vec<Duration>, Error> {
        let mut times = Vec::with_capacity(count);
        for number in 1..=count {
            let begun = Instant::now();
            self.send_one(to).await.map_err(|why| Error::Request {
                number,
                to: to.clone(),
                why,
            })?;
            times.push(begun.elapsed());
        }
        Ok(times)
    }

    async fn send_one(&self, to: &Uri) -> Result<(), String> {
        let mut request = get(to);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        exchange(&self.client, request).await
    }
}

/// Sends GET requests over plain HTTP from so many clients at the same time, each of which keeps its connection;
/// `requests` is their number over all clients. Fails if a request gets no 2xx response.
pub async fn send_kept(to: &Uri, clients: usize, requests: usize) -> Result<(), Error> {
    let mut sending = JoinSet::new();
    for _ in 0..clients {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let to = to.clone();
        sending.spawn(async move {
            for number in 1..=requests / clients {
                let sent = exchange(&client, get(&to)).await;
                sent.map_err(|why| Error::Request { number, to: to.clone(), why })?;
            }
            Ok(())
        });
    }
    sending.join_all().await.into_iter().collect()
}

/// Makes a GET request of this URL, with the origin's name as its Host and without a body.
fn get(to: &Uri) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = to.clone();
    request.headers_mut().insert(HOST, HeaderValue::from_static(ORIGIN));
    request
}

/// Sends a request and reads the whole response; fails if its status is not 2xx.
async fn exchange<C>(
    client: &Client<C, Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> Result<(), String>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let response = client.request(request).await.map_err(|error| chain(&error))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| chain(&error))?;
    if status.is_success() {
        return Ok(());
    }
    let body = body.to_bytes();
    Err(format!("answered {status}: {}", String::from_utf8_lossy(&body).trim_end()))
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
