//! Warmline's log lines, caught as they are emitted. All tests share one process, so a test finds its access line by a
//! target that no other test asks for, with `log.access` on in its configuration; a connection's rest is found by the
//! origin's port.

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

/// A log line: its values by key.
#[derive(Debug, Clone, Default)]
pub struct Line(BTreeMap<&'static str, String>);

impl Line {
    /// Returns the value of this key; empty if the line does not have it.
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

/// Catches all lines from now on.
pub fn catch() {
    LazyLock::force(&CATCHING);
}

/// Waits for the access line of the request with this method and target, such as `GET /only-here`, and returns it.
pub fn line_of(request: &str) -> Line {
    let find = || {
        let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().find(|line| line.get("req") == request).cloned()
    };
    wait_for(&format!("the line of {request}"), || find().is_some());
    find().expect("it was there just now")
}

/// Waits until connections to this port have gone to rest `times` times.
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

/// Waits until a client connection from this address has gone to rest `times` times.
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

/// Counts the lines so far whose `reason` contains this text.
pub fn with_reason(reason: &str) -> usize {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().filter(|line| line.get("reason").contains(reason)).count()
}

/// Counts the lines so far about this upstream whose message contains these words.
pub fn about(upstream: &str, words: &str) -> usize {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let said =
        |line: &&Line| line.get("upstream") == upstream && line.get("message").contains(words);
    lines.iter().filter(said).count()
}
