//! The connections that are open under one generation, and the deadline of their exchanges after its replacement.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustls::pki_types::CertificateDer;

use crate::{
    connect::ConnectionControl,
    pool::{ConnectionId, EndReason},
    tls::Verifier,
};

/// An upstream's certificate chain, as it was verified. Connections that showed the same chain share it.
pub type Chain = Arc<[CertificateDer<'static>]>;

/// The connections that are open under one generation.
///
/// Not shared: each generation has its own. The pool, with its cap, its queue and its lessons, the retry budget and the
/// counters are the upstream's: all generations share them.
#[derive(Default)]
pub(super) struct OpenConnections(Mutex<OpenRegistry>);

#[derive(Default)]
struct OpenRegistry {
    /// The connections whose sockets are open.
    open: HashMap<ConnectionId, OpenConnection>,
    /// The certificate chain that a server showed last.
    chain: Option<Chain>,
    /// The facts of the replacement, once another generation has taken this one's place.
    replaced: Option<Replacement>,
}

struct OpenConnection {
    control: ConnectionControl,
    chain: Chain,
}

struct Replacement {
    at: Instant,
    reason: EndReason,
    deadline: Deadline,
}

/// The end of exchanges on a replaced generation.
enum Deadline {
    /// Exchanges may take as long as they need, because nothing about them is outdated.
    Never,
    At(Instant),
    /// The deadline has passed, and the connections were ended.
    Over,
}

/// The facts of a generation whose last connection is closed.
pub(super) struct ClosedGeneration {
    pub(super) reason: EndReason,
    /// The time since the generation was replaced.
    pub(super) after: Duration,
}

impl OpenConnections {
    /// Notes an open connection, to a server that showed this chain.
    pub(super) fn opened(
        &self,
        id: ConnectionId,
        control: ConnectionControl,
        chain: &[CertificateDer<'static>],
    ) {
        let mut connections = self.lock();
        let chain = match connections.chain.as_ref().filter(|last| last[..] == *chain) {
            Some(last) => Arc::clone(last),
            None => Arc::from(chain),
        };
        connections.chain = Some(Arc::clone(&chain));
        connections.open.insert(id, OpenConnection { control, chain });
    }

    /// Notes that a connection's socket is closed.
    pub(super) fn closed(&self, id: ConnectionId) {
        self.lock().open.remove(&id);
    }

    /// Returns the chain that a server showed last; `None` before the first connection.
    pub(super) fn shown(&self) -> Option<Chain> {
        self.lock().chain.clone()
    }

    /// Returns the number of open sockets.
    pub(super) fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// Notes that another generation has taken this one's place. Exchanges end at the deadline, if there is one.
    pub(super) fn replace(&self, reason: EndReason, at: Instant, deadline: Option<Instant>) {
        let deadline = deadline.map_or(Deadline::Never, Deadline::At);
        self.lock().replaced = Some(Replacement { at, reason, deadline });
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
        ids.iter().filter_map(|id| connections.open.get(id)).for_each(|open| open.control.doubt());
    }

    /// Returns the facts of the generation's end; `None` unless it was replaced and has no connection left.
    pub(super) fn gone(&self, now: Instant) -> Option<ClosedGeneration> {
        let connections = self.lock();
        let replaced = connections.replaced.as_ref().filter(|_| connections.open.is_empty())?;
        let after = now.saturating_duration_since(replaced.at);
        Some(ClosedGeneration { reason: replaced.reason, after })
    }

    /// Returns the time at which exchanges on this generation are to end; `None` without a deadline, or after it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.lock().replaced.as_ref()?.deadline {
            Deadline::At(at) => Some(at),
            Deadline::Never | Deadline::Over => None,
        }
    }

    /// Tells all connections to end if the deadline has come, once. Returns their number; 0 if it has not come, or had
    /// before.
    pub(super) fn end_overdue(&self, now: Instant) -> usize {
        let mut connections = self.lock();
        let due =
            |replaced: &Replacement| matches!(replaced.deadline, Deadline::At(at) if at <= now);
        if !connections.replaced.as_ref().is_some_and(due) {
            return 0;
        }
        let OpenRegistry { open, replaced, .. } = &mut *connections;
        if let Some(replaced) = replaced {
            replaced.deadline = Deadline::Over;
            end_each(open, replaced.reason);
        }
        open.len()
    }

    /// Tells all connections to end. Returns their number.
    pub(super) fn end_all(&self, reason: EndReason) -> usize {
        let connections = self.lock();
        end_each(&connections.open, reason);
        connections.open.len()
    }

    /// Tells each connection to end whose server's chain this verifier does not believe; without a verifier, all.
    /// Returns their number.
    pub(super) fn end_untrusted(&self, verifier: Option<&Verifier>) -> usize {
        let mut judged: Vec<(Chain, bool)> = Vec::new();
        let mut believed = |chain: &Chain| {
            if let Some((_, believed)) = judged.iter().find(|(known, _)| Arc::ptr_eq(known, chain))
            {
                return *believed;
            }
            let believed = verifier.is_some_and(|verifier| verifier.believes(chain));
            judged.push((Arc::clone(chain), believed));
            believed
        };
        // Chains are verified without the lock, because workers need it. A dial that began before, and opens a
        // connection meanwhile, is of an older generation, so that the pool closes its connection.
        let open: Vec<_> = {
            let connections = self.lock();
            connections.open.values().map(|o| (o.control.clone(), Arc::clone(&o.chain))).collect()
        };
        let untrusted = open.into_iter().filter(|(_, chain)| !believed(chain));
        untrusted.map(|(control, _)| control.end(EndReason::Rotated)).count()
    }

    fn lock(&self) -> MutexGuard<'_, OpenRegistry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end_each(open: &HashMap<ConnectionId, OpenConnection>, reason: EndReason) {
    for open in open.values() {
        open.control.end(reason);
    }
}
