//! A name server made in the test: it answers as the test has set, or not at all, and remembers the questions.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

/// The type of record that a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    A = 1,
    Aaaa = 28,
}

/// A name server's answer to a question.
#[derive(Debug, Clone)]
pub enum Says {
    /// No answer at all.
    Silence,
    /// This response code, such as 2 for SERVFAIL.
    Code(u8),
    /// The name exists without such a record; the answer may be cached for this number of seconds, if given.
    NoData(Option<u32>),
    /// The name has these addresses, each for this number of seconds.
    Addresses(u32, Vec<IpAddr>),
    /// The name is an alias of this other name for so many seconds, about which the answer says nothing.
    Alias(u32, &'static str),
}

impl Says {
    /// Returns an answer with these addresses, valid for an hour.
    pub fn addresses(addresses: &[&str]) -> Self {
        Self::Addresses(3600, addresses.iter().map(|text| text.parse().unwrap()).collect())
    }
}

const NXDOMAIN: u8 = 3;
const CNAME: u16 = 5;
const SOA: u16 = 6;
/// The size of a UDP packet if the question does not allow a larger one.
const PACKET: usize = 512;

#[derive(Debug, Default)]
struct State {
    says: HashMap<(String, Kind), Says>,
    /// The number of questions to come that the server will lose.
    loses: usize,
    /// The questions so far, such as `A a.example`, except for those that were lost.
    asked: Vec<String>,
    lost: usize,
}

/// A running name server, which runs until the test's process ends.
#[derive(Debug, Clone)]
pub struct NameServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl NameServer {
    /// Starts a server on a free port. Only the names that [`NameServer::says`] sets exist.
    pub fn start() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        (0..100).find_map(|_| Self::try_start(free)).expect("a port that is free for UDP and TCP")
    }

    /// Starts a server on this address.
    pub fn start_at(address: SocketAddr) -> Self {
        Self::try_start(address).expect("the address is free")
    }

    fn try_start(address: SocketAddr) -> Option<Self> {
        let socket = UdpSocket::bind(address).ok()?;
        let address = socket.local_addr().ok()?;
        let listener = TcpListener::bind(address).ok()?;
        let server = Self { address, state: Arc::default() };
        let (over_udp, over_tcp) = (server.clone(), server.clone());
        thread::spawn(move || over_udp.serve(&socket));
        thread::spawn(move || over_tcp.serve_tcp(&listener));
        Some(server)
    }

    /// Returns the port, on 127.0.0.1 unless the server was started on another address.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Sets the answer for this name and kind from now on.
    pub fn says(&self, name: &str, kind: Kind, says: Says) -> &Self {
        self.state().says.insert((name.to_owned(), kind), says);
        self
    }

    /// Has the server lose this number of further questions.
    pub fn loses(&self, questions: usize) {
        self.state().loses = questions;
    }

    /// Returns all questions so far, such as `A a.example`, except for those that were lost.
    pub fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    /// Returns the number of questions that were lost.
    pub fn lost(&self) -> usize {
        self.state().lost
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&self, socket: &UdpSocket) {
        let mut query = [0; PACKET];
        while let Ok((length, peer)) = socket.recv_from(&mut query) {
            if let Some(mut answer) = self.answer(&query[..length]) {
                if answer.len() > PACKET {
                    // A truncated answer: only the question, and the flag TC.
                    answer = query[..length].to_vec();
                    (answer[2], answer[3]) = (0x83, 0x80);
                }
                let _ = socket.send_to(&answer, peer);
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            let (mut stream, server) = (stream.unwrap(), self.clone());
            thread::spawn(move || {
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut query = vec![0; u16::from_be_bytes(length).into()];
                    stream.read_exact(&mut query).unwrap();
                    let Some(answer) = server.answer(&query) else { continue };
                    let length = (answer.len() as u16).to_be_bytes();
                    stream.write_all(&[&length[..], &answer].concat()).unwrap();
                }
            });
        }
    }

    /// Returns the reply to a query (RFC 1035 section 4.1): the header, the question as it came, and the answers or the
    /// zone's SOA. `None` if the query is lost or gets no answer.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let (name, kind, end) = question(query);
        let mut state = self.state();
        if state.loses > 0 {
            state.loses -= 1;
            state.lost += 1;
            return None;
        }
        let word = if kind == Kind::A { "A" } else { "AAAA" };
        state.asked.push(format!("{word} {name}"));
        let says = state.says.get(&(name, kind)).cloned().unwrap_or(Says::Code(NXDOMAIN));
        drop(state);
        let (code, answers, soa) = match says {
            Says::Silence => return None,
            Says::Code(code) => (code, vec![], (code == NXDOMAIN).then_some(3600)),
            Says::NoData(ttl) => (0, vec![], ttl),
            Says::Addresses(ttl, addresses) => {
                let record = |ip: &IpAddr| record(kind as u16, ttl, &octets(*ip));
                (0, addresses.iter().map(record).collect(), None)
            }
            Says::Alias(ttl, target) => (0, vec![record(CNAME, ttl, &encoded(target))], None),
        };
        let counts = [0, 1, 0, answers.len() as u8, 0, u8::from(soa.is_some()), 0, 0];
        let mut answer = [&query[..2], &[0x81, 0x80 | code], &counts, &query[12..end]].concat();
        answer.extend(answers.concat());
        if let Some(ttl) = soa {
            // The SOA: two names, both the root, and five numbers, the last of which bounds the caching of a negative
            // answer.
            let numbers = ttl.to_be_bytes().repeat(5);
            answer.extend(record(SOA, ttl, &[&[0, 0], &numbers[..]].concat()));
        }
        Some(answer)
    }
}

/// Returns the name and the kind of a query's question, and the offset of the question's end.
fn question(query: &[u8]) -> (String, Kind, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let kind = if query[at + 2] == Kind::A as u8 { Kind::A } else { Kind::Aaaa };
    (labels.join("."), kind, at + 5)
}

fn encoded(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[label.len() as u8], label.as_bytes()].concat();
    [name.split('.').map(label).collect::<Vec<_>>().concat(), vec![0]].concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Returns a record of the question's name.
fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1]);
    record.extend(ttl.to_be_bytes());
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}
