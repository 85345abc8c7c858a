//! The dial for a permit: names, TCP, TLS, HTTP. Each dial runs in a task of its own, so that it goes on if its waiter
//! leaves.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant, SystemTime},
};

use rustls::AlertDescription;
use tokio::{
    net::TcpStream,
    time::{interval, timeout},
};

use super::{
    Party, Permit, Stage, Upstream, Worker, counters, generation::Generation, target::Target,
};
use crate::{
    connect::{
        ConnectError, Connection, Dialled, Driver, Limits, Resolver,
        addresses::FailureKind,
        connection::{self, Facts},
        dial::Reached,
        ended_with,
        handshake::{self, FailedHandshake},
        meter::Meter,
    },
    descriptors, pool,
    resources::{ConnectionBound, Resource, Resources, Slot},
    socket::{self, CLOSE_TIME},
    telemetry::{ends::Facing, log::seconds},
    tls::{self, Version},
};

/// A connection that is ready for its first exchange.
struct EstablishedConnection {
    connection: Connection,
    driver: Driver,
    generation: Arc<Generation>,
}

/// The history of the dials that one waiter began.
#[derive(Default)]
pub(super) struct Dials {
    /// The begin of the first dial in the current run of outdated ones, and the generation of the last dial; `None`
    /// before the first dial.
    last: Option<(Instant, u64)>,
}

impl Dials {
    /// Notes that a dial begins under this generation. Returns the time since the first dial of the current run of
    /// outdated ones; 0 if the dial before was not outdated.
    pub(super) fn begin(&mut self, generation: u64, now: Instant) -> Duration {
        let first = match self.last {
            Some((first, before)) if before != generation => first,
            // This dial is the first, or the connection of the dial before went to another waiter.
            _ => now,
        };
        self.last = Some((first, generation));
        now.saturating_duration_since(first)
    }
}

/// The purpose of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The dial is for a waiter.
    Waiter,
    /// The dial is for the warm floor.
    Floor,
}

/// The time that a waiter's dial waits for a descriptor. Idle connections that close to free one are gone by then.
const DESCRIPTOR_WAIT: Duration = CLOSE_TIME.saturating_mul(2);
/// The time between two calls for idle connections to be closed. One call may not be enough: a pool ignores a call
/// while connections of its own are closing, and another dial may take the descriptors that those free.
const DESCRIPTOR_CALL: Duration = CLOSE_TIME.checked_div(4).expect("four is not zero");

/// Takes a descriptor. If none is left, that is counted, and a waiter's dial waits until an idle connection has closed
/// for it; fails if none has in time. A dial for the warm floor fails instead, because otherwise two floors would close
/// each other's connections in turn.
async fn descriptor(resources: &Resources, purpose: Purpose) -> Result<Slot, ConnectError> {
    let bound = &resources.upstreams;
    if let Some(slot) = bound.free_slot() {
        return Ok(slot);
    }
    resources.short_of(Resource::UpstreamDescriptors);
    let none = || ConnectError::NoDescriptor { most: bound.most() };
    match purpose {
        Purpose::Floor => Err(none()),
        Purpose::Waiter => {
            let call = async {
                let mut calls = interval(DESCRIPTOR_CALL);
                loop {
                    calls.tick().await;
                    descriptors::signal_shortage();
                }
            };
            let slot = async {
                tokio::select! {
                    slot = bound.wait() => slot,
                    never = call => never,
                }
            };
            timeout(DESCRIPTOR_WAIT, slot).await.map_err(|_| none())
        }
    }
}

/// Returns what a further socket of a dial takes, if both are free: a descriptor, and a place under the cap. The
/// descriptor is freed first, because the next dial in that place looks for one at once.
fn further_socket<P>(
    descriptors: &Arc<ConnectionBound>,
    place: impl FnOnce() -> Option<P>,
) -> Option<(Slot, P)> {
    let slot = descriptors.free_slot()?;
    Some((slot, place()?))
}

/// Calls for idle connections to be closed if the dial failed for want of a descriptor. A shortage of local ports is
/// not answered in this way, because a port is not free as soon as its connection is closed.
fn report_shortage(error: &ConnectError) {
    if let ConnectError::Exhausted { error, .. } = error
        && descriptors::is_shortage(error)
    {
        descriptors::signal_shortage();
    }
}

/// Reports the dial's failure to the pool, and only then ends the dial's socket politely: alert, FIN, close. Until it
/// is closed, the socket counts under the cap.
async fn close_failed(permit: Permit, slot: Slot, error: ConnectError, socket: TcpStream) {
    let place = permit.failed_open(error.into(), Instant::now());
    socket::close_politely(socket).await;
    drop(slot);
    drop(place);
}

impl Upstream {
    /// Dials in a task of its own: the connection is kept even if the waiter leaves. The pool gets the connection, or
    /// the failure; a failed dial of the warm floor is noted for operators too.
    pub(super) fn spawn_dial(self: &Arc<Self>, permit: Permit, worker: &Worker, purpose: Purpose) {
        let upstream = Arc::clone(self);
        let (resolver, resources) = (worker.resolver.clone(), Arc::clone(&worker.resources));
        tokio::spawn(async move {
            let failed = |error: &ConnectError| match purpose {
                Purpose::Waiter => report_shortage(error),
                Purpose::Floor => upstream.note_cold(error),
            };
            let slot = match descriptor(&resources, purpose).await {
                Ok(slot) => slot,
                Err(error) => {
                    failed(&error);
                    return permit.failed(error.into(), Instant::now());
                }
            };
            match upstream.dial(&permit, &resolver, &resources.upstreams).await {
                Ok(ready) => upstream.spawn_driver(permit, ready, slot),
                Err(FailedHandshake { error, socket }) => {
                    failed(&error);
                    match socket {
                        None => {
                            // The descriptor is freed before the place under the cap, because the next dial in that
                            // place, on another thread, looks for a descriptor at once.
                            drop(slot);
                            permit.failed(error.into(), Instant::now());
                        }
                        Some(socket) => close_failed(permit, slot, error, socket).await,
                    }
                }
            }
        });
    }

    /// Notes a failed dial of the warm floor. No request failed with it, but the list of failures then tells operators
    /// why a connection is missing.
    pub(super) fn note_cold(&self, error: &ConnectError) {
        self.note_missing(&error.to_string());
    }

    /// Adds a warm connection that could not be made to the list of recent failures; logs it if the list has no equal
    /// entry.
    fn note_missing(&self, why: &str) {
        let text = format!("a warm connection (pool.minIdle) could not be made: {why}");
        let failed = counters::Failed::new(None, Party::Upstream, Stage::Connect, text);
        if self.counters.exchanges.failures.note(failed, SystemTime::now()) {
            tracing::warn!(upstream = self.name(), error = %why, "a warm connection (pool.minIdle) could not be made");
        }
    }

    /// Notes a refusal of Warmline's certificate on a connection that carried no exchange. Under TLS 1.3 the server
    /// verifies the certificate after the handshake is over on this side, so that its alert arrives on an established
    /// connection.
    fn note_refusal(&self, facts: &Facts, meter: &Meter) {
        let Some(alert) = meter.alert().filter(|_| facts.version == Version::Tls13) else { return };
        if facts.is_resumed_tls13() {
            return self.session_ended(facts, Some(alert));
        }
        self.counters.identity_refused(facts.version);
        self.note_missing(&format!("{} {}", facts.peer, ended_with(alert, facts.shown)));
    }

    /// Learns from a connection with a resumed session that ended before anything came over it: the next handshake with
    /// the address is a full one. An alert on the connection counts as a failed handshake. A lesson about the address
    /// is logged. Called for exchanges and for unused connections.
    pub fn session_ended(&self, facts: &Facts, alert: Option<AlertDescription>) {
        if alert.is_some() {
            self.counters.identity_refused(facts.version);
        }
        let lesson =
            self.generation.get().target.tls.session_ended(facts.peer.ip(), Instant::now());
        let error = alert.map(|alert| ended_with(alert, facts.shown));
        self.log_lesson(lesson, facts.peer, error.as_deref());
    }

    /// Logs a lesson about an address, if there is one, with the error that taught it.
    fn log_lesson(&self, lesson: Option<tls::Lesson>, address: SocketAddr, error: Option<&str>) {
        if let Some(lesson) = lesson {
            let upstream = self.name();
            tracing::warn!(upstream, %address, error, "TLS handshakes with this address change: {lesson}");
        }
    }

    /// Hands the connection to the pool, and drives it in a task of its own, whose state is smaller than that of the
    /// dial's task, which ends here. At the connection's end that task gives back place and descriptor, and logs what
    /// the pool has learned.
    fn spawn_driver(self: Arc<Self>, permit: Permit, ready: EstablishedConnection, slot: Slot) {
        let EstablishedConnection { connection, driver, generation } = ready;
        let (id, peer) = (permit.id(), connection.facts.peer);
        let (facts, meter) = (Arc::clone(&connection.facts), Arc::clone(&connection.meter));
        let dialled = pool::Dialled {
            generation: generation.number,
            peer,
            streams: connection::STREAMS,
            jitter: fastrand::f64(),
        };
        let place = permit.established(connection, dialled, Instant::now());
        tokio::spawn(async move {
            let over = |by| {
                let now = Instant::now();
                if meter.is_forgotten() {
                    place.forgotten(now);
                    self.doubt_idle(peer, meter.last_write().unwrap_or(now), now);
                } else {
                    place.closing(by, now);
                }
            };
            let end = driver.run(|| place.trusted(Instant::now()), over).await;
            drop(slot);
            self.ends.increment((Facing::Upstream, end.how));
            let now = Instant::now();
            if place.is_unused() {
                self.note_refusal(&facts, &meter);
            }
            place.socket_ended(end, now);
            self.connection_gone(&generation, id, now);
            self.log_learned_timeout();
            self.log_closes_at_any_time();
        });
    }

    /// Has the idle connections to an address probed. A connection to the same address was found dead: bytes sent on it
    /// at `sent` were not acknowledged.
    fn doubt_idle(&self, peer: SocketAddr, sent: Instant, now: Instant) {
        let doubted = self.pool().doubt(peer, sent, now);
        self.examine(&doubted);
        if !doubted.is_empty() {
            tracing::warn!(
                upstream = self.name(),
                endpoint = %peer,
                idle = doubted.len(),
                "what was sent on a connection was not acknowledged: idle ones to the same address are probed before they are used"
            );
        }
    }

    /// Logs, once for each configured value of the idle timeout, that the upstream closes idle connections earlier.
    fn log_learned_timeout(&self) {
        let Some(learned) = self.pool().learned() else { return };
        let configured = self.settings().pool.idle_timeout;
        let in_vain = configured.is_zero() || learned.limit < configured;
        if in_vain && !self.timeout_told.swap(true, SeqCst) {
            tracing::warn!(
                upstream = self.name(),
                idle_timeout = seconds(configured),
                learned = seconds(learned.limit),
                from = %learned.from,
                "the upstream closes idle connections before pool.idleTimeout: they are retired earlier"
            );
        }
    }

    /// Logs, once for each configured value of the idle timeout, that some requests get new connections because the
    /// upstream closes idle ones at any time.
    fn log_closes_at_any_time(&self) {
        if self.pool().closes_at_any_time() && !self.habit_told.swap(true, SeqCst) {
            tracing::warn!(
                upstream = self.name(),
                "the upstream closes idle connections at any time: requests that could not be sent again get new ones"
            );
        }
    }

    /// Connects to the endpoint, makes the TLS handshake and starts HTTP, all under the newest generation, which counts
    /// the connection as open then. Notes in the memory of addresses which failed, and closes idle connections to those
    /// that the name has lost. Fails at the first step that fails.
    async fn dial(
        &self,
        permit: &Permit,
        resolver: &Resolver,
        descriptors: &Arc<ConnectionBound>,
    ) -> Result<EstablishedConnection, FailedHandshake> {
        let generation = self.generation.share();
        let limits = self.settings().connect.clone();
        let Target { endpoint, tls, .. } = &*generation.target;
        let spare = || further_socket(descriptors, || permit.spare());
        let reached = endpoint.reach(resolver, &limits, &spare).await;
        self.leave_lost_addresses(endpoint);
        let reached = reached?;
        let address = reached.peer;
        let dialled = self.shake_hands(reached, tls, &limits).await.inspect_err(|_| {
            endpoint.addresses.failed(address.ip(), FailureKind::Slow, Instant::now());
        })?;
        let chain = dialled.chain().to_vec();
        let (connection, driver) =
            connection::start(dialled, generation.number, generation.header_case).await.map_err(
                |error| ConnectError::HandshakeBroken {
                    address,
                    error: std::io::Error::other(error),
                },
            )?;
        generation.open.opened(permit.id(), connection.control(), &chain);
        Ok(EstablishedConnection { connection, driver, generation })
    }

    /// Makes the TLS handshake of a dial, a second one where that may help, and counts both. Logs the lesson that a
    /// second one taught. Fails with the last failure.
    async fn shake_hands(
        &self,
        reached: Reached,
        client: &tls::Connector,
        limits: &Limits,
    ) -> Result<Dialled, FailedHandshake> {
        let mut first_error = None;
        let failed_first = |error: &ConnectError| {
            self.counters.handshake_failed(error);
            first_error = Some(error.to_string());
        };
        let dialled = handshake::shake_hands(reached, client, limits, failed_first)
            .await
            .inspect_err(|failed| self.counters.handshake_failed(&failed.error))?;
        self.counters.handshake_done(&dialled);
        self.log_lesson(dialled.lesson, dialled.peer, first_error.as_deref());
        Ok(dialled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_socket_of_a_dial_takes_a_descriptor_and_a_place_or_neither() {
        let descriptors = ConnectionBound::new(1);
        assert!(further_socket(&descriptors, || None::<()>).is_none());
        let further = further_socket(&descriptors, || Some(()));
        assert!(further.is_some() && descriptors.is_full());
        let asked =
            further_socket(&descriptors, || -> Option<()> { unreachable!("no descriptor") });
        assert!(asked.is_none());
        drop(further);
        assert!(!descriptors.is_full());
    }

    #[test]
    fn only_dials_that_are_outdated_one_after_the_other_add_up() {
        let (mut dials, begin) = (Dials::default(), Instant::now());
        let mut wasted = |generation, seconds| {
            let wasted = dials.begin(generation, begin + Duration::from_secs(seconds));
            wasted.as_secs()
        };
        assert_eq!((wasted(0, 0), wasted(1, 2), wasted(2, 3)), (0, 2, 3));
        assert_eq!(wasted(2, 7), 0, "the last one's connection went to another waiter");
        assert_eq!(wasted(3, 8), 1);
    }
}
