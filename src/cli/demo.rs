//! `warmline demo`: shows what the pool saves, with nothing to configure.

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use http::Uri;
use tokio::runtime::{self, Runtime};

use super::run::serve;
use crate::{
    app::{self, Environment, Running, StartError},
    config::Plan,
    demo::{
        APPLICATION, Error, ORIGIN, UPSTREAM,
        authority::Authority,
        client::{OneShot, send_kept},
        origin::Origin,
        plan::{self, Memory, Ports},
        report::{OwnCount, Report, Way},
        words::{Introduction, Invitation, port_taken},
    },
    telemetry::log,
};

/// The arguments of `warmline demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Exit after the table, instead of going on serving
    #[arg(long)]
    once: bool,
    /// The simulated network's round trip before the origin, such as 20ms; 0 for none
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = round_trip)]
    round_trip: Duration,
    /// The number of requests that are sent straight to the origin, and then again through Warmline
    #[arg(long, value_name = "NUMBER", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: u32,
    /// Send the load of the training run of scripts/release too: as many requests again, over kept connections
    #[arg(long, hide = true)]
    train: bool,
}

/// The number of clients at the same time in the training run.
const TRAINING_CLIENTS: usize = 32;

/// The longest simulated round trip, in milliseconds; longer ones only make people wait.
const LONGEST_ROUND_TRIP: u64 = 500;

type CommandError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the demo; fails with the reason on standard error.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    show(arguments).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "warmline demo: {error}");
        ExitCode::FAILURE
    })
}

/// Measures both ways and prints the table. Then ends Warmline, or with `--once` left out goes on serving until a
/// signal ends it. Fails if a part of the demo cannot be started, or a request fails.
fn show(arguments: &Arguments) -> Result<ExitCode, CommandError> {
    let scene = Scene::set(arguments)?;
    say(&scene.introduction());
    say(&scene.measure()?);
    if arguments.train {
        scene.train()?;
    }
    let Scene { origin, running, plan, .. } = scene;
    let code = if arguments.once {
        running.shutdown();
        running.join();
        ExitCode::SUCCESS
    } else {
        // The log begins after the table, which is clearer than a line for each of its requests.
        log::init(&plan.log);
        say(&invitation(&running, &origin));
        serve(running)
    };
    drop(origin);
    Ok(code)
}

/// Everything that the demo runs.
struct Scene {
    round_trip: Duration,
    /// The number of requests that are sent straight, and again through Warmline.
    requests: usize,
    origin: Origin,
    client: OneShot,
    running: Running,
    plan: Plan,
    /// The lines about usual ports that are taken, for the introduction; empty if none is.
    replaced: String,
}

impl Scene {
    /// Makes the authority and its certificates, and starts the origin and Warmline, on any free port where a usual one
    /// is taken. Fails if one of these cannot be made or started.
    fn set(&Arguments { round_trip, requests, .. }: &Arguments) -> Result<Self, CommandError> {
        let authority = Authority::new()?;
        let application = authority.client(APPLICATION)?;
        let origin = Origin::start(&authority, &authority.server(ORIGIN)?, round_trip)?;
        let client = OneShot::new(&authority, &application)?;
        let memory = Memory::new(&authority, &application);
        let (running, plan) = start(origin.address(), &memory)?;
        let replaced = replaced(&running);
        let requests = requests as usize;
        Ok(Self { round_trip, requests, origin, client, running, plan, replaced })
    }

    /// Returns the text before the table, preceded by a line for each usual port that is taken.
    fn introduction(&self) -> String {
        let introduction = Introduction {
            traffic: first(&self.running.listeners()),
            origin: self.origin.address(),
            round_trip: self.round_trip,
            requests: self.requests,
        };
        format!("{}{introduction}", self.replaced)
    }

    /// Sends the requests straight to the origin and then through Warmline, and returns the table with its meaning.
    /// Fails at the first request without a 2xx response.
    fn measure(&self) -> Result<String, CommandError> {
        let report = client_runtime()?.block_on(async {
            let straight = self.way(&format!("https://{}/", self.origin.address())).await?;
            let through = self.way(&self.traffic()).await?;
            let own = self.running.upstream(UPSTREAM).map(|upstream| OwnCount::of(&upstream));
            let own = own.unwrap_or_default();
            Ok::<_, CommandError>(Report { round_trip: self.round_trip, straight, through, own })
        })?;
        Ok(report.to_string())
    }

    /// Sends the requests again from many clients that keep their connections, the usual case in production, so that the
    /// compiler learns its path too.
    fn train(&self) -> Result<(), CommandError> {
        let to: Uri = self.traffic().parse()?;
        client_runtime()?.block_on(send_kept(&to, TRAINING_CLIENTS, self.requests))?;
        Ok(())
    }

    /// Returns the URL of the origin through Warmline.
    fn traffic(&self) -> String {
        format!("http://{}/", first(&self.running.listeners()))
    }

    /// Sends the requests to this URL. Returns the time of each, and what the origin has seen of them. Fails at the
    /// first request that does.
    async fn way(&self, to: &str) -> Result<Way, CommandError> {
        let to: Uri = to.parse()?;
        let before = self.origin.seen();
        let times = self.client.send(&to, self.requests).await?;
        Ok(Way { seen: self.origin.seen() - before, times })
    }
}

fn client_runtime() -> Result<Runtime, Error> {
    runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Client)
}

/// Starts Warmline and returns it with its plan. If a usual port is taken, any free one takes its place; fails for any
/// other reason that prevents the start.
fn start(origin: SocketAddr, memory: &Memory) -> Result<(Running, Plan), CommandError> {
    let mut ports = Ports::USUAL;
    loop {
        let document = plan::document(ports, origin);
        let plan = plan::compile(&document, memory)?;
        let environment = Environment {
            resolver: Some(plan::resolver()),
            configuration: document,
            ..Environment::default()
        };
        match app::start(&plan, environment) {
            Ok(running) => return Ok((running, plan)),
            Err(StartError::Bind { address, error, .. })
                if error.kind() == io::ErrorKind::AddrInUse && ports.replace(address.port()) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns a line for each usual port that another one replaces, because another process has it; empty if there is
/// none.
fn replaced(running: &Running) -> String {
    let usual = Ports::USUAL;
    let all = [
        (usual.traffic, running.listeners()),
        (usual.metrics, running.metrics().to_vec()),
        (usual.admin, running.admin().to_vec()),
    ];
    all.into_iter()
        .map(|(port, bound)| (loopback(port), first(&bound)))
        .filter(|(usual, bound)| usual != bound)
        .map(|(usual, bound)| port_taken(usual, bound))
        .collect()
}

/// Returns the text with the addresses to try while Warmline goes on serving.
fn invitation(running: &Running, origin: &Origin) -> String {
    // The name as typed works again; the executable's own path may be a link's target that does not.
    let program = std::env::args_os().next().unwrap_or_else(|| "warmline".into());
    let invitation = Invitation {
        program: program.to_string_lossy().into_owned(),
        traffic: first(&running.listeners()),
        metrics: first(running.metrics()),
        admin: first(running.admin()),
        origin: origin.address(),
    };
    invitation.to_string()
}

fn first(bound: &[SocketAddr]) -> SocketAddr {
    *bound.first().expect("the demo's configuration binds one address each")
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Writes to standard output; a failed write (`| head`) is ignored.
fn say(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Reads the round trip of the simulated network: `0`, or whole milliseconds such as `20ms`, at most 500. The error
/// says what to write.
fn round_trip(text: &str) -> Result<Duration, String> {
    let number = if text == "0" { Some(text) } else { text.strip_suffix("ms") };
    number
        .and_then(|number| number.parse().ok())
        .filter(|milliseconds| *milliseconds <= LONGEST_ROUND_TRIP)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            format!("write 0 or whole milliseconds up to {LONGEST_ROUND_TRIP}ms, such as 20ms")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_0_or_whole_milliseconds_with_their_unit() {
        assert_eq!(round_trip("0"), Ok(Duration::ZERO));
        assert_eq!(round_trip("0ms"), Ok(Duration::ZERO));
        assert_eq!(round_trip("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(round_trip("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "ms", "20", "-1ms", "501ms", "1.5ms", "1s", "20 ms"] {
            assert!(round_trip(wrong).is_err_and(|said| said.contains("such as 20ms")), "{wrong}");
        }
    }
}
