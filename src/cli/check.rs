//! `warmline check`: validates a configuration offline, or prints an example or the schema.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use crate::{
    config::{self, Errors, Plan},
    upstream,
};

/// What `warmline check` is asked for: exactly one of these.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Arguments {
    /// The configuration to validate, with the certificates and keys that it names
    file: Option<PathBuf>,
    /// Print a complete configuration that this version accepts
    #[arg(long)]
    example: bool,
    /// Print the configuration's JSON Schema
    #[arg(long)]
    schema: bool,
}

/// The exit status where a configuration is not valid.
const INVALID: u8 = 2;

/// Runs the command: exit status 0 and the answer on standard output, or 2 and the reasons on
/// standard error.
///
/// That nobody reads them any more (`| head`) is no failure; the exit status says it all the same.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    match answer(arguments) {
        Ok(text) => {
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(errors) => {
            let _ = writeln!(io::stderr(), "{errors}");
            ExitCode::from(INVALID)
        }
    }
}

/// What is printed.
pub fn answer(arguments: &Arguments) -> Result<String, Errors> {
    match arguments {
        Arguments { file: Some(file), .. } => {
            let loaded =
                config::Source::file(file).load(None).map_err(|unusable| unusable.errors)?;
            Ok(format!("{}: {}\n", file.display(), summary(&loaded.plan)))
        }
        Arguments { schema: true, .. } => Ok(format!("{:#}\n", config::schema())),
        _ => Ok(config::example().into()),
    }
}

/// One line: what was accepted.
fn summary(plan: &Plan) -> String {
    let binds: Vec<_> = plan.listeners.iter().flat_map(|listener| &listener.binds).collect();
    let mut line = format!("accepted: {} on", plural(plan.upstreams.len(), "upstream"));
    for (index, bind) in binds.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(line, "{comma} {}", bind.address);
    }
    for upstream in &plan.upstreams {
        let _ = write!(line, "; {}", destination(upstream));
    }
    line
}

/// `payments (hosts api.payments.example, port 13401) to api.payments.example:443`.
fn destination(upstream: &upstream::Settings) -> String {
    let hosts = upstream.hosts.join(" ");
    let port = upstream.port.map(|port| format!(", port {port}")).unwrap_or_default();
    let label = if upstream.hosts.len() == 1 { "host" } else { "hosts" };
    format!("{} ({label} {hosts}{port}) to {}", upstream.name, upstream.endpoint)
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
