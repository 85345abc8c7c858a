//! Hostile peers. Rule R holds whatever they send: the exchange fails cleanly, its connection is destroyed and never
//! pooled, a simultaneous request and the next one are not disturbed, nothing panics, and every slot is free again.

mod administration;
pub mod bare_tls;
mod chains;
mod chunks;
mod descriptors;
mod downstream_framing;
mod early_answers;
mod ends;
mod expectations;
mod framing;
mod hanging_files;
mod heads;
mod names;
mod retries;
mod tls;
mod upgrades;

use std::sync::Arc;

use crate::support::{
    client::{Client, IncompleteResponse, Response},
    origin::{self, Connection, Gate, Origin},
    running::Running,
    setup::Setup,
};

/// The client's result of the request that was answered with hostile bytes.
pub type Outcome = Result<Response, Box<IncompleteResponse>>;

/// The upstream's behaviour after its hostile bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Reads on until Warmline ends the connection.
    Waits,
    /// Sends `close_notify` and FIN, and reads on.
    Closes,
    /// Sends FIN without `close_notify`, and reads on.
    Truncates,
    /// Sends RST.
    Resets,
    /// Serves further requests as if nothing were wrong.
    Serves,
}

/// The hostile bytes of an upstream, and the request that they answer.
pub struct Case {
    bytes: Arc<Vec<u8>>,
    then: Then,
    method: &'static str,
    version: &'static str,
    /// Further fields of the request.
    fields: &'static str,
    idle_limit: Option<&'static str>,
}

/// The target that the upstream answers with hostile bytes.
const EVIL: &str = "/evil";
/// The first half of the bystander's response, the simultaneous request's; the second half comes at the end.
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst";

impl Case {
    /// Makes a case in which a GET is answered with these bytes; then the upstream waits.
    pub fn answered(bytes: impl AsRef<[u8]>) -> Self {
        Self {
            bytes: Arc::new(bytes.as_ref().to_vec()),
            then: Then::Waits,
            method: "GET",
            version: "HTTP/1.1",
            fields: "",
            idle_limit: None,
        }
    }

    /// Sets the upstream's behaviour after the bytes.
    pub fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }

    /// Sets the method of the request.
    pub fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    /// Has the client speak HTTP/1.0.
    pub fn client_of_http_10(self) -> Self {
        Self { version: "HTTP/1.0", ..self }
    }

    /// Adds these fields to the request, each with its line's end.
    pub fn asking(self, fields: &'static str) -> Self {
        Self { fields, ..self }
    }

    /// Sets `timeouts.idle`.
    pub fn idle_limit(self, limit: &'static str) -> Self {
        Self { idle_limit: Some(limit), ..self }
    }

    /// Runs the case, asserts rule R, and returns the client's result.
    pub fn destroys(self) -> Outcome {
        let scene = self.scene();
        let outcome = scene.evil();
        scene.assert_destroyed();
        scene.end();
        outcome
    }

    /// Runs a case whose response is odd but leaves the connection fit; asserts that the connection is kept, and
    /// returns the client's result.
    pub fn keeps(self) -> Outcome {
        let scene = self.then(Then::Serves).scene();
        let outcome = scene.evil();
        scene.assert_kept();
        scene.end();
        outcome
    }

    /// Asserts rule R, and that the client got a 502; `what` names the case in failures.
    pub fn gives_bad_gateway(self, what: &str) {
        let answer = self.destroys().unwrap_or_else(|broken| panic!("{what}: {broken:#?}"));
        assert_eq!(answer.status, 502, "{what}: {answer:#?}");
        assert!(answer.head.field("proxy-status").is_some(), "{what}: {answer:#?}");
    }

    /// Asserts rule R, and that the client can tell that its response is incomplete; `what` names the case in failures.
    pub fn breaks(self, what: &str) {
        if let Ok(answer) = self.destroys() {
            panic!("{what}: the client took it for whole: {answer:#?}");
        }
    }

    fn scene(self) -> Scene {
        let (bytes, then, gate) = (Arc::clone(&self.bytes), self.then, Gate::new());
        let released = gate.clone();
        let origin =
            Origin::scripted(move |peer| serve(peer, Arc::clone(&bytes), then, released.clone()))
                .start();
        let mut setup = Setup::before(&origin);
        if let Some(limit) = self.idle_limit {
            setup = setup.set("timeouts.idle", limit);
        }
        let warmline = setup.start();
        let mut bystander = warmline.connect();
        bystander.send(request("GET", "/bystander", "HTTP/1.1"));
        bystander.response_head();
        let Self { method, version, fields, .. } = self;
        Scene { bystander, origin, warmline, gate, method, version, fields }
    }
}

/// Serves one connection of the hostile upstream.
async fn serve(mut peer: Connection, bytes: Arc<Vec<u8>>, then: Then, gate: Gate) {
    while let Some(head) = peer.head().await {
        let target = head.start.split(' ').nth(1).unwrap_or_default();
        match target {
            EVIL => {
                peer.write(&*bytes).await;
                match then {
                    Then::Serves => {}
                    Then::Waits => break,
                    Then::Closes => peer.half_close().await,
                    Then::Truncates => peer.half_close_without_notify().await,
                    Then::Resets => return peer.reset(),
                }
                if then != Then::Serves {
                    break;
                }
            }
            "/bystander" => {
                peer.write(HALF).await;
                gate.opened().await;
                peer.write("other").await;
            }
            _ => {
                peer.answer("right").await;
            }
        }
    }
    peer.close().await;
}

/// A running case: the bystander's request is in flight on connection 0; the hostile exchange will be on connection 1.
struct Scene {
    // The first field, so that it is dropped first: a client that stays would delay Warmline's end.
    bystander: Client,
    origin: Origin,
    warmline: Running,
    gate: Gate,
    method: &'static str,
    version: &'static str,
    fields: &'static str,
}

impl Scene {
    fn evil(&self) -> Outcome {
        let mut client = self.warmline.connect();
        let line = request(self.method, EVIL, self.version);
        let (line, end) = line.split_at(line.len() - 2);
        client.send(format!("{line}{}{end}", self.fields));
        client.response_to(self.method)
    }

    /// Asserts that the connection of the hostile exchange ended, and that the next request took another.
    fn assert_destroyed(&self) {
        assert_eq!(self.warmline.one_shot("/after").text(), "right");
        self.warmline.wait_for_pool("nothing active but the bystander", |pool| {
            pool.census.active == 1 && pool.census.closing == 0 && pool.census.idle == 1
        });
        let record = self.origin.record();
        let evil: Vec<_> = record.requests.iter().filter(|r| r.target == EVIL).collect();
        assert_eq!(evil.len(), 1, "it was sent {} times", evil.len());
        assert_eq!(record.connections[evil[0].connection].requests, 1, "it was used again");
        assert_eq!(record.connections.len(), 3);
    }

    /// Asserts that the next request took the same connection as the hostile exchange.
    fn assert_kept(&self) {
        assert_eq!(self.warmline.one_shot("/after").text(), "right");
        let record = self.origin.record();
        assert_eq!((record.connections.len(), record.connections[1].requests), (2, 2));
    }

    /// Asserts that the bystander's response comes whole and that every slot is free again.
    fn end(mut self) {
        self.gate.open();
        let rest = std::iter::repeat_with(|| self.bystander.read_some().expect("the rest"));
        let mut came = Vec::new();
        for bytes in rest {
            came.extend(bytes);
            if came.len() >= 10 {
                break;
            }
        }
        assert_eq!(came, b"firstother", "the bystander's body");
        self.warmline.wait_for_pool("the bystander's return", |pool| {
            pool.census.active == 0 && pool.census.total() == pool.census.idle
        });
    }
}

/// Returns a request without a body for the origin.
pub fn request(method: &str, target: &str, version: &str) -> String {
    format!("{method} {target} {version}\r\nHost: {}\r\n\r\n", origin::NAME)
}
