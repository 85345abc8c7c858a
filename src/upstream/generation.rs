//! A generation of an upstream: everything that makes its connections exchangeable, and the connections that are left
//! after another generation took its place ("Rotation of certificates" in docs/design.md).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustls::pki_types::{CertificateDer, ServerName};

use super::Settings;
use crate::{
    connect::{Addresses, Connection, Endpoint, EndpointHost, HeaderCase, Switch},
    pool::{ConnectionId, EndReason},
    tls::{self, Trust},
};

/// An upstream's certificate chain, as it was verified. Connections that showed the same chain share it.
pub type Chain = Arc<[CertificateDer<'static>]>;

/// Everything that makes connections exchangeable, and the connections that exist.
pub(super) struct Generation {
    /// The generation's number: 0 for the first, and higher for each later one.
    pub(super) number: u64,
    pub(super) endpoint: Endpoint,
    pub(super) tls: tls::Client,
    pub(super) header_case: HeaderCase,
    /// The name that the certificates of the generation's servers were verified for.
    verify_name: ServerName<'static>,
    /// The known addresses of the endpoint, shared by every generation with this endpoint.
    pub(super) addresses: Arc<Addresses>,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    /// The connections whose sockets are open.
    open: HashMap<ConnectionId, Open>,
    /// The certificate chain that a server showed last.
    chain: Option<Chain>,
    /// The facts of the replacement, once another generation has taken this one's place.
    replaced: Option<Replaced>,
}

struct Open {
    switch: Switch,
    chain: Chain,
}

struct Replaced {
    at: Instant,
    reason: EndReason,
    deadline: Deadline,
}

/// The end of exchanges on a replaced generation.
enum Deadline {
    /// Exchanges may take as long as they need, because nothing about them is outdated.
    Never,
    At(Instant),
    /// The deadline has come, and the connections were told to end.
    Over,
}

/// The facts of a generation whose last connection is closed.
pub(super) struct Gone {
    pub(super) reason: EndReason,
    /// The time since the generation was replaced.
    pub(super) after: Duration,
}

/// Returns the reason for a new generation under the new settings; `None` if they need none. The reason is `Rotated` if
/// only certificates, keys or trust differ.
pub(super) fn difference(old: &Settings, new: &Settings) -> Option<EndReason> {
    if old.endpoint == new.endpoint && old.tls == new.tls {
        return (old.header_case != new.header_case).then_some(EndReason::Reconfigured);
    }
    let (a, b) = (&old.tls, &new.tls);
    let credentials_alone = old.endpoint == new.endpoint
        && a.server_name == b.server_name
        && a.verify_name == b.verify_name
        && a.min_version == b.min_version
        && a.policy == b.policy
        && a.identity.is_some() == b.identity.is_some();
    Some(if credentials_alone { EndReason::Rotated } else { EndReason::Reconfigured })
}

impl Generation {
    /// Makes an upstream's first generation: its number is 0, and no address is known yet.
    pub(super) fn first(settings: &Settings, tls: tls::Client) -> Arc<Self> {
        let (endpoint, name) = (settings.endpoint.clone(), settings.tls.verify_name.clone());
        Self::with(0, endpoint, Arc::default(), tls, settings.header_case, name)
    }

    /// Makes the next generation, under other settings.
    pub(super) fn after(&self, settings: &Settings, tls: tls::Client) -> Arc<Self> {
        let (endpoint, name) = (settings.endpoint.clone(), settings.tls.verify_name.clone());
        let same = self.endpoint == endpoint;
        let addresses = if same { Arc::clone(&self.addresses) } else { Arc::default() };
        Self::with(self.number + 1, endpoint, addresses, tls, settings.header_case, name)
    }

    /// Makes the next generation under the same settings; the store of TLS sessions is shared.
    pub(super) fn successor(&self) -> Arc<Self> {
        let (endpoint, name) = (self.endpoint.clone(), self.verify_name.clone());
        let (addresses, tls) = (Arc::clone(&self.addresses), self.tls.clone());
        Self::with(self.number + 1, endpoint, addresses, tls, self.header_case, name)
    }

    fn with(
        number: u64,
        endpoint: Endpoint,
        addresses: Arc<Addresses>,
        tls: tls::Client,
        header_case: HeaderCase,
        verify_name: ServerName<'static>,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            endpoint,
            addresses,
            tls,
            header_case,
            verify_name,
            connections: Mutex::default(),
        })
    }

    /// True if the connection is of this generation, and the endpoint's name has lost the address of its peer.
    pub(super) fn has_moved(&self, connection: &Connection) -> bool {
        // A connection of an older generation is retired as such, whatever its address.
        connection.facts.generation == self.number
            && matches!(self.endpoint.host, EndpointHost::Name(_))
            && self.addresses.lost(connection.facts.peer.ip())
    }

    /// Notes an open connection, to a server that showed this chain.
    pub(super) fn opened(
        &self,
        id: ConnectionId,
        switch: Switch,
        chain: &[CertificateDer<'static>],
    ) {
        let mut connections = self.lock();
        let chain = match connections.chain.as_ref().filter(|last| last[..] == *chain) {
            Some(last) => Arc::clone(last),
            None => Arc::from(chain),
        };
        connections.chain = Some(Arc::clone(&chain));
        connections.open.insert(id, Open { switch, chain });
    }

    /// Notes that a connection's socket is closed.
    pub(super) fn closed(&self, id: ConnectionId) {
        self.lock().open.remove(&id);
    }

    /// Returns the chain that a server showed last.
    pub(super) fn shown(&self) -> Option<Chain> {
        self.lock().chain.clone()
    }

    /// Returns the number of open sockets.
    pub(super) fn open(&self) -> usize {
        self.lock().open.len()
    }

    /// Notes that another generation has taken this one's place. Exchanges end at the deadline, if there is one.
    pub(super) fn replace(&self, reason: EndReason, at: Instant, deadline: Option<Instant>) {
        let deadline = deadline.map_or(Deadline::Never, Deadline::At);
        self.lock().replaced = Some(Replaced { at, reason, deadline });
    }

    /// Sets the deadline and the reason of a replaced generation that has no deadline yet.
    pub(super) fn bound(&self, reason: EndReason, deadline: Option<Instant>) {
        if let (Some(replaced), Some(at)) = (&mut self.lock().replaced, deadline)
            && matches!(replaced.deadline, Deadline::Never)
        {
            (replaced.reason, replaced.deadline) = (reason, Deadline::At(at));
        }
    }

    /// Has those of these connections that are of this generation probe whether their peers are alive.
    pub(super) fn doubt(&self, ids: &[ConnectionId]) {
        let connections = self.lock();
        ids.iter().filter_map(|id| connections.open.get(id)).for_each(|open| open.switch.doubt());
    }

    /// Returns the facts of the generation's end, if it was replaced and has no connection left.
    pub(super) fn gone(&self, now: Instant) -> Option<Gone> {
        let connections = self.lock();
        let replaced = connections.replaced.as_ref().filter(|_| connections.open.is_empty())?;
        let after = now.saturating_duration_since(replaced.at);
        Some(Gone { reason: replaced.reason, after })
    }

    /// Returns the time at which exchanges on this generation are to end; `None` without a deadline, or after it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.lock().replaced.as_ref()?.deadline {
            Deadline::At(at) => Some(at),
            Deadline::Never | Deadline::Over => None,
        }
    }

    /// Tells all connections to end if the deadline has come. Returns their number.
    pub(super) fn end_overdue(&self, now: Instant) -> usize {
        let mut connections = self.lock();
        let due = |replaced: &Replaced| matches!(replaced.deadline, Deadline::At(at) if at <= now);
        if !connections.replaced.as_ref().is_some_and(due) {
            return 0;
        }
        let Connections { open, replaced, .. } = &mut *connections;
        if let Some(replaced) = replaced {
            replaced.deadline = Deadline::Over;
            turn_off(open, replaced.reason);
        }
        open.len()
    }

    /// Tells all connections to end. Returns their number.
    pub(super) fn end_all(&self, reason: EndReason) -> usize {
        let connections = self.lock();
        turn_off(&connections.open, reason);
        connections.open.len()
    }

    /// Tells each connection to end whose server this trust does not cover. Returns their number.
    pub(super) fn end_untrusted(&self, trust: &Arc<Trust>) -> usize {
        let verifier = tls::verifier(trust, &self.verify_name);
        let mut judged: Vec<(Chain, bool)> = Vec::new();
        let mut believed = |chain: &Chain| {
            if let Some((_, believed)) = judged.iter().find(|(known, _)| Arc::ptr_eq(known, chain))
            {
                return *believed;
            }
            let believed = verifier.as_ref().is_ok_and(|verifier| verifier.believes(chain));
            judged.push((Arc::clone(chain), believed));
            believed
        };
        // Chains are verified without the lock, because workers need it. A dial that began before, and opens a
        // connection meanwhile, is of an older generation, so that the pool closes its connection.
        let open: Vec<_> = {
            let connections = self.lock();
            connections.open.values().map(|o| (o.switch.clone(), Arc::clone(&o.chain))).collect()
        };
        let untrusted = open.into_iter().filter(|(_, chain)| !believed(chain));
        untrusted.map(|(switch, _)| switch.turn_off(EndReason::Rotated)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn turn_off(open: &HashMap<ConnectionId, Open>, reason: EndReason) {
    for open in open.values() {
        open.switch.turn_off(reason);
    }
}
