//! Hostile peers. Whatever one of them sends, rule R holds: its exchange fails cleanly, its connection is destroyed and never
//! pooled, a request at the same time and the one right after are untouched, nothing panics, every place comes back.

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
    client::{Broken, Client, Response},
    origin::{self, Connection, Gate, Origin},
    running::Running,
    setup::Setup,
};

/// What the client got for the request that met hostile bytes.
pub type Outcome = Result<Response, Box<Broken>>;

/// What the upstream does once it has sent its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Reads on until Warmline ends the connection.
    Waits,
    /// `close_notify`, FIN, and reads on.
    Closes,
    /// FIN without `close_notify`, and reads on.
    Truncates,
    /// RST.
    Resets,
    /// Serves on, as if all were well.
    Serves,
}

/// An upstream's hostile bytes, and the request that they answer.
pub struct Case {
    bytes: Arc<Vec<u8>>,
    then: Then,
    method: &'static str,
    version: &'static str,
    /// Further fields of the request.
    fields: &'static str,
    idle_limit: Option<&'static str>,
}

/// The target that is answered with hostile bytes.
const EVIL: &str = "/evil";
/// The first half of what the request at the same time gets; the second comes at the end.
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst";

impl Case {
    /// GET is answered with these bytes; then the upstream waits.
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

    /// What the upstream does next.
    pub fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }

    /// The method of the request.
    pub fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    /// The client speaks HTTP/1.0.
    pub fn client_of_http_10(self) -> Self {
        Self { version: "HTTP/1.0", ..self }
    }

    /// The request has these fields too, each with its line's end.
    pub fn asking(self, fields: &'static str) -> Self {
        Self { fields, ..self }
    }

    /// `timeouts.idle`.
    pub fn idle_limit(self, limit: &'static str) -> Self {
        Self { idle_limit: Some(limit), ..self }
    }

    /// Runs it, shows rule R, and answers what the client got.
    pub fn destroys(self) -> Outcome {
        let scene = self.scene();
        let outcome = scene.evil();
        scene.assert_destroyed();
        scene.end();
        outcome
    }

    /// Runs it where the answer was odd, but leaves the connection fit.
    pub fn keeps(self) -> Outcome {
        let scene = self.then(Then::Serves).scene();
        let outcome = scene.evil();
        scene.assert_kept();
        scene.end();
        outcome
    }

    /// Shows rule R, and that the client got 502 with this in its text.
    pub fn gives_bad_gateway(self, what: &str) {
        let answer = self.destroys().unwrap_or_else(|broken| panic!("{what}: {broken:#?}"));
        assert_eq!(answer.status, 502, "{what}: {answer:#?}");
        assert!(answer.head.field("proxy-status").is_some(), "{what}: {answer:#?}");
    }

    /// Shows rule R, and that the client can tell that its response is not whole.
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

/// One connection of the hostile upstream.
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

/// A request at the same time is under way, on connection 0; the hostile one will be on connection 1.
struct Scene {
    // The first to be dropped: a client that stays would hold up Warmline's end.
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

    /// The connection ended, and what came right after went on another.
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

    /// What came right after went on the same connection.
    fn assert_kept(&self) {
        assert_eq!(self.warmline.one_shot("/after").text(), "right");
        let record = self.origin.record();
        assert_eq!((record.connections.len(), record.connections[1].requests), (2, 2));
    }

    /// The bystander's response comes whole, and every place comes back.
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

/// A request without a body for the origin.
pub fn request(method: &str, target: &str, version: &str) -> String {
    format!("{method} {target} {version}\r\nHost: {}\r\n\r\n", origin::NAME)
}
