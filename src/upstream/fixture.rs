//! An upstream's settings for tests in which most of them do not matter.

use std::time::Duration;

use super::{Retries, Settings};
use crate::{
    connect::{self, EndpointHost, HostPort},
    pool, tls,
};

/// Returns settings of an upstream with this name and this TLS; its host and endpoint are the name within `example`.
pub(crate) fn settings(name: &str, tls: tls::Settings) -> Settings {
    let second = Duration::from_secs(1);
    Settings {
        name: name.into(),
        hosts: vec![format!("{name}.example")],
        port: None,
        endpoint: HostPort { host: EndpointHost::Name(format!("{name}.example")), port: 443 },
        tls,
        pool: pool::Settings {
            sharing: pool::Sharing::Always,
            max_connections: 100,
            max_idle: None,
            min_idle: 0,
            purge_delay: second,
            idle_timeout: second,
            max_age: second,
            max_requests: None,
            max_queue: 0,
            queue_timeout: second,
        },
        connect: connect::Limits { connect: second, handshake: second },
        response_timeout: second,
        idle_timeout: second,
        retries: Retries { max: 2, budget: 20, idempotency_key: false },
        rotation_deadline: second,
        priority: None,
        header_case: connect::HeaderCase::Lower,
    }
}
