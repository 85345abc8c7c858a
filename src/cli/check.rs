//! `warmline check`: validates a configuration offline, or prints an example or the schema.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::SystemTime,
};

use crate::{
    config::{self, Errors, IdentityFiles, Loaded, Plan},
    tls::Identity,
    upstream,
};

/// The arguments of `warmline check`: a file to validate, or the example or the schema to print.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["file", "example", "schema"])))]
pub struct Arguments {
    /// The configuration to validate, with the certificates and keys that it names
    file: Option<PathBuf>,
    /// Do not read the certificates and keys that the configuration names, as on a machine that does not have them
    #[arg(long, requires = "file", conflicts_with_all = ["example", "schema"])]
    without_files: bool,
    /// Print a complete configuration that this version accepts
    #[arg(long)]
    example: bool,
    /// Print the configuration's JSON Schema
    #[arg(long)]
    schema: bool,
}

/// The exit status if the configuration cannot be used.
const INVALID: u8 = 2;

/// Runs the command. Exit status 0: the answer is on standard output. Exit status 2: the configuration's errors are on
/// standard error.
///
/// A failed write to standard output (`| head`) is ignored: the exit status tells the result nevertheless.
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

/// Returns the text for standard output: the report on the file, the schema, or the example. Reads the file and, unless
/// forbidden, the certificates and keys that it names; fails with all of the configuration's errors.
pub fn answer(arguments: &Arguments) -> Result<String, Errors> {
    match arguments {
        Arguments { file: Some(file), without_files, .. } => {
            let mut source = config::Source::file(file);
            let loaded =
                if *without_files { source.load_without_files() } else { source.load(None) };
            let loaded = loaded.map_err(|unusable| unusable.errors)?;
            Ok(report(&source.name(loaded.origin), &loaded, *without_files))
        }
        Arguments { schema: true, .. } => Ok(format!("{:#}\n", config::schema())),
        _ => Ok(config::example().into()),
    }
}

/// Returns the report on an accepted configuration: what was accepted, what was read from which file, and warnings.
fn report(source: &str, loaded: &Loaded, without_files: bool) -> String {
    let plan = &loaded.plan;
    let mut text = format!("{source}: {}\n", summary(plan));
    if without_files {
        text.push_str("certificates and keys were not read (--without-files)\n");
    }
    for (file, trust) in &plan.credentials.trusts {
        let place =
            file.as_ref().map_or("the system's roots".into(), |file| file.display().to_string());
        let count = plural(trust.certificates().len(), "trusted certificate");
        let _ = writeln!(text, "{place}: {count}");
    }
    for (files, identity) in &plan.credentials.identities {
        let _ = writeln!(text, "{}", shown(files, identity));
    }
    for warning in config::warnings(loaded, source, SystemTime::now()) {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// Returns the report's line about an identity, such as `tls.crt: 3 certificates, 2 of them sent: CN=shop, until
/// 2027-01-01 00:00:00 UTC; tls.key: ECDSA P-256`.
fn shown(files: &IdentityFiles, identity: &Identity) -> String {
    let (certificate, key) = match files {
        IdentityFiles::Pair { certificate, key } => (certificate, format!("; {}: ", key.display())),
        IdentityFiles::Bundle(bundle) => (bundle, ", with its key: ".into()),
    };
    let found = plural(identity.found(), "certificate");
    let sent = match identity.chain().len() {
        sent if sent == identity.found() => String::new(),
        sent => format!(", {sent} of them sent"),
    };
    let (subject, until) = (identity.subject(), identity.not_after_text());
    let (certificate, kind) = (certificate.display(), identity.key_kind());
    format!("{certificate}: {found}{sent}: {subject}, until {until}{key}{kind}")
}

/// Returns the report's first line: upstreams, addresses and destinations.
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

/// Returns an upstream's part of the first line, such as `payments (hosts api.payments.example, port 13401) to
/// api.payments.example:443`.
fn destination(upstream: &upstream::Settings) -> String {
    let hosts = upstream.hosts.join(" ");
    let port = upstream.port.map(|port| format!(", port {port}")).unwrap_or_default();
    let label = if upstream.hosts.len() == 1 { "host" } else { "hosts" };
    format!("{} ({label} {hosts}{port}) to {}", upstream.name, upstream.endpoint)
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
