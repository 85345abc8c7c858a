//! `warmline injector`: runs the admission webhook until a signal ends it.

use std::{
    io::{self, IsTerminal as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::ValueEnum;

use super::run::end_on_signals;
use crate::{
    drain::Drain,
    injector::{
        self, Bounds, Certificate, ConfigSource, Defaults, OwnCertificate, Platform, PullPolicy,
        Settings, Sidecar,
    },
    telemetry::log,
};

/// The arguments of `warmline injector`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The sidecar's image
    #[arg(long)]
    image: String,
    /// The pull policy of the sidecar's image
    #[arg(long, value_name = "POLICY", default_value = "IfNotPresent")]
    image_pull_policy: Pull,
    /// The source of the sidecars' configuration: the API server (watch), or only the mounted copy (mount)
    #[arg(long, value_name = "SOURCE", default_value = "watch")]
    config_source: Source,
    /// The platform; on openshift, sidecars run as the user that the platform assigns, else as user 13301
    #[arg(long, default_value = "kubernetes")]
    platform: Cluster,
    /// Annotate pods with prometheus.io/scrape, port and path
    #[arg(long)]
    prometheus_annotations: bool,
    /// The CPU request of each sidecar, unless the pod's annotations say otherwise
    #[arg(long, value_name = "CPU", default_value = "10m", value_parser = cpu)]
    cpu_request: String,
    /// The memory request of each sidecar, unless the pod's annotations say otherwise
    #[arg(long, value_name = "BYTES", default_value = "32Mi", value_parser = memory)]
    memory_request: String,
    /// The CPU limit of each sidecar, unless the pod's annotations say otherwise (default: none, but 100m in a pod of
    /// class Guaranteed)
    #[arg(long, value_name = "CPU", value_parser = cpu)]
    cpu_limit: Option<String>,
    /// The memory limit of each sidecar, unless the pod's annotations say otherwise
    #[arg(long, value_name = "BYTES", default_value = "128Mi", value_parser = memory)]
    memory_limit: String,
    /// The address that the API server sends admission reviews to
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:10250")]
    bind: SocketAddr,
    /// The address of metrics and health
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:13320")]
    health_bind: SocketAddr,
    /// A folder with tls.crt and tls.key that another program renews, such as cert-manager; the injector then makes no
    /// CA and needs no rights on the API server
    #[arg(long, value_name = "DIRECTORY")]
    certificate_files: Option<PathBuf>,
    #[command(flatten)]
    own: OwnCertificateArguments,
}

/// The names and lifetimes of the CA and the serving certificate that the injector makes itself.
#[derive(Debug, clap::Args)]
struct OwnCertificateArguments {
    /// The namespace of the service and the Secret (default: the pod's)
    #[arg(long)]
    namespace: Option<String>,
    /// The service that the API server calls
    #[arg(long, default_value = "warmline-injector")]
    service: String,
    /// The mutating webhook configuration whose caBundle the injector keeps up to date
    #[arg(long, default_value = "warmline-injector")]
    webhook: String,
    /// The Secret that holds the CA and the serving certificate, for all replicas
    #[arg(long, default_value = "warmline-injector-tls")]
    secret: String,
    /// The lifetime of a CA, which is replaced in its last third
    #[arg(long, value_name = "TIME", default_value = "8760h", value_parser = lifetime)]
    ca_lifetime: Duration,
    /// The lifetime of a serving certificate, which is replaced in its last third
    #[arg(long, value_name = "TIME", default_value = "720h", value_parser = lifetime)]
    certificate_lifetime: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Pull {
    #[value(name = "Always")]
    Always,
    #[value(name = "IfNotPresent")]
    IfNotPresent,
    #[value(name = "Never")]
    Never,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Source {
    Watch,
    Mount,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Cluster {
    Kubernetes,
    Openshift,
}

/// The exit status if the injector cannot start.
const UNUSABLE: u8 = 2;
/// The time that the log's last lines have to be written at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Runs the injector until a signal has ended it; prints the error if it cannot run. Exit status 0 after an orderly
/// end, 2 if it could not start or go on.
pub(super) fn run(arguments: Arguments) -> ExitCode {
    log::init(&log_settings());
    let drain = Drain::default();
    end_on_signals(drain.clone());
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            let running = injector::run(arguments.into(), drain);
            runtime.block_on(running).map_err(|error| error.to_string())
        });
    log::flush(LAST_LINES);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("warmline injector: {error}");
            ExitCode::from(UNUSABLE)
        }
    }
}

/// Returns the log's settings: text on a terminal and JSON elsewhere, without access lines.
fn log_settings() -> log::Settings {
    let terminal = io::stderr().is_terminal();
    log::Settings {
        access: log::Access::Off,
        access_rate: 0,
        ..log::Settings::by_default(terminal)
    }
}

/// Checks an amount of CPU and returns it as written; the error says what to write.
fn cpu(text: &str) -> Result<String, &'static str> {
    if injector::is_cpu(text) {
        Ok(text.into())
    } else {
        Err("write a quantity such as 50m or 0.5")
    }
}

fn memory(text: &str) -> Result<String, &'static str> {
    if injector::is_memory(text) { Ok(text.into()) } else { Err("write a quantity such as 64Mi") }
}

/// Reads a lifetime of 3 s to 10 years in whole seconds, which is the resolution of times in certificates; the error
/// says what to write.
fn lifetime(text: &str) -> Result<Duration, &'static str> {
    let error = "write one whole number with its unit, from 3s to 87600h: 30s, 90m or 720h";
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let count: u64 = number.parse().map_err(|_| error)?;
    let seconds = match unit {
        "s" => Some(count),
        "m" => count.checked_mul(60),
        "h" => count.checked_mul(3600),
        _ => None,
    };
    let seconds = seconds.filter(|seconds| (3..=87_600 * 3600).contains(seconds)).ok_or(error)?;
    Ok(Duration::from_secs(seconds))
}

impl From<OwnCertificateArguments> for OwnCertificate {
    fn from(own: OwnCertificateArguments) -> Self {
        let OwnCertificateArguments {
            namespace,
            service,
            webhook,
            secret,
            ca_lifetime,
            certificate_lifetime,
        } = own;
        Self { namespace, service, secret, webhook, ca_lifetime, certificate_lifetime }
    }
}

impl From<Arguments> for Settings {
    fn from(arguments: Arguments) -> Self {
        Self {
            bind: arguments.bind,
            health_bind: arguments.health_bind,
            certificate: match arguments.certificate_files {
                Some(folder) => Certificate::Files(folder),
                None => Certificate::Own(arguments.own.into()),
            },
            sidecar: Sidecar {
                image: arguments.image,
                pull_policy: arguments.image_pull_policy.into(),
                config_source: arguments.config_source.into(),
                platform: arguments.platform.into(),
                prometheus_annotations: arguments.prometheus_annotations,
                resources: Defaults {
                    cpu: Bounds { request: arguments.cpu_request, limit: arguments.cpu_limit },
                    memory: Bounds {
                        request: arguments.memory_request,
                        limit: Some(arguments.memory_limit),
                    },
                },
            },
        }
    }
}

impl From<Pull> for PullPolicy {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Always => Self::Always,
            Pull::IfNotPresent => Self::IfNotPresent,
            Pull::Never => Self::Never,
        }
    }
}

impl From<Source> for ConfigSource {
    fn from(source: Source) -> Self {
        match source {
            Source::Watch => Self::Watch,
            Source::Mount => Self::Mount,
        }
    }
}

impl From<Cluster> for Platform {
    fn from(cluster: Cluster) -> Self {
        match cluster {
            Cluster::Kubernetes => Self::Kubernetes,
            Cluster::Openshift => Self::OpenShift,
        }
    }
}
