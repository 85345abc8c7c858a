//! `warmline run`: runs the sidecar until a signal ends it.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::Sender,
    thread,
    time::Duration,
};

use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    app::{self, Environment, Running, StartError},
    config::{self, CommandLineOverrides, KeptConfiguration, Source, configmap::Reference},
    drain::Drain,
    telemetry::log,
};

/// The arguments of `warmline run`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration; beside --configmap, its mounted copy
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The configuration in a `ConfigMap`, watched at the API server
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    configmap: Option<String>,
    /// The `ConfigMap`'s key
    #[arg(long, value_name = "KEY", default_value = "config.yaml", requires = "configmap")]
    key: String,
    /// A folder that the configuration in force is kept in; a restart begins with it if the current one cannot be used
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Refuse a configuration that sets allowNonLoopback, changes the addresses of metrics or administration, or names
    /// files outside /etc/warmline
    #[arg(long)]
    confined: bool,
    /// The least severe level that is logged, in place of the configuration's log.level
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<Level>,
    /// The requests that get a log line, in place of the configuration's log.access
    #[arg(long, value_name = "REQUESTS")]
    access: Option<Access>,
    /// A file that TLS secrets are written to, for Wireshark; with these, all traffic can be decrypted
    #[arg(long, value_name = "FILE")]
    key_log: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Access {
    Off,
    Errors,
    All,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The exit status if the configuration or the command line cannot be used.
const UNUSABLE: u8 = 2;
/// The time that the log's last lines have to be written at the end.
const LAST_LINES: Duration = Duration::from_secs(1);
/// The time that the log's last lines have if a second signal ends the process at once.
const LAST_LINES_AT_ONCE: Duration = Duration::from_millis(100);

/// Runs the sidecar until a signal has ended it, and writes out the log's last lines. Exit status 0 after an orderly
/// end, 2 with the error on standard error if it could not start.
pub(super) fn run(arguments: Arguments) -> ExitCode {
    match start(arguments) {
        Ok(Some(running)) => {
            announce(&running);
            finish(running)
        }
        Ok(None) => {
            log::flush(LAST_LINES);
            ExitCode::SUCCESS
        }
        Err(error) => {
            log::flush(LAST_LINES);
            eprintln!("{error}");
            ExitCode::from(UNUSABLE)
        }
    }
}

/// Starts Warmline; `None` if the end was requested before there was a configuration. Watches the signals, and sets up
/// the log, from here on. Fails if the arguments or the configuration cannot be used, or a part cannot be started.
fn start(arguments: Arguments) -> Result<Option<Running>, Stop> {
    let mut source = source(&arguments)?;
    let (drain, kept) = (Drain::default(), arguments.keep.as_deref().map(KeptConfiguration::new));
    end_on_signals(drain.clone());
    let metrics = config::default_metrics();
    let Some(loaded) = app::begin(&mut source, kept.as_ref(), &drain, &metrics)? else {
        return Ok(None);
    };
    log::init(&loaded.plan.log);
    log::reconfigure(&loaded.plan.log);
    log_unwatched_configmap(&source);
    let environment = Environment {
        key_log: arguments.key_log,
        configuration: loaded.text,
        origin: loaded.origin,
        source: Some(source),
        kept,
        drain,
        ..Environment::default()
    };
    Ok(Some(app::start(&loaded.plan, environment)?))
}

/// The reasons for which the process does not run.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("warmline: {0}")]
    Arguments(String),
    /// No usable configuration; each line of the errors names its source, so that no prefix is added.
    #[error("{0}")]
    Configuration(config::Errors),
    #[error("warmline: {0}")]
    Start(StartError),
}

impl From<StartError> for Stop {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NoConfiguration(errors) => Self::Configuration(errors),
            error => Self::Start(error),
        }
    }
}

/// Returns the source that the arguments name, with the settings that override the configuration's; a `ConfigMap` is
/// followed from now on. Fails if no source is named, the `ConfigMap`'s name is malformed, or it can neither be
/// followed nor has a mounted copy.
fn source(arguments: &Arguments) -> Result<Source, Stop> {
    let overrides = CommandLineOverrides {
        terminal: io::stderr().is_terminal(),
        access: arguments.access.map(Into::into),
        level: arguments.log_level.map(Into::into),
        confined: arguments.confined,
    };
    let file = arguments.config.clone();
    match (&arguments.configmap, file) {
        (Some(name), copy) => {
            let reference = Reference::parse(name, &arguments.key);
            let reference =
                reference.map_err(|wrong| Stop::Arguments(format!("--configmap: {wrong}")))?;
            let configmap = app::follow_configmap(reference, copy.is_some())?;
            Ok(Source::of_configmap(configmap, copy, overrides))
        }
        (None, Some(file)) => Ok(Source::of_file(file, overrides)),
        (None, None) => Err(Stop::Arguments(
            "no configuration is named; write --config FILE, or --configmap [NAMESPACE/]NAME"
                .into(),
        )),
    }
}

/// Logs that the `ConfigMap` cannot be watched, which happened before there was a log.
fn log_unwatched_configmap(source: &Source) {
    if let Some(away) = source.configmap().and_then(|configmap| configmap.known().away) {
        let reason = away.reason;
        tracing::warn!(reason, "the ConfigMap is not watched; the mounted copy leads");
    }
}

/// Logs that Warmline is serving, with its version and all addresses.
fn announce(running: &Running) {
    let list = |addresses: &[std::net::SocketAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        traffic = %list(&running.listeners()),
        metrics = %list(running.metrics()),
        admin = %list(running.admin()),
        "warmline is serving"
    );
}

/// Serves until everything has ended after a signal, which it watches for; returns exit status 0.
pub(crate) fn serve(running: Running) -> ExitCode {
    end_on_signals(running.drain());
    finish(running)
}

fn finish(running: Running) -> ExitCode {
    running.join();
    log::flush(LAST_LINES);
    ExitCode::SUCCESS
}

/// Begins the drain at SIGTERM or SIGINT; a second signal ends the process at once. Both signals are watched once this
/// returns; if they cannot be watched, that is logged.
pub(crate) fn end_on_signals(drain: Drain) {
    let (watched, watching) = std::sync::mpsc::channel();
    let spawned = thread::Builder::new().name("signals".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = runtime.and_then(|runtime| runtime.block_on(watch_signals(drain, watched)));
        if let Err(error) = outcome {
            tracing::error!(%error, "signals cannot be watched");
        }
    });
    match spawned {
        // An error means that the thread ended without watching, and has logged why.
        Ok(_) => drop(watching.recv()),
        Err(error) => tracing::error!(%error, "signals cannot be watched"),
    }
}

/// Begins the drain at SIGTERM or SIGINT; a signal that comes once the drain has begun ends the process at once, with
/// status 143 or 130. Drops `watched` once both signals are watched. Returns only if a signal cannot be watched.
async fn watch_signals(drain: Drain, watched: Sender<()>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    drop(watched);
    loop {
        let code = tokio::select! {
            _ = terminate.recv() => 143,
            _ = interrupt.recv() => 130,
        };
        if drain.has_begun() {
            log::flush(LAST_LINES_AT_ONCE);
            std::process::exit(code);
        }
        tracing::info!("ending: what is in flight may finish; a second signal ends at once");
        drain.begin();
    }
}

impl From<Level> for log::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
            Level::Trace => Self::Trace,
        }
    }
}

impl From<Access> for log::Access {
    fn from(access: Access) -> Self {
        match access {
            Access::Off => Self::Off,
            Access::Errors => Self::Errors,
            Access::All => Self::All,
        }
    }
}
