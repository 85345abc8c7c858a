//! An upstream's settings for tests in which most of them do not matter.

use std::time::Duration;

use super::Settings;
use crate::{
    connect::{self, EndpointHost, HostPort},
    pool, tls,
};

/// Returns settings of an upstream with this name and this TLS; its host and endpoint are the name within `example`.
pub(crate) fn settings(name: &str, tls: tls::Settings) -> Settings {
    let second = Duration::from_secs(1);
    let host = format!("{name}.example");
    let endpoint = HostPort { host: EndpointHost::Name(host.clone()), port: 443 };
    Settings {
        pool: pool::Settings {
            purge_delay: second,
            idle_timeout: second,
            max_age: second,
            max_queue: 0,
            queue_timeout: second,
            ..pool::Settings::default()
        },
        connect: connect::Limits { connect: second, handshake: second },
        response_timeout: second,
        idle_timeout: second,
        rotation_deadline: second,
        ..Settings::new(name.into(), vec![host], endpoint, tls)
    }
}
