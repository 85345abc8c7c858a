//! Routes of a plan: by a request's host, and by an upstream's own port.

use std::{collections::HashMap, sync::Arc};

use http::HeaderValue;

use crate::{
    latest::Latest,
    proxy::{Destination, with_port},
    route::Table,
    upstream::{Settings, Upstream},
};

/// The destinations that inlets route to: the host table, and the upstreams by name.
pub(super) struct Destinations<'a> {
    pub(super) routes: &'a Arc<Latest<Table<Destination>>>,
    upstreams: HashMap<&'a str, &'a Arc<Upstream>>,
}

impl<'a> Destinations<'a> {
    /// Makes the destinations of these upstreams, found by name, beside the host table.
    pub(super) fn new(
        routes: &'a Arc<Latest<Table<Destination>>>,
        upstreams: &'a [Arc<Upstream>],
    ) -> Self {
        let upstreams = upstreams.iter().map(|upstream| (upstream.name(), upstream)).collect();
        Self { routes, upstreams }
    }

    /// Returns the destination of an upstream's own port, where any Host is taken, and the first of `hosts` goes up
    /// (the request's own if that is `*`). `None` if no upstream has this name.
    pub(super) fn own(&self, name: &str) -> Option<Destination> {
        let upstream = self.upstreams.get(name)?;
        let settings = upstream.settings();
        let host = settings.hosts.first().and_then(|host| goes_up(&settings, host));
        Some(Destination { upstream: Arc::clone(upstream), host })
    }
}

/// Returns the table that maps every configured host to its upstream, and to the Host that goes up to that upstream.
pub(super) fn table(upstreams: &[Arc<Upstream>]) -> Table<Destination> {
    let mut table = Table::default();
    for upstream in upstreams {
        let settings = upstream.settings();
        for host in &settings.hosts {
            let host_up = goes_up(&settings, host);
            let destination = Destination { upstream: Arc::clone(upstream), host: host_up };
            table.insert(host, destination);
        }
    }
    table
}

fn goes_up(settings: &Settings, host: &str) -> Option<HeaderValue> {
    let port = settings.endpoint.port;
    (host != "*").then(|| HeaderValue::try_from(with_port(host, port)).ok()).flatten()
}
