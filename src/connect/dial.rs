//! From an endpoint to a TCP connection: names, addresses in turn, a limit on both.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{ConnectError, Endpoint, EndpointHost, Limits, Resolver};
use crate::socket;

/// How long one address may keep the next from being tried (RFC 8305 section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// The TCP connection of a dial.
pub struct Reached {
    pub(super) stream: TcpStream,
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

/// Tries the addresses in turn, the next one after a failure or 250 ms; the first that answers wins.
async fn race(addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut waiting = addresses.into_iter();
    let mut trying = JoinSet::new();
    let mut failed = Vec::new();
    loop {
        if let Some(address) = waiting.next() {
            trying.spawn(async move { (TcpStream::connect(address).await, address) });
        } else if trying.is_empty() {
            return Err(most_telling(failed).unwrap_or_else(|| ConnectError::Name {
                name: String::new(),
                reason: "it has no address".into(),
            }));
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some(ended) = trying.join_next() => match ended {
                Ok((Ok(stream), address)) => return Ok((stream, address)),
                Ok((Err(error), address)) => failed.push((address, error)),
                Err(_) => {}
            },
            () = sleep(NEXT_ADDRESS), if more => {}
        }
    }
}

/// The last one, with those before it. But a machine without IPv6 says of such an address what it also says when its ports
/// are used up: what another address answered is nearer to the truth.
fn most_telling(mut failed: Vec<(SocketAddr, io::Error)>) -> Option<ConnectError> {
    let ours = |(_, error): &(_, io::Error)| ConnectError::is_ours(error);
    let last = failed.iter().rposition(|failed| !ours(failed)).or(failed.len().checked_sub(1))?;
    let (address, error) = failed.remove(last);
    let mut error = ConnectError::tcp(address, error);
    if let ConnectError::Tcp { others, .. } = &mut error {
        for (address, error) in &failed {
            others.add(*address, error);
        }
    }
    Some(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: i32 = 111;
    const NOT_AVAILABLE: i32 = 99;

    /// What is told of addresses that fail with these errors, one after the other.
    fn told(failed: &[(&str, i32)]) -> String {
        let error = |errno: &i32| io::Error::from_raw_os_error(*errno);
        let failed = failed
            .iter()
            .map(|(address, errno)| (address.parse().expect("an address"), error(errno)));
        most_telling(failed.collect()).expect("something failed").to_string()
    }

    #[test]
    fn an_address_that_refuses_tells_more_than_one_that_this_machine_cannot_reach() {
        let (refused, unreachable) = (("127.0.0.1:1", REFUSED), ("[::1]:1", NOT_AVAILABLE));
        for failed in [[refused, unreachable], [unreachable, refused]] {
            let told = told(&failed);
            assert!(
                told.starts_with("no TCP connection to 127.0.0.1:1: Connection refused"),
                "{told}"
            );
            assert!(told.contains("; nor to [::1]:1: "), "{told}");
        }
        assert!(told(&[unreachable]).contains("no IPv6, or no local port left"));
    }

    #[test]
    fn of_many_addresses_the_last_and_the_first_few_are_told_and_the_others_counted() {
        let addresses: Vec<_> = (1..=9).map(|number| format!("127.0.0.{number}:1")).collect();
        let failed: Vec<_> = addresses.iter().map(|address| (address.as_str(), REFUSED)).collect();
        let why = "Connection refused (os error 111)";
        let others = format!(
            "nor to 127.0.0.1:1: {why}; nor to 127.0.0.2:1: {why}; nor to 127.0.0.3:1: {why}"
        );
        let whole = format!("no TCP connection to 127.0.0.9:1: {why}; {others}; nor to 5 more");
        assert_eq!(told(&failed), whole);
    }
}
