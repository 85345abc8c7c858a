//! The form in which a plan is shown: the document that users write.

use std::{path::Path, time::Duration};

use http::HeaderName;
use serde::{Serialize, Serializer};

use super::super::certificates::{identity_files, trust_file};
use crate::{
    config::{Bind, IdentityFiles, Listener, Plan},
    connect::HeaderCase,
    pool::Sharing,
    telemetry::log::{self, Access, Format, Level},
    tls::{self, KeyExchange, MinVersion},
    upstream,
};

/// The whole document.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    threads: usize,
    log: Log,
    metrics: Edge,
    admin: Edge,
    drain: Time,
    readiness: Readiness<'a>,
    listeners: Vec<ShownListener>,
    upstreams: Vec<Upstream<'a>>,
}

#[derive(Serialize)]
struct Log {
    format: &'static str,
    level: &'static str,
    access: &'static str,
    #[serde(rename = "accessRate")]
    access_rate: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Readiness<'a> {
    require_upstreams: &'a [String],
}

#[derive(Serialize)]
struct Edge {
    bind: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownListener {
    bind: Vec<String>,
    allow_non_loopback: bool,
    explain: bool,
    limits: Limits,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    header_bytes: usize,
    header_fields: usize,
    header_timeout: Time,
    idle_timeout: Time,
    connections: usize,
}

#[derive(Serialize)]
struct Upstream<'a> {
    name: &'a str,
    hosts: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    endpoints: [String; 1],
    tls: Tls<'a>,
    pool: Pool<'a>,
    timeouts: Timeouts,
    retries: Retries,
    #[serde(rename = "headerCase")]
    header_case: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tls<'a> {
    server_name: &'a str,
    verify_name: String,
    /// The file of the trust; `None`, and left out, for the system's roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Identity<'a>>,
    min_version: &'static str,
    resumption: bool,
    key_exchange: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Identity<'a> {
    Pair { certificate: &'a Path, key: &'a Path },
    Bundle { bundle: &'a Path },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pool<'a> {
    reuse: &'static str,
    max_connections: usize,
    max_idle: i64,
    min_idle: usize,
    purge_delay: Time,
    idle_timeout: Time,
    max_age: Time,
    max_requests: u64,
    max_queue: usize,
    queue_timeout: Time,
    priority: &'a str,
    rotation_deadline: Time,
}

#[derive(Serialize)]
struct Timeouts {
    connect: Time,
    handshake: Time,
    response: Time,
    idle: Time,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Retries {
    max: u32,
    /// The budget with its percent sign: `20%`.
    budget: String,
    idempotency_key: bool,
}

impl<'a> Document<'a> {
    pub(super) fn of(plan: &'a Plan) -> Self {
        Self {
            threads: plan.threads,
            log: Log::of(&plan.log),
            metrics: Edge { bind: addresses(&plan.metrics) },
            admin: Edge { bind: addresses(&plan.admin) },
            drain: Time(plan.drain),
            readiness: Readiness { require_upstreams: &plan.required_upstreams },
            listeners: plan.listeners.iter().map(ShownListener::of).collect(),
            upstreams: plan.upstreams.iter().map(|u| Upstream::of(plan, u)).collect(),
        }
    }
}

impl Log {
    fn of(log: &log::Settings) -> Self {
        Self {
            format: match log.format {
                Format::Json => "json",
                Format::Text => "text",
            },
            level: match log.level {
                Level::Error => "error",
                Level::Warn => "warn",
                Level::Info => "info",
                Level::Debug => "debug",
                Level::Trace => "trace",
            },
            access: match log.access {
                Access::Off => "off",
                Access::Errors => "errors",
                Access::All => "all",
            },
            access_rate: log.access_rate,
        }
    }
}

impl ShownListener {
    fn of(listener: &Listener) -> Self {
        let limits = &listener.limits;
        Self {
            bind: addresses(&listener.binds),
            allow_non_loopback: listener.binds.iter().any(|bind| !bind.address.ip().is_loopback()),
            explain: listener.explain,
            limits: Limits {
                header_bytes: limits.header_bytes,
                header_fields: limits.header_fields,
                header_timeout: Time(limits.header_timeout),
                idle_timeout: Time(limits.idle_timeout),
                connections: limits.connections,
            },
        }
    }
}

impl<'a> Upstream<'a> {
    fn of(plan: &'a Plan, settings: &'a upstream::Settings) -> Self {
        Self {
            name: &settings.name,
            hosts: &settings.hosts,
            port: settings.port,
            endpoints: [settings.endpoint.to_string()],
            tls: Tls::of(plan, &settings.tls),
            pool: Pool::of(settings),
            timeouts: Timeouts {
                connect: Time(settings.connect.connect),
                handshake: Time(settings.connect.handshake),
                response: Time(settings.response_timeout),
                idle: Time(settings.idle_timeout),
            },
            retries: Retries {
                max: settings.retries.max,
                budget: format!("{}%", settings.retries.budget),
                idempotency_key: settings.retries.idempotency_key,
            },
            header_case: match settings.header_case {
                HeaderCase::Kept => "kept",
                HeaderCase::Lower => "lower",
                HeaderCase::Title => "title",
            },
        }
    }
}

impl<'a> Tls<'a> {
    fn of(plan: &'a Plan, settings: &'a tls::Settings) -> Self {
        let identity = identity_files(plan, settings).map(|files| match files {
            IdentityFiles::Pair { certificate, key } => Identity::Pair { certificate, key },
            IdentityFiles::Bundle(bundle) => Identity::Bundle { bundle },
        });
        Self {
            server_name: settings.server_name.as_ref().map_or("none", AsRef::as_ref),
            verify_name: settings.verify_name.to_str().into_owned(),
            trust: trust_file(plan, settings).map(AsRef::as_ref),
            identity,
            min_version: match settings.min_version {
                MinVersion::Tls12 => "1.2",
                MinVersion::Tls13 => "1.3",
            },
            resumption: settings.policy.resumption,
            key_exchange: match settings.policy.key_exchange {
                KeyExchange::Auto => "auto",
                KeyExchange::Classic => "classic",
                KeyExchange::Hybrid => "hybrid",
            },
        }
    }
}

impl<'a> Pool<'a> {
    fn of(upstream: &'a upstream::Settings) -> Self {
        let settings = &upstream.pool;
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        Self {
            reuse: match settings.sharing {
                Sharing::Always => "always",
                Sharing::Aggressive => "aggressive",
                Sharing::Safe => "safe",
                Sharing::Never => "never",
            },
            max_connections: settings.max_connections,
            max_idle: settings.max_idle.map_or(-1, number),
            min_idle: settings.min_idle,
            purge_delay: Time(settings.purge_delay),
            idle_timeout: Time(settings.idle_timeout),
            max_age: Time(settings.max_age),
            max_requests: settings.max_requests.map_or(0, std::num::NonZeroU64::get),
            max_queue: settings.max_queue,
            queue_timeout: Time(settings.queue_timeout),
            priority: upstream.priority.as_ref().map_or("off", HeaderName::as_str),
            rotation_deadline: Time(upstream.rotation_deadline),
        }
    }
}

fn addresses(binds: &[Bind]) -> Vec<String> {
    binds.iter().map(|bind| bind.address.to_string()).collect()
}

/// A duration that is written in its largest whole unit: `200ms`, `90s`, `1h`.
struct Time(Duration);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = self.0.as_millis();
        let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        let unit =
            units.into_iter().find(|(_, unit)| millis >= *unit && millis.is_multiple_of(*unit));
        serializer.collect_str(&match unit {
            Some((name, unit)) => format!("{}{name}", millis / unit),
            None if millis == 0 => "0".into(),
            None => format!("{millis}ms"),
        })
    }
}
