//! The clients: each on a thread and a connection of its own, with requests that follow from the seed.

use std::{net::SocketAddr, sync::Mutex, thread, time::Duration};

use http::Method;

use crate::{
    content,
    faults::Run,
    history::{History, ID_FIELD, Id, Outcome, Request},
    support::{client::Client, together},
};

/// The number of clients that send at the same time.
pub const CLIENTS: usize = 16;

/// The amount and the seed of the requests of one run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The number of requests, over all clients.
    pub requests: usize,
    /// The seed; the same seed makes the same requests.
    pub seed: u64,
}

/// Sends all requests through the proxy and returns what the clients noted.
pub fn send(load: Load, run: &Run, proxy: SocketAddr, hosts: &[&str]) -> History {
    let whole = Mutex::new(History::default());
    together(CLIENTS, |number| {
        let own = Sender { client: Client::connect(proxy), proxy, hosts }.run(load, run, number);
        let mut whole = whole.lock().expect("no client panics while it writes down");
        whole.requests.extend(own.requests);
        whole.outcomes.extend(own.outcomes);
    });
    whole.into_inner().expect("no client panics while it writes down")
}

/// A client: its connection, the proxy's address for the next connection, and the hosts to ask.
struct Sender<'a> {
    client: Client,
    proxy: SocketAddr,
    hosts: &'a [&'a str],
}

impl Sender<'_> {
    fn run(mut self, load: Load, run: &Run, number: usize) -> History {
        let mut random = content::random(load.seed.wrapping_add(number as u64), "load");
        let mut history = History::default();
        for turn in 0..load.requests / CLIENTS {
            pause(run.pause, &mut random);
            let id = (number * load.requests + turn) as Id;
            let upstream = random.usize(..self.hosts.len());
            let method = if random.bool() { Method::GET } else { Method::POST };
            let body = if method == Method::POST { content::body(id) } else { Vec::new() };
            let hash = content::hash(&body);
            history.requests.push(Request { id, upstream, method: method.clone(), body: hash });
            let outcome = self.exchange(&method, self.hosts[upstream], id, &body);
            history.outcomes.push((id, outcome));
        }
        history
    }

    fn exchange(&mut self, method: &Method, host: &str, id: Id, body: &[u8]) -> Outcome {
        let length = body.len();
        let length = (method == Method::POST).then(|| format!("Content-Length: {length}\r\n"));
        let length = length.unwrap_or_default();
        let head = format!("{method} /{id} HTTP/1.1\r\nHost: {host}\r\n{ID_FIELD}: {id}\r\n");
        let request = [head.as_bytes(), length.as_bytes(), b"\r\n", body].concat();
        // A proxy may answer and close before the whole request was written; that answer can still be read.
        let written = self.client.try_send(request);
        let response = self.client.response_to(method.as_str());
        let Ok(response) = response else {
            self.client = Client::connect(self.proxy);
            return Outcome::Aborted;
        };
        if written.is_err() || response.head.field("connection") == Some("close") {
            self.client = Client::connect(self.proxy);
        }
        match response.status {
            200 if response.body == content::answer(id).content => Outcome::Right,
            200 => Outcome::Wrong,
            status => Outcome::Refused(status),
        }
    }
}

/// Pauses for a random time up to `longest` before about half of the requests; the others follow at once.
fn pause(longest: Duration, random: &mut fastrand::Rng) {
    if random.bool() && !longest.is_zero() {
        thread::sleep(Duration::from_micros(random.u64(..=longest.as_micros() as u64)));
    }
}
