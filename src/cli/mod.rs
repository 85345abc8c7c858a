//! The command line: arguments, subcommands, exit codes.

pub mod check;
mod demo;
mod get;
mod injector;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::address_space::{self, TooLittle};

/// Plain HTTP on localhost in; a warm pool of verified mutual-TLS connections out.
#[derive(Debug, Parser)]
#[command(name = "warmline", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar
    Run(run::Arguments),
    /// Show what the pool does, with an upstream of its own: nothing to configure
    Demo(demo::Arguments),
    /// Validate a configuration, or print an example or the schema
    Check(check::Arguments),
    /// The admission webhook: pods that ask for a sidecar get one
    Injector(injector::Arguments),
    /// Make one request and print its body; exit status 0 on 2xx
    Get(get::Arguments),
}

impl Command {
    /// Fails if there is too little address space even for one worker. The number of workers is known only with the
    /// configuration; `app::start` checks for it.
    fn address_space(&self) -> Result<(), TooLittle> {
        match self {
            Self::Run(_) | Self::Demo(_) | Self::Injector(_) => address_space::suffices(1, false),
            Self::Get(_) => address_space::suffices_for_a_request(),
            Self::Check(_) => Ok(()),
        }
    }
}

/// Runs the program by its command line; returns its exit status. An unusable command line, and too little address
/// space, end the process with status 2.
#[must_use]
pub fn main() -> ExitCode {
    let command = Arguments::parse().command;
    if let Err(too_little) = command.address_space() {
        eprintln!("warmline: {too_little}");
        return ExitCode::from(2);
    }
    match command {
        Command::Run(arguments) => run::run(arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Injector(arguments) => injector::run(arguments),
        Command::Get(arguments) => get::run(&arguments),
    }
}
