//! A question to the name servers for a name's addresses of one family.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use hickory_net::{
    NetError,
    proto::{
        op::{DnsRequest, DnsRequestOptions, DnsResponse, Query, ResponseCode},
        rr::{Name, RData, RecordType},
    },
    runtime::TokioRuntimeProvider,
    tcp::TcpClientStream,
    udp::UdpClientStream,
    xfer::{DnsHandle as _, DnsRequestSender as _, FirstAnswer as _},
};
use tokio::time::sleep;

use super::{
    Family, Part, cache,
    servers::{Servers, told},
};

/// The number of times that a question is sent; as a rule its asker's deadline comes first.
pub const SENT: usize = 16;
/// The time for which an answer is waited for: a late one is an answer too.
const LISTENED: Duration = Duration::from_secs(30);
/// Aliases that are followed, where a name server gives them without their addresses.
const ALIASES: usize = 8;

/// A name server's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The addresses; or that the name exists and has none of this family.
    Part(Part),
    /// There is no such name.
    NoName,
}

/// A reason for having no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A name server refused, or failed.
    #[error("{} answered {code}", told(*.server))]
    Code {
        /// The name server.
        server: SocketAddr,
        /// DNS's own word.
        code: String,
    },
    /// A name server cannot be reached, or says what is no DNS.
    #[error("{} could not be asked ({reason})", told(*.server))]
    Unreachable {
        /// The name server.
        server: SocketAddr,
        /// The kernel's word.
        reason: String,
    },
    /// No name server said anything.
    #[error("no name server answered")]
    Silent,
    /// The text is longer than DNS allows.
    #[error("DNS cannot hold it: a name has 253 characters at most, and 63 between two dots")]
    NoName,
}

/// Asks until a name server answers: the next of them, or the same again, after each `pace` without an answer.
pub async fn ask(
    servers: Arc<Servers>,
    name: String,
    family: Family,
    pace: Duration,
) -> Result<Said, Fault> {
    let mut asked =
        Name::from_labels(name.split('.').map(str::as_bytes)).map_err(|_| Fault::NoName)?;
    for _ in 0..ALIASES {
        let (server, response) = answered(&servers, &asked, family, pace).await?;
        servers.answered(server);
        match read(&response, &asked, family, Instant::now()) {
            Read::Said(said) => return Ok(said),
            Read::Alias(alias) => asked = alias,
        }
    }
    Ok(Said::NoName)
}

/// Waits for the first answer that is one. A name server that failed makes way for the next one at once; once each has, there is
/// nothing to wait for.
async fn answered(
    servers: &Servers,
    name: &Name,
    family: Family,
    pace: Duration,
) -> Result<(SocketAddr, DnsResponse), Fault> {
    let in_turn = servers.in_turn();
    let mut next = in_turn.iter().cycle().take(SENT);
    let (mut waiting, mut failed) = (FuturesUnordered::new(), Vec::new());
    loop {
        if let Some(server) = next.find(|server| !failed.contains(*server)) {
            waiting.push(send(servers, *server, name, family));
        } else if waiting.is_empty() {
            return Err(Fault::Silent);
        }
        tokio::select! {
            Some((server, result)) = waiting.next() => match result {
                Ok(response) => return Ok((server, response)),
                Err(fault) => {
                    failed.push(server);
                    if in_turn.iter().all(|server| failed.contains(server)) {
                        return Err(fault);
                    }
                }
            },
            () = sleep(pace) => {}
        }
    }
}

/// Asks one name server once; where the answer is too long for a packet, over TCP.
async fn send(
    servers: &Servers,
    server: SocketAddr,
    name: &Name,
    family: Family,
) -> (SocketAddr, Result<DnsResponse, Fault>) {
    let mut options = DnsRequestOptions::default();
    options.use_edns = servers.edns;
    let query = Query::query(name.clone(), family.record());
    let request = DnsRequest::from_query(query, options);
    let over_udp = if servers.tcp { None } else { Some(over_udp(server, request.clone()).await) };
    let result = match over_udp {
        Some(Ok(response)) if response.truncation => over_tcp(server, request).await,
        Some(result) => result,
        None => over_tcp(server, request).await,
    };
    let fault = |error: NetError| Fault::Unreachable { server, reason: in_our_words(&error) };
    (server, result.map_err(fault).and_then(|response| usable(server, response)))
}

/// The kernel's word where there is one; the library speaks of its own parts.
fn in_our_words(error: &NetError) -> String {
    match error {
        NetError::Io(error) => error.to_string(),
        NetError::Timeout | NetError::NoConnections => "it does not answer".into(),
        _ => "its answer is no DNS that can be read".into(),
    }
}

async fn over_udp(server: SocketAddr, request: DnsRequest) -> Result<DnsResponse, NetError> {
    let provider = TokioRuntimeProvider::default();
    let sender = UdpClientStream::builder(server, provider).with_timeout(Some(LISTENED));
    sender.with_max_retries(1).build().send_message(request).first_answer().await
}

async fn over_tcp(server: SocketAddr, request: DnsRequest) -> Result<DnsResponse, NetError> {
    // It drives the connection for as long as it lives.
    let provider = TokioRuntimeProvider::default();
    let sender = TcpClientStream::exchange(server, None, LISTENED, None, provider.clone()).await?;
    let answer = sender.send(request).first_answer().await;
    drop(provider);
    answer
}

/// Passes an answer on, if it says anything about the name.
fn usable(server: SocketAddr, response: DnsResponse) -> Result<DnsResponse, Fault> {
    match response.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(response),
        ResponseCode::ServFail => Err(Fault::Code { server, code: "SERVFAIL".into() }),
        ResponseCode::Refused => Err(Fault::Code { server, code: "REFUSED".into() }),
        other => Err(Fault::Code { server, code: other.to_str().into() }),
    }
}

/// The meaning of an answer.
enum Read {
    Said(Said),
    /// The name is another one's alias, of which nothing is said.
    Alias(Name),
}

fn read(response: &DnsResponse, asked: &Name, family: Family, heard: Instant) -> Read {
    let (owner, mut ttl) = canonical(response, asked);
    let mut addresses = Vec::new();
    for record in response.answers.iter().filter(|record| record.name == *owner) {
        if let Some(address) = record.data.ip_addr().filter(|ip| Family::of(*ip) == family) {
            ttl = ttl.min(record.ttl);
            addresses.push(address);
        }
    }
    if !addresses.is_empty() {
        let fresh_until = Some(cache::until(heard, ttl));
        let part = Part { fresh_until, ..Part::new(family, addresses, heard) };
        return Read::Said(Said::Part(part));
    }
    if response.response_code == ResponseCode::NXDomain {
        return Read::Said(Said::NoName);
    }
    // With a word about how long that holds, it was looked up to its end.
    let negative = response.negative_ttl();
    if owner != asked && negative.is_none() {
        return Read::Alias(owner.clone());
    }
    let fresh_until = negative.map(|negative| cache::until(heard, negative));
    Read::Said(Said::Part(Part { fresh_until, ..Part::new(family, addresses, heard) }))
}

/// Follows the aliases of an answer to the name that has the addresses; with it goes the shortest time to live.
fn canonical<'a>(response: &'a DnsResponse, asked: &'a Name) -> (&'a Name, u32) {
    let (mut owner, mut ttl) = (asked, u32::MAX);
    for _ in 0..=response.answers.len() {
        let alias = response.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *owner => Some((&target.0, record.ttl)),
            _ => None,
        });
        let Some((target, lives)) = alias else { break };
        (owner, ttl) = (target, ttl.min(lives));
    }
    (owner, ttl)
}

impl Family {
    fn record(self) -> RecordType {
        match self {
            Self::V4 => RecordType::A,
            Self::V6 => RecordType::AAAA,
        }
    }
}
