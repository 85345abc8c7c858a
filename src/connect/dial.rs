//! From an endpoint to a finished TLS handshake: names, addresses in turn, limits on each stage.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use rustls::pki_types::CertificateDer;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{ConnectError, Endpoint, EndpointHost, Limits, Resolver};
use crate::{
    socket,
    tls::{self, Handshake, Version},
};

/// How long one address may keep the next from being tried (RFC 8305 section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// A connection that is ready for HTTP.
pub struct Dialled {
    /// The stream.
    pub stream: TlsStream<TcpStream>,
    /// The address that answered.
    pub peer: SocketAddr,
    /// Full, resumed or refused.
    pub handshake: Handshake,
    /// The version agreed.
    pub version: Version,
    /// Name and TCP.
    pub connect_time: Duration,
    /// TLS.
    pub handshake_time: Duration,
}

impl Dialled {
    /// What the server showed, its own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.stream.get_ref().1.peer_certificates().unwrap_or_default()
    }
}

/// The TCP connection of a dial.
pub struct Reached {
    stream: TcpStream,
    /// The address that answered.
    pub peer: SocketAddr,
    /// Name and TCP.
    pub connect_time: Duration,
}

/// Finds the endpoint's addresses, as they are now.
pub async fn resolve(
    endpoint: &Endpoint,
    resolver: &Resolver,
) -> Result<Vec<IpAddr>, ConnectError> {
    match &endpoint.host {
        EndpointHost::Address(address) => Ok(vec![*address]),
        EndpointHost::Name(name) => resolver
            .addresses(name)
            .await
            .map_err(|reason| ConnectError::Name { name: name.clone(), reason }),
    }
}

/// Connects over TCP; `found` is told the addresses as soon as they are known.
pub async fn reach(
    endpoint: &Endpoint,
    resolver: &Resolver,
    limits: &Limits,
    found: impl FnOnce(&[IpAddr]),
) -> Result<Reached, ConnectError> {
    let begun = Instant::now();
    let connecting = async {
        let addresses = resolve(endpoint, resolver).await?;
        found(&addresses);
        race(addresses.iter().map(|ip| SocketAddr::new(*ip, endpoint.port)).collect()).await
    };
    let (stream, peer) = timeout(limits.connect, connecting).await.map_err(|_| {
        ConnectError::ConnectTimeout { endpoint: endpoint.to_string(), limit: limits.connect }
    })??;
    socket::set_options(&stream).map_err(|error| ConnectError::tcp(peer, error))?;
    Ok(Reached { stream, peer, connect_time: begun.elapsed() })
}

/// Makes the TLS handshake. A failed one is ended politely too: alert, FIN, close. One that takes too long is dropped:
/// it ends with FIN at once (RST, where bytes of the peer's lie unread), as there is neither a session to save nor an
/// answer to wait for.
pub async fn shake_hands(
    reached: Reached,
    client: &tls::Client,
    limits: &Limits,
) -> Result<Dialled, ConnectError> {
    let Reached { stream, peer, connect_time } = reached;
    let begun = Instant::now();
    let preparation = client.prepare(peer.ip());
    let connector = TlsConnector::from(std::sync::Arc::clone(&preparation.config));
    let handshake = connector.connect(preparation.name.clone(), stream).into_fallible();
    match timeout(limits.handshake, handshake).await {
        Err(_) => Err(ConnectError::HandshakeTimeout { address: peer, limit: limits.handshake }),
        Ok(Err((error, stream))) => {
            tokio::spawn(socket::close_politely(stream));
            Err(ConnectError::handshake(peer, error, client.trust()))
        }
        Ok(Ok(stream)) => {
            let connection = stream.get_ref().1;
            let (handshake, version) = (preparation.outcome(connection), Version::of(connection));
            let handshake_time = begun.elapsed();
            Ok(Dialled { stream, peer, handshake, version, connect_time, handshake_time })
        }
    }
}

/// Tries the addresses in turn, the next one after a failure or 250 ms; the first that answers wins.
async fn race(addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut waiting = addresses.into_iter();
    let mut trying = JoinSet::new();
    let mut last = None;
    loop {
        if let Some(address) = waiting.next() {
            trying.spawn(async move { (TcpStream::connect(address).await, address) });
        } else if trying.is_empty() {
            return Err(last.unwrap_or_else(|| ConnectError::Name {
                name: String::new(),
                reason: "it has no address".into(),
            }));
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some(ended) = trying.join_next() => match ended {
                Ok((Ok(stream), address)) => return Ok((stream, address)),
                Ok((Err(error), address)) => {
                    last = Some(more_telling(last, ConnectError::tcp(address, error)));
                }
                Err(_) => {}
            },
            () = sleep(NEXT_ADDRESS), if more => {}
        }
    }
}

/// A machine without IPv6 says of such an address what it also says when its ports are used up: what another address
/// answered is nearer to the truth.
fn more_telling(earlier: Option<ConnectError>, later: ConnectError) -> ConnectError {
    match (earlier, later) {
        (Some(refused @ ConnectError::Tcp { .. }), ConnectError::Exhausted { .. }) => refused,
        (_, later) => later,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn an_address_that_refuses_tells_more_than_one_that_this_machine_cannot_reach() {
        let errors = || {
            [
                ("127.0.0.1:1", ErrorKind::ConnectionRefused),
                ("[::1]:1", ErrorKind::AddrNotAvailable),
            ]
            .map(|(address, kind)| {
                ConnectError::tcp(address.parse().expect("an address"), Error::from(kind))
            })
        };
        let [refused, unreachable] = errors();
        assert!(matches!(more_telling(Some(refused), unreachable), ConnectError::Tcp { .. }));
        let [refused, unreachable] = errors();
        assert!(matches!(more_telling(Some(unreachable), refused), ConnectError::Tcp { .. }));
        let [_, unreachable] = errors();
        assert!(matches!(more_telling(None, unreachable), ConnectError::Exhausted { .. }));
    }
}
