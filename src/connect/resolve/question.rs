//! A question to the name servers for the addresses of a name in one family.

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
    Family, FamilyAnswer, cache,
    servers::{Servers, told},
};

/// The most times that a question is sent; as a rule the asker's deadline comes first.
pub(super) const SENT: usize = 16;
/// The time for which an answer to each sending is waited for: a late answer still counts.
const LISTENED: Duration = Duration::from_secs(30);
/// The most aliases that are followed, if a name server gives them without their addresses.
const ALIASES: usize = 8;

/// The answer of a name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerAnswer {
    /// The addresses; an empty part if the name exists and has none of this family.
    Addresses(FamilyAnswer),
    /// The name does not exist.
    NoName,
}

/// The reason why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    /// A name server answered with an error code.
    #[error("{} answered {code}", told(*.server))]
    Code {
        /// The name server.
        server: SocketAddr,
        /// The name of the error code in DNS.
        code: String,
    },
    /// A name server cannot be reached, or its answer is not DNS.
    #[error("{} could not be asked ({reason})", told(*.server))]
    Unreachable {
        /// The name server.
        server: SocketAddr,
        /// The kernel's error, or a description of the fault.
        reason: String,
    },
    /// No name server answered.
    #[error("no name server answered")]
    Silent,
    /// The name is longer than DNS allows.
    #[error("DNS cannot hold it: a name has 253 characters at most, and 63 between two dots")]
    NoName,
}

/// Asks until a name server answers: the next server, or the same one again, after each `pace` without an answer.
/// Remembers the server that answered, and follows aliases; a chain of more than [`ALIASES`] counts as a name that does
/// not exist. Fails if each server failed, if none answered, or if DNS cannot hold the name.
pub(super) async fn ask(
    servers: Arc<Servers>,
    name: String,
    family: Family,
    pace: Duration,
) -> Result<ServerAnswer, NoAnswer> {
    let mut asked =
        Name::from_labels(name.split('.').map(str::as_bytes)).map_err(|_| NoAnswer::NoName)?;
    for _ in 0..ALIASES {
        let (server, response) = answered(&servers, &asked, family, pace).await?;
        servers.answered(server);
        match read(&response, &asked, family, Instant::now()) {
            ParsedAnswer::Answer(said) => return Ok(said),
            ParsedAnswer::Alias(alias) => asked = alias,
        }
    }
    Ok(ServerAnswer::NoName)
}

/// Waits for the first usable answer. After a name server's failure the next one is asked at once; once each has
/// failed, the result is the last failure, and after [`SENT`] sendings without an answer [`NoAnswer::Silent`].
async fn answered(
    servers: &Servers,
    name: &Name,
    family: Family,
    pace: Duration,
) -> Result<(SocketAddr, DnsResponse), NoAnswer> {
    let in_turn = servers.in_turn();
    let mut next = in_turn.iter().cycle().take(SENT);
    let (mut waiting, mut failed) = (FuturesUnordered::new(), Vec::new());
    loop {
        if let Some(server) = next.find(|server| !failed.contains(*server)) {
            waiting.push(send(servers, *server, name, family));
        } else if waiting.is_empty() {
            return Err(NoAnswer::Silent);
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

/// Asks one name server once; over TCP if the answer is too long for a packet, or if `resolv.conf` says so. Returns the
/// server with its answer, or with the reason why there is none that says something about the name.
async fn send(
    servers: &Servers,
    server: SocketAddr,
    name: &Name,
    family: Family,
) -> (SocketAddr, Result<DnsResponse, NoAnswer>) {
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
    let fault = |error: NetError| NoAnswer::Unreachable { server, reason: in_our_words(&error) };
    (server, result.map_err(fault).and_then(|response| usable(server, response)))
}

/// Returns the kernel's error if there is one, else a text of Warmline's, as the library's texts are about its own
/// parts.
fn in_our_words(error: &NetError) -> String {
    match error {
        NetError::Io(error) => error.to_string(),
        NetError::Timeout | NetError::NoConnections => "it does not answer".into(),
        _ => "its answer is not a readable DNS message".into(),
    }
}

async fn over_udp(server: SocketAddr, request: DnsRequest) -> Result<DnsResponse, NetError> {
    let provider = TokioRuntimeProvider::default();
    let sender = UdpClientStream::builder(server, provider).with_timeout(Some(LISTENED));
    sender.with_max_retries(1).build().send_message(request).first_answer().await
}

/// Asks one name server over a TCP connection of its own, which ends with the answer. Fails if the server cannot be
/// reached or its answer is not DNS.
async fn over_tcp(server: SocketAddr, request: DnsRequest) -> Result<DnsResponse, NetError> {
    // The provider drives the connection for as long as it lives.
    let provider = TokioRuntimeProvider::default();
    let sender = TcpClientStream::exchange(server, None, LISTENED, None, provider.clone()).await?;
    let answer = sender.send(request).first_answer().await;
    drop(provider);
    answer
}

/// Returns an answer that says something about the name: that it exists or not. Fails with the code of any other.
fn usable(server: SocketAddr, response: DnsResponse) -> Result<DnsResponse, NoAnswer> {
    match response.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(response),
        ResponseCode::ServFail => Err(NoAnswer::Code { server, code: "SERVFAIL".into() }),
        ResponseCode::Refused => Err(NoAnswer::Code { server, code: "REFUSED".into() }),
        other => Err(NoAnswer::Code { server, code: other.to_str().into() }),
    }
}

/// The meaning of an answer.
enum ParsedAnswer {
    Answer(ServerAnswer),
    /// The name is an alias of this name, whose addresses the answer does not have.
    Alias(Name),
}

/// Returns the meaning of an answer that was heard at this time: the family's addresses, until the shortest time to
/// live on the way to them is over; that the name does not exist; or the alias to ask for next.
fn read(response: &DnsResponse, asked: &Name, family: Family, heard: Instant) -> ParsedAnswer {
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
        let part = FamilyAnswer { fresh_until, ..FamilyAnswer::new(family, addresses, heard) };
        return ParsedAnswer::Answer(ServerAnswer::Addresses(part));
    }
    if response.response_code == ResponseCode::NXDomain {
        return ParsedAnswer::Answer(ServerAnswer::NoName);
    }
    // An answer that tells how long the absence holds has followed the aliases to their end.
    let negative = response.negative_ttl();
    if owner != asked && negative.is_none() {
        return ParsedAnswer::Alias(owner.clone());
    }
    let fresh_until = negative.map(|negative| cache::until(heard, negative));
    ParsedAnswer::Answer(ServerAnswer::Addresses(FamilyAnswer {
        fresh_until,
        ..FamilyAnswer::new(family, addresses, heard)
    }))
}

/// Follows the aliases of an answer to the name that has the addresses; returns that name and the shortest time to live
/// on the way.
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
    /// Returns the type of DNS records that has this family's addresses.
    fn record(self) -> RecordType {
        match self {
            Self::V4 => RecordType::A,
            Self::V6 => RecordType::AAAA,
        }
    }
}
