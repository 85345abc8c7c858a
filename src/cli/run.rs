//! `warmline run`: the sidecar, until a signal ends it.

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
    app::{self, Environment, Running},
    config,
    drain::Drain,
    telemetry::log,
};

/// What `warmline run` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which requests get a log line, whatever the configuration says
    #[arg(long, value_name = "WHICH")]
    access: Option<Access>,
    /// Write TLS secrets to this file, for Wireshark: whoever reads it reads all traffic
    #[arg(long, value_name = "FILE")]
    key_log: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Access {
    Off,
    Errors,
    All,
}

/// The exit status where the configuration cannot be used.
const UNUSABLE: u8 = 2;
/// How long the log's last lines may take to be written at the end.
const LAST_LINES: Duration = Duration::from_secs(1);
/// The same where the end is to come at once.
const LAST_LINES_AT_ONCE: Duration = Duration::from_millis(100);

pub(super) fn run(arguments: Arguments) -> ExitCode {
    let source = config::Source {
        path: arguments.config,
        terminal: io::stderr().is_terminal(),
        access: arguments.access.map(Into::into),
    };
    let loaded = match source.load(None) {
        Ok(loaded) => loaded,
        Err(unusable) => {
            eprintln!("{}", unusable.errors);
            return ExitCode::from(UNUSABLE);
        }
    };
    log::init(&loaded.plan.log);
    let environment = Environment {
        key_log: arguments.key_log,
        configuration: loaded.text,
        source: Some(source),
        ..Environment::default()
    };
    match app::start(&loaded.plan, environment) {
        Ok(running) => {
            announce(&running);
            serve(running)
        }
        Err(error) => {
            log::flush(LAST_LINES);
            eprintln!("warmline: {error}");
            ExitCode::from(UNUSABLE)
        }
    }
}

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

/// Serves until everything has ended after a signal.
pub(crate) fn serve(running: Running) -> ExitCode {
    end_on_signals(running.drain());
    running.join();
    log::flush(LAST_LINES);
    ExitCode::SUCCESS
}

/// SIGTERM or SIGINT begins the drain; a second one ends the process at once. Both are watched when this returns.
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
        // An error is a thread that ended without watching, and has said why.
        Ok(_) => drop(watching.recv()),
        Err(error) => tracing::error!(%error, "signals cannot be watched"),
    }
}

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

impl From<Access> for log::Access {
    fn from(access: Access) -> Self {
        match access {
            Access::Off => Self::Off,
            Access::Errors => Self::Errors,
            Access::All => Self::All,
        }
    }
}
