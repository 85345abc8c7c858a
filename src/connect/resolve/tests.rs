//! Real DNS, of a name server made in the test.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

use hickory_resolver::{
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};

use super::*;
use crate::connect::{ConnectError, Endpoint, EndpointHost, Limits, dial::reach};

const NAME: &str = "a.example.";
const NXDOMAIN: u8 = 3;
const TYPE_A: u16 = 1;
const TYPE_SOA: u16 = 6;
const HOUR: u32 = 3600;

/// What a name server answers now: each address with this time to live; without one there is no such name.
#[derive(Debug, Clone, Default)]
struct Zone(Arc<Mutex<(u32, Vec<Ipv4Addr>)>>);

impl Zone {
    fn set(&self, ttl: u32, addresses: &[Ipv4Addr]) {
        *self.0.lock().unwrap() = (ttl, addresses.to_vec());
    }

    /// Answers until the test's process ends, on this port.
    fn serve(&self) -> u16 {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let zone = self.clone();
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut query) {
                let _ = socket.send_to(&zone.answer(&query[..length]), peer);
            }
        });
        port
    }

    /// RFC 1035 section 4.1: the header, the question as it came, and its answers or the zone's SOA.
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let (ttl, addresses) = self.0.lock().unwrap().clone();
        let question_end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let question = &query[12..question_end];
        let asks_a = question[question.len() - 4..][..2] == TYPE_A.to_be_bytes();
        let answers = if asks_a { &addresses[..] } else { &[] };
        let code = if addresses.is_empty() { NXDOMAIN } else { 0 };
        let soas = u8::from(answers.is_empty());
        let mut answer = [&query[..2], &[0x81, 0x80 | code, 0, 1]].concat();
        answer.extend([0, answers.len() as u8, 0, soas, 0, 0]);
        answer.extend(question);
        for address in answers {
            answer.extend(record(TYPE_A, ttl, &address.octets()));
        }
        if soas == 1 {
            // Two names, both the root, and five numbers: each an hour, the last for how long "none" may be kept.
            let numbers = HOUR.to_be_bytes().repeat(5);
            answer.extend(record(TYPE_SOA, HOUR, &[&[0, 0], &numbers[..]].concat()));
        }
        answer
    }
}

/// A record of the question's name.
fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1]);
    record.extend(ttl.to_be_bytes());
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

/// With a name server on this port, and our options.
fn resolver(port: u16, timeout: Duration) -> Resolver {
    let mut connection = ConnectionConfig::udp();
    connection.port = port;
    let server = NameServerConfig::new(IpAddr::V4(Ipv4Addr::LOCALHOST), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    set_options(builder.options_mut());
    builder.options_mut().timeout = timeout;
    builder.options_mut().attempts = 1;
    Resolver::System(Arc::new(builder.build().expect("a resolver")))
}

async fn found(resolver: &Resolver) -> Result<Vec<IpAddr>, String> {
    resolver.addresses(NAME).await
}

fn scene() -> (Zone, Resolver) {
    let zone = Zone::default();
    let resolver = resolver(zone.serve(), Duration::from_secs(10));
    (zone, resolver)
}

const FIRST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

#[tokio::test]
async fn where_no_name_server_answers_it_is_said_and_where_they_come_from() {
    // A port that was free a moment ago: nobody reads what is sent there.
    let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| s.local_addr());
    let resolver = resolver(closed.expect("a free port").port(), Duration::from_millis(100));
    let reason = resolver.addresses("a.example").await.expect_err("nobody answers");
    assert!(reason.contains("no name server answered"), "{reason}");
    assert!(reason.contains("/etc/resolv.conf"), "{reason}");
}

#[tokio::test]
async fn case_51_an_answer_without_time_to_live_is_asked_for_again_and_one_with_it_is_kept() {
    let (zone, resolver) = scene();
    zone.set(0, &[FIRST]);
    assert_eq!(found(&resolver).await, Ok(vec![FIRST.into()]));
    zone.set(HOUR, &[SECOND]);
    assert_eq!(found(&resolver).await, Ok(vec![SECOND.into()]));
    zone.set(HOUR, &[FIRST]);
    assert_eq!(found(&resolver).await, Ok(vec![SECOND.into()]));
}

#[tokio::test]
async fn case_51_that_there_is_no_such_name_does_not_stick_whatever_the_zone_says() {
    let (zone, resolver) = scene();
    assert_eq!(found(&resolver).await, Err("there is no such name".into()));
    zone.set(0, &[FIRST]);
    assert_eq!(found(&resolver).await, Ok(vec![FIRST.into()]));
    zone.set(0, &[]);
    assert_eq!(found(&resolver).await, Err("there is no such name".into()));
    zone.set(0, &[SECOND]);
    assert_eq!(found(&resolver).await, Ok(vec![SECOND.into()]));
}

#[tokio::test]
async fn case_51_fifty_addresses_are_all_found() {
    let (zone, resolver) = scene();
    let many: Vec<_> = (0..50).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
    zone.set(0, &many);
    let mut found = found(&resolver).await.expect("addresses");
    found.sort();
    assert_eq!(found, many.into_iter().map(IpAddr::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn case_51_a_name_server_that_is_silent_costs_no_more_than_the_connect_limit() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let resolver = resolver(silent.local_addr().unwrap().port(), Duration::from_mins(1));
    let endpoint = Endpoint { host: EndpointHost::Name(NAME.into()), port: 443 };
    let limit = Duration::from_millis(100);
    let limits = Limits { connect: limit, handshake: limit };
    let reached = reach(&endpoint, &resolver, &limits, |_| ()).await;
    assert!(matches!(reached, Err(ConnectError::ConnectTimeout { .. })));
}
