//! What the product logs, caught as it emits it. Tests share one process: an access line is found by a target that one
//! test alone asks for, and `log.access` must be on in its configuration; a connection's rest by the origin's port.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    net::SocketAddr,
    sync::{LazyLock, Mutex, PoisonError},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer, filter::filter_fn, layer::Context, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use super::wait_for;

/// One line: what stands behind each key.
#[derive(Debug, Clone, Default)]
pub struct Line(BTreeMap<&'static str, String>);

impl Line {
    /// What stands behind this key; empty where it is missing.
    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

struct Lines;

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

static CATCHING: LazyLock<()> = LazyLock::new(|| {
    let wanted = [
        "warmline::access",
        "warmline::app::live",
        "warmline::connect::connection",
        "warmline::listener::connection",
        "warmline::upstream::dial",
    ];
    let caught = filter_fn(move |event| wanted.contains(&event.target()));
    tracing_subscriber::registry().with(Lines.with_filter(caught)).init();
});

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// Lines are caught from now on.
pub fn catch() {
    LazyLock::force(&CATCHING);
}

/// Waits for the line of the request with this request line, such as `GET /only-here`.
pub fn line_of(request: &str) -> Line {
    let find = || {
        let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().find(|line| line.get("req") == request).cloned()
    };
    wait_for(&format!("the line of {request}"), || find().is_some());
    find().expect("it was there just now")
}

/// Waits until connections to this port have gone to rest so often.
pub fn rests(port: u16, times: usize) {
    let peer = format!("127.0.0.1:{port}");
    wait_for("an idle connection's rest", || {
        let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        let rested = |line: &&Line| {
            line.get("message") == "an idle connection rests" && line.get("peer") == peer
        };
        lines.iter().filter(rested).count() >= times
    });
}

/// Waits until a client connection from this address has gone to rest so often.
pub fn client_rests(client: SocketAddr, times: usize) {
    let client = client.to_string();
    wait_for("a client connection's rest", || {
        let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        let rested = |line: &&Line| {
            line.get("message") == "an idle client connection rests" && line.get("client") == client
        };
        lines.iter().filter(rested).count() >= times
    });
}

/// The lines so far with this reason.
pub fn with_reason(reason: &str) -> usize {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().filter(|line| line.get("reason").contains(reason)).count()
}

/// How many lines so far are about this upstream and say this.
pub fn about(upstream: &str, words: &str) -> usize {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let said =
        |line: &&Line| line.get("upstream") == upstream && line.get("message").contains(words);
    lines.iter().filter(said).count()
}
