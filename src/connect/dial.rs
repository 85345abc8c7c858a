//! The way from an endpoint to a TCP connection: name, addresses in turn, and one time limit for both.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use super::{
    ConnectError, EndpointHost, HostPort, Limits, Resolver,
    addresses::Addresses,
    race::{self, RaceConditions, RaceError},
    resolve::Resolved,
};
use crate::socket;

/// The TCP connection that a dial made.
pub struct Reached {
    /// The socket. If dropped before its handshake is done, the socket is reset, so that the server does not hold it
    /// beside the connection that takes its place under the cap.
    pub(super) stream: TcpStream,
    /// The address that accepted.
    pub peer: SocketAddr,
    /// The time for name resolution and TCP.
    pub connect_time: Duration,
}

/// Connects to the endpoint over TCP: resolves its name, notes the answer in `addresses`, tries the addresses in turn,
/// and sets the socket's options, all within `limits.connect`. `spare` gives a place under the cap for one more socket,
/// where several addresses are tried at once. Fails if the name gives no address, if each address failed, or if the
/// time is over.
pub async fn reach<S: Send + 'static>(
    endpoint: &HostPort,
    resolver: &Resolver,
    limits: &Limits,
    addresses: &Addresses,
    spare: &(dyn Fn() -> Option<S> + Sync),
) -> Result<Reached, ConnectError> {
    let begun = Instant::now();
    let answer = resolve(endpoint, resolver, limits.connect).await?;
    addresses.learn(&answer.parts);
    let deadline = begun + limits.connect;
    let raced =
        race::run(answer, RaceConditions { port: endpoint.port, deadline, addresses, spare }).await;
    let (stream, peer) = raced.map_err(|lost| match lost {
        RaceError::Failed(error) => error,
        RaceError::Late => {
            ConnectError::ConnectTimeout { endpoint: endpoint.to_string(), limit: limits.connect }
        }
    })?;
    socket::set_options(&stream).map_err(|error| ConnectError::tcp(peer, error))?;
    Ok(Reached { stream, peer, connect_time: begun.elapsed() })
}

/// Resolves the endpoint's name to its current addresses; an IP address is its own answer. Fails with
/// [`ConnectError::Name`].
async fn resolve(
    endpoint: &HostPort,
    resolver: &Resolver,
    limit: Duration,
) -> Result<Resolved, ConnectError> {
    match &endpoint.host {
        EndpointHost::Address(address) => Ok(Resolved::given(&[*address], Instant::now())),
        EndpointHost::Name(name) => resolver
            .look_up(name, limit)
            .await
            .map_err(|fault| ConnectError::Name { name: name.clone(), fault }),
    }
}
