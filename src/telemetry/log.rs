//! The log: text or JSON lines on standard error, one line for each event.
//!
//! Events of this crate have the target `warmline` or one below it, and become lines by their level. Two targets do not
//! go by the level alone: `warmline::access`, for the end of a request, by the setting `access`; and
//! `warmline::connection`, for the end of a connection, which is logged if `access` is `all`, or at the level `debug`
//! or below. [`admits`] bounds the lines of both in each second. A duration is recorded with [`seconds`]: JSON has it
//! as a number of seconds (`"total":0.0021`), text as people write it (`total=2.1ms`).

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
pub use text::HumanDuration;
use text::Text;
use writer::Queue;

/// The prefix of the targets of this crate's events: the crate's name.
const OURS: &str = "warmline";
/// The target of a request's end.
const ACCESS: &str = "warmline::access";
/// The target of a connection's end.
const CONNECTION: &str = "warmline::connection";

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON object on each line.
    Json,
    /// A message and `key=value` pairs on each line.
    Text,
}

impl Format {
    /// Returns the value of `log.format` that selects this format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

/// The least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Failures that need an operator.
    Error,
    /// Events that may lead to such failures.
    Warn,
    /// Starts, ends, transitions.
    Info,
    /// The end of each connection.
    Debug,
    /// Everything, also from the libraries.
    Trace,
}

/// The requests that get an access line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Access {
    /// No requests.
    Off,
    /// Requests that Warmline answered itself, or that broke.
    Errors,
    /// Every request.
    All,
}

/// The setting for access lines, which can be changed at any time.
#[derive(Debug)]
pub struct AccessSwitch(AtomicU8);

impl AccessSwitch {
    /// Makes a switch with this setting.
    pub const fn new(access: Access) -> Self {
        Self(AtomicU8::new(access as u8))
    }

    /// Returns the setting.
    pub fn get(&self) -> Access {
        match self.0.load(Relaxed) {
            0 => Access::Off,
            1 => Access::Errors,
            _ => Access::All,
        }
    }

    /// Changes the setting from now on.
    pub fn set(&self, access: Access) {
        self.0.store(access as u8, Relaxed);
    }
}

/// The settings of the log ("What is told: metrics, log, page" in docs/design.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The format of lines.
    pub format: Format,
    /// The least severe level that is logged.
    pub level: Level,
    /// The requests that get an access line.
    pub access: Access,
    /// The most access lines in a second; 0: no bound.
    pub access_rate: u32,
}

impl Settings {
    /// Returns the default settings: on a terminal those for people, else those for programs that read logs.
    #[must_use]
    pub const fn by_default(terminal: bool) -> Self {
        let (format, access) =
            if terminal { (Format::Text, Access::All) } else { (Format::Json, Access::Errors) };
        Self { format, level: Level::Info, access, access_rate: 1000 }
    }
}

/// Sends all events to standard error from now on. Only the first call in a process has an effect.
///
/// A thread of its own writes the lines, so that code that logs never waits for the reader of standard error. A line
/// that cannot be written (nothing reads standard error any more) is lost silently; lines that find no room are
/// counted, and the number is logged later. Call [`flush`] at the end of the process.
pub fn init(settings: &Settings) {
    RATE.get_or_init(|| Arc::new(Rate::default())).set(settings.access_rate.into());
    let subscriber = match queue(settings.format) {
        Ok(queue) => subscriber(settings, queue.clone()),
        // Without a thread, lines are written by the threads that log.
        Err(_) => subscriber(settings, io::stderr),
    };
    // An error means that there is a subscriber already, which a second call leaves alone.
    let (subscriber, filtering) = subscriber;
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _ = FILTER.set(filtering);
    }
}

/// Changes `level`, `access` and `access_rate` from now on; the format stays.
pub fn reconfigure(settings: &Settings) {
    if let Some(rate) = RATE.get() {
        rate.set(settings.access_rate.into());
    }
    if let Some(filtering) = FILTER.get() {
        // The reload fails only if the subscriber is gone: then nothing is logged any more.
        let _ = filtering.reload(filter(settings));
    }
}

type Filter = Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>;

/// The handle by which the filter is replaced; set by [`init`].
static FILTER: OnceLock<reload::Handle<Filter, Registry>> = OnceLock::new();

/// The bound on access lines; set by [`init`].
static RATE: OnceLock<Arc<Rate>> = OnceLock::new();

/// True if an access line may be written now. If not, it is counted as left out, and the count is logged later.
#[must_use]
pub fn admits(line: Line) -> bool {
    RATE.get().is_none_or(|rate| rate.admits(line, writer::second(Instant::now())))
}

/// Waits until all lines so far are written, but no longer than this.
pub fn flush(limit: Duration) {
    if let Some(queue) = QUEUE.get() {
        queue.flush(limit);
    }
}

/// The process's queue of lines; the format of the first call stays.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Returns the process's queue of lines; at the first call, starts the thread that writes them. Fails if there is no
/// descriptor or thread for it.
fn queue(format: Format) -> io::Result<&'static Queue> {
    if let Some(queue) = QUEUE.get() {
        return Ok(queue);
    }
    // The queue has a descriptor of its own: a write that stalls must not hold the lock that `eprintln!` takes.
    let sink = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let rate = RATE.get_or_init(|| Arc::new(Rate::default()));
    let started = writer::start(format, sink, Arc::clone(rate))?;
    Ok(QUEUE.get_or_init(|| started))
}

/// Returns a duration as the value of an event's field: in seconds, with the precision of a microsecond.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

/// Makes the subscriber that writes events as lines in the configured format, and the handle by which its filter can be
/// replaced. Installs nothing.
fn subscriber<W>(
    settings: &Settings,
    writer: W,
) -> (Box<dyn Subscriber + Send + Sync>, reload::Handle<Filter, Registry>)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // The layer would report a failed write through `eprintln!`, which panics on a broken pipe.
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

/// Makes the filter that decides which events become lines, by their target and level: ends of requests unless `access`
/// is off, whatever the level; ends of connections if `access` is for all requests, or the level is `debug` or `trace`;
/// other events of this crate by the level. Of the libraries only warnings and errors pass, but everything at `trace`;
/// of kube's client nothing passes but at `trace`. The filter is asked once for each place in the code, not for each
/// event.
fn filter(settings: &Settings) -> Filter {
    let Settings { level, access, .. } = *settings;
    let own = own_level(level);
    // At `trace` the libraries' events become lines as well; at other levels only their warnings and errors.
    let foreign = if level == Level::Trace { own } else { own.min(LevelFilter::WARN) };
    let wanted = move |event: &Metadata<'_>| match event.target() {
        ACCESS => access != Access::Off,
        CONNECTION => access == Access::All || own >= LevelFilter::DEBUG,
        target if is_ours(target) => *event.level() <= own,
        // kube's errors reach Warmline's code, which logs them in its own words.
        target if target.starts_with("kube_client") => level == Level::Trace,
        _ => *event.level() <= foreign,
    };
    Box::new(filter_fn(wanted).with_max_level_hint(own.max(LevelFilter::INFO)))
}

/// Returns the level up to which this crate's events are logged.
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
