//! The log: text or JSON lines on standard error, one line an event.
//!
//! Events of this crate have the target `warmline`, and two of them one of their own:
//! `warmline::access` is a request's end, `warmline::connection` a connection's. A time that took
//! so long is recorded with [`seconds`]: JSON has it as a number of seconds (`"total":0.0021`),
//! text as people write it (`total=2.1ms`).

mod rate;
mod text;
mod writer;

use std::{
    fs::File,
    io,
    os::fd::AsFd as _,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _, Registry,
    filter::filter_fn,
    fmt::{Layer, MakeWriter},
    layer::SubscriberExt as _,
    reload,
};

pub use rate::Line;
use rate::Rate;
pub use text::Human;
use text::Text;
use writer::Queue;

/// The crate's own events, as Rust names their targets.
const OURS: &str = "warmline";
/// A request's end.
const ACCESS: &str = "warmline::access";
/// A connection's end.
const CONNECTION: &str = "warmline::connection";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// `key=value` pairs after a message.
    Text,
}

/// The least severe event that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Failures that need somebody.
    Error,
    /// What may become one.
    Warn,
    /// Starts, ends, transitions.
    Info,
    /// Each connection's end.
    Debug,
    /// Everything, the libraries' too.
    Trace,
}

/// Which requests get an access line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Access {
    /// None.
    Off,
    /// Those that Warmline answered itself, or that broke.
    Errors,
    /// Every one.
    All,
}

/// Which requests get an access line; it can be changed at any time.
#[derive(Debug)]
pub struct AccessSwitch(AtomicU8);

impl AccessSwitch {
    /// Set to this.
    pub const fn new(access: Access) -> Self {
        Self(AtomicU8::new(access as u8))
    }

    /// What it is set to.
    pub fn get(&self) -> Access {
        match self.0.load(Relaxed) {
            0 => Access::Off,
            1 => Access::Errors,
            _ => Access::All,
        }
    }

    /// From now on it is set to this.
    pub fn set(&self, access: Access) {
        self.0.store(access as u8, Relaxed);
    }
}

/// What the log is to be ("What is told: metrics, log, page" in docs/design.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// JSON or text.
    pub format: Format,
    /// The least severe event that is logged.
    pub level: Level,
    /// Which requests get a line.
    pub access: Access,
    /// The most access lines in a second; 0: no bound.
    pub access_rate: u32,
}

/// Sends all events to standard error from now on. Only the first call of a process does anything.
///
/// A thread writes them, so that whoever logs never waits for whoever reads. A line that cannot be written (nobody
/// reads standard error any more) is lost without a word; one that finds no room is told of later. [`flush`] it at the
/// process's end.
pub fn init(settings: &Settings) {
    RATE.get_or_init(|| Arc::new(Rate::default())).set(settings.access_rate.into());
    let subscriber = match queue(settings.format) {
        Ok(queue) => subscriber(settings, queue.clone()),
        // Without a thread lines are written where they come up.
        Err(_) => subscriber(settings, io::stderr),
    };
    // An error says that there is a subscriber already, which is what a second call is to leave
    // alone.
    let (subscriber, filtering) = subscriber;
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _ = FILTER.set(filtering);
    }
}

/// From now on `level`, `access` and `access_rate` are these; the format stays.
pub fn reconfigure(settings: &Settings) {
    if let Some(rate) = RATE.get() {
        rate.set(settings.access_rate.into());
    }
    if let Some(filtering) = FILTER.get() {
        // It fails only where the subscriber is gone: then nothing is logged any more.
        let _ = filtering.reload(filter(settings));
    }
}

type Filter = Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>;

/// What decides which events become lines, once [`init`] was called.
static FILTER: OnceLock<reload::Handle<Filter, Registry>> = OnceLock::new();

/// The bound on access lines, once [`init`] was called.
static RATE: OnceLock<Arc<Rate>> = OnceLock::new();

/// True if an access line may be written now; if not, it counts among those that are told as left out.
#[must_use]
pub fn admits(line: Line) -> bool {
    RATE.get().is_none_or(|rate| rate.admits(line, writer::second(Instant::now())))
}

/// Waits until the lines so far are written, but no longer than this.
pub fn flush(limit: Duration) {
    if let Some(queue) = QUEUE.get() {
        queue.flush(limit);
    }
}

/// The process's queue; the first call's format is the one that lasts.
static QUEUE: OnceLock<Queue> = OnceLock::new();

fn queue(format: Format) -> io::Result<&'static Queue> {
    if let Some(queue) = QUEUE.get() {
        return Ok(queue);
    }
    // A descriptor of its own: a write that stalls must not hold the lock that `eprintln!` takes.
    let sink = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let rate = RATE.get_or_init(|| Arc::new(Rate::default()));
    let started = writer::start(format, sink, Arc::clone(rate))?;
    Ok(QUEUE.get_or_init(|| started))
}

/// How long something took, for an event's field: seconds, to the microsecond.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

fn subscriber<W>(
    settings: &Settings,
    writer: W,
) -> (Box<dyn Subscriber + Send + Sync>, reload::Handle<Filter, Registry>)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // The layer's own complaints about a failed write go through `eprintln!`, which panics on a
    // broken pipe.
    let lines = Layer::default().with_writer(writer).log_internal_errors(false);
    let lines = match settings.format {
        Format::Text => lines.event_format(Text).boxed(),
        Format::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    };
    let (filter, filtering) = reload::Layer::new(filter(settings));
    (Box::new(Registry::default().with(filter).with(lines)), filtering)
}

/// Which events become lines; asked once for each place in the code, not for each event.
fn filter(settings: &Settings) -> Filter {
    let Settings { level, access, .. } = *settings;
    let own = own_level(level);
    // At trace the libraries speak as well; before that, only of what may need somebody.
    let foreign = if level == Level::Trace { own } else { own.min(LevelFilter::WARN) };
    let wanted = move |event: &Metadata<'_>| match event.target() {
        ACCESS => access != Access::Off,
        CONNECTION => access == Access::All || own >= LevelFilter::DEBUG,
        target if is_ours(target) => *event.level() <= own,
        // Its errors come to us, and are told in our words.
        target if target.starts_with("kube_client") => level == Level::Trace,
        _ => *event.level() <= foreign,
    };
    Box::new(filter_fn(wanted).with_max_level_hint(own.max(LevelFilter::INFO)))
}

const fn own_level(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

fn is_ours(target: &str) -> bool {
    target.strip_prefix(OURS).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests;
