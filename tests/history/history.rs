//! What both ends wrote down of one run: the clients before and after each request, the origins at each delivery.

use std::time::Instant;

use http::Method;

/// A request's name, unique within a run; it travels in the field `x-request`.
pub type Id = u64;

/// The field that carries the id.
pub const ID_FIELD: &str = "x-request";

/// What a client is about to send.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its name.
    pub id: Id,
    /// The place of its upstream in [`Rules::upstreams`].
    pub upstream: usize,
    /// GET or POST.
    pub method: Method,
    /// The hash of its body.
    pub body: u64,
}

/// How a request ended, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 200, with the content that belongs to this id.
    Right,
    /// 200, with any other content.
    Wrong,
    /// Another status: the proxy's own answer.
    Refused(u16),
    /// No whole response.
    Aborted,
}

/// What an origin did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The connection ended before the request was whole, or before the answer was.
    Unfinished,
    /// The origin wrote the whole answer.
    Answered,
    /// The origin reset the connection without a byte of an answer.
    ResetBeforeHeader,
    /// It did so within the answer's header.
    ResetInHeader,
    /// It did so within the answer's body.
    ResetInBody,
}

/// A request's arrival at an origin.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Whose it is.
    pub id: Id,
    /// The place of the origin in [`Rules::upstreams`].
    pub upstream: usize,
    /// The connection's number at this origin.
    pub connection: usize,
    /// As it arrived.
    pub method: Method,
    /// The field Host.
    pub host: String,
    /// The hash of its body; none while that was not whole.
    pub body: Option<u64>,
    /// What became of it.
    pub fate: Fate,
}

/// A connection, as an origin saw it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// When it was accepted.
    pub accepted: Instant,
    /// When the peer's end was seen, or the origin closed it.
    pub ended: Option<Instant>,
    /// The client certificate, in DER.
    pub client: Option<Vec<u8>>,
    /// The SNI.
    pub server_name: Option<String>,
}

/// What the proxy said of itself; a control says nothing.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// The most connections that one pool counted at any moment that was looked at.
    pub most: usize,
    /// Connections and waiters that were left in the pools after the drain.
    pub left: usize,
    /// Connections that it established, for each upstream.
    pub opened: Vec<u64>,
    /// Requests that it counted, before the drain.
    pub requests: u64,
    /// Configurations and certificates that it put in force, and certificates of origins that it came to believe.
    pub changes: u64,
}

/// One run, as both ends wrote it down.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Written before each request was sent.
    pub requests: Vec<Request>,
    /// Written when it had ended.
    pub outcomes: Vec<(Id, Outcome)>,
    /// Of all origins, in the order of arrival at each.
    pub deliveries: Vec<Delivery>,
    /// For each origin its connections, in order of acceptance.
    pub connections: Vec<Vec<Connection>>,
    /// The proxy's own word.
    pub account: Option<Account>,
}

/// Who an upstream is, and who we are towards it.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The SNI.
    pub name: String,
    /// What Host may say: the name, or with the endpoint's port behind it.
    pub hosts: Vec<String>,
    /// The client certificates that it may see, in DER; a rotation has more than one.
    pub identities: Vec<Vec<u8>>,
}

/// What a history is held against.
#[derive(Debug, Clone)]
pub struct Rules {
    /// In the order of their numbers.
    pub upstreams: Vec<Upstream>,
    /// `maxConnections` of each upstream.
    pub cap: usize,
    /// Whether the proxy has such a cap, so that more is a breach and not only a figure.
    pub strict_cap: bool,
    /// How often an idempotent request may be sent at most.
    pub attempts: usize,
}
