//! The record of one run from both ends: the clients write before and after each request, the origins at each delivery.

use std::time::Instant;

use http::Method;

/// A request's number, unique within a run; the request carries it in the field `x-request`.
pub type Id = u64;

/// The field that carries the id.
pub const ID_FIELD: &str = "x-request";

/// A request, as its client notes it before sending.
#[derive(Debug, Clone)]
pub struct Request {
    /// The request's id.
    pub id: Id,
    /// The index of the request's upstream in [`Rules::upstreams`].
    pub upstream: usize,
    /// GET or POST.
    pub method: Method,
    /// The hash of the request's body.
    pub body: u64,
}

/// The end of a request, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Status 200, with the content that belongs to this request's id.
    Right,
    /// Status 200, with any other content.
    Wrong,
    /// Another status, which the proxy answered itself.
    Refused(u16),
    /// No complete response.
    Aborted,
}

/// The end of a delivery at its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The connection ended before the request or the response was complete.
    Unfinished,
    /// The origin wrote the whole answer.
    Answered,
    /// The origin reset the connection without a byte of an answer.
    ResetBeforeHeader,
    /// The origin reset the connection within the response's header.
    ResetInHeader,
    /// The origin reset the connection within the response's body.
    ResetInBody,
}

/// A request's arrival at an origin.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The id of the request.
    pub id: Id,
    /// The index of the origin's upstream in [`Rules::upstreams`].
    pub upstream: usize,
    /// The connection's number at this origin.
    pub connection: usize,
    /// The method as it arrived.
    pub method: Method,
    /// The value of the field Host.
    pub host: String,
    /// The hash of the request's body; `None` if the body did not arrive completely.
    pub body: Option<u64>,
    /// The end of this delivery.
    pub fate: Fate,
}

/// A connection, as an origin saw it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The time of its acceptance.
    pub accepted: Instant,
    /// The time at which the proxy's end was seen or the origin closed; `None` while open.
    pub ended: Option<Instant>,
    /// The client certificate, in DER; `None` if the client showed none.
    pub client: Option<Vec<u8>>,
    /// The server name of the handshake (SNI).
    pub server_name: Option<String>,
}

/// The proxy's own counts; controls give none.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// The highest number of connections in one pool over all looks.
    pub most: usize,
    /// The number of connections and waiters that were left in the pools after the drain.
    pub left: usize,
    /// The number of connections that the proxy established, for each upstream.
    pub opened: Vec<u64>,
    /// The number of requests that the proxy counted before the drain.
    pub requests: u64,
    /// The number of configurations and client certificates put in force, and of origins' certificates that were
    /// verified.
    pub changes: u64,
}

/// The notes of both ends about one run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The requests, each noted before it was sent.
    pub requests: Vec<Request>,
    /// The outcomes, each noted when its request had ended.
    pub outcomes: Vec<(Id, Outcome)>,
    /// The deliveries of all origins, in the order of arrival at each.
    pub deliveries: Vec<Delivery>,
    /// The connections of each origin, in order of acceptance.
    pub connections: Vec<Vec<Connection>>,
    /// The proxy's own counts; `None` for controls.
    pub account: Option<Account>,
}

/// An upstream as the rules see it: its names, and the client certificates that belong to it.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The server name (SNI).
    pub name: String,
    /// The values that the field Host may have: the name alone, or with the endpoint's port.
    pub hosts: Vec<String>,
    /// The client certificates that the proxy may show to this upstream, in DER; more than one if they rotate.
    pub identities: Vec<Vec<u8>>,
}

/// The rules that a history has to obey.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The upstreams, by their index.
    pub upstreams: Vec<Upstream>,
    /// `maxConnections` of each upstream.
    pub cap: usize,
    /// True if the proxy has such a cap; more connections are then a breach, otherwise only a figure.
    pub strict_cap: bool,
    /// The most times that an idempotent request may be sent.
    pub attempts: usize,
}
