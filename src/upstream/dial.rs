//! A permit's dial: names, TCP, TLS, HTTP, each in a task that nobody has to wait for.

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

use super::{Party, Stage, Upstream, Worker, counters, generation::Generation};
use crate::{
    connect::{
        ConnectError, Connection, Dialled, Driver, Limits, Resolver,
        addresses::Trouble,
        connection::{self, Facts},
        dial::{Reached, reach},
        ended_with,
        handshake::{self, Failed},
        meter::Meter,
    },
    descriptors,
    pool::Permit,
    resources::{Resource, Resources, Seat},
    socket::{self, CLOSE_TIME},
    telemetry::{ends::Facing, log::seconds},
    tls::{self, Version},
};

/// A connection that is ready for its first exchange.
struct Ready {
    connection: Connection,
    driver: Driver,
    generation: Arc<Generation>,
}

/// The dials of one waiter.
#[derive(Default)]
pub(super) struct Dials {
    /// When the first of those began that were outdated one after the other, and under which generation the last one.
    last: Option<(Instant, u64)>,
}

impl Dials {
    /// One begins under this generation: says how long those before it have been outdated, without a break.
    pub(super) fn begin(&mut self, generation: u64, now: Instant) -> Duration {
        let first = match self.last {
            Some((first, before)) if before != generation => first,
            // The first one, or the last one's connection went to another waiter.
            _ => now,
        };
        self.last = Some((first, generation));
        now.saturating_duration_since(first)
    }
}

/// For whom a connection is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For a request that waits.
    Waiter,
    /// For the warm floor.
    Floor,
}

/// Time for which a request waits for a descriptor: idle connections that close for it are gone by then.
const DESCRIPTOR_WAIT: Duration = CLOSE_TIME.saturating_mul(2);
/// Time between two calls for idle connections to be closed. A pool does nothing while connections of its own are closing,
/// and another dial may take what those leave.
const DESCRIPTOR_CALL: Duration = CLOSE_TIME.checked_div(4).expect("four is not zero");

/// Takes a descriptor. Where none is left, a request waits until an idle connection has closed for it; the warm floor
/// makes do without: else two floors would close each other's connections in turn.
async fn descriptor(resources: &Resources, purpose: Purpose) -> Result<Seat, ConnectError> {
    let room = &resources.upstreams;
    if let Some(seat) = room.free_seat() {
        return Ok(seat);
    }
    resources.short_of(Resource::UpstreamDescriptors);
    let none = || ConnectError::NoDescriptor { most: room.most() };
    match purpose {
        Purpose::Floor => Err(none()),
        Purpose::Waiter => {
            let call = async {
                let mut calls = interval(DESCRIPTOR_CALL);
                loop {
                    calls.tick().await;
                    descriptors::tell_used_up();
                }
            };
            let seat = async {
                tokio::select! {
                    seat = room.wait() => seat,
                    never = call => never,
                }
            };
            timeout(DESCRIPTOR_WAIT, seat).await.map_err(|_| none())
        }
    }
}

/// Idle connections hold descriptors. They hold local ports too, but a port is not free as soon as they are closed.
fn tell_shortage(error: &ConnectError) {
    if let ConnectError::Exhausted { error, .. } = error
        && descriptors::is_shortage(error)
    {
        descriptors::tell_used_up();
    }
}

/// Tells whoever waits that the dial failed, and only then ends its socket politely: alert, FIN, close. Until the close the
/// socket has its place under the cap.
async fn close_failed(
    permit: Permit<Connection, ConnectError>,
    seat: Seat,
    error: ConnectError,
    socket: TcpStream,
) {
    let place = permit.failed_open(error, Instant::now());
    socket::close_politely(socket).await;
    drop(seat);
    drop(place);
}

impl Upstream {
    /// Dials in a task of its own: whoever waits may leave, the connection is kept.
    pub(super) fn spawn_dial(
        self: &Arc<Self>,
        permit: Permit<Connection, ConnectError>,
        worker: &Worker,
        purpose: Purpose,
    ) {
        let upstream = Arc::clone(self);
        let (resolver, resources) = (worker.resolver.clone(), Arc::clone(&worker.resources));
        tokio::spawn(async move {
            let failed = |error: &ConnectError| match purpose {
                Purpose::Waiter => tell_shortage(error),
                Purpose::Floor => upstream.note_cold(error),
            };
            let seat = match descriptor(&resources, purpose).await {
                Ok(seat) => seat,
                Err(error) => {
                    failed(&error);
                    return permit.failed(error, Instant::now());
                }
            };
            match upstream.dial(&permit, &resolver).await {
                Ok(ready) => upstream.spawn_driver(permit, ready, seat),
                Err(Failed { error, socket }) => {
                    failed(&error);
                    match socket {
                        None => {
                            // Before the place: whoever gets that, on another thread, looks for a descriptor at once.
                            drop(seat);
                            permit.failed(error, Instant::now());
                        }
                        Some(socket) => close_failed(permit, seat, error, socket).await,
                    }
                }
            }
        });
    }

    /// A failed dial of the warm floor fails nobody: who asks why a connection is missing finds it among the failures.
    pub(super) fn note_cold(&self, error: &ConnectError) {
        self.note_missing(&error.to_string());
    }

    fn note_missing(&self, why: &str) {
        let text = format!("a warm connection (pool.minIdle) could not be made: {why}");
        let failed = counters::Failed::new(None, Party::Upstream, Stage::Connect, text);
        if self.counters.exchanges.failures.note(failed, SystemTime::now()) {
            tracing::warn!(upstream = self.name(), error = %why, "a warm connection (pool.minIdle) could not be made");
        }
    }

    /// Under TLS 1.3 the server judges our certificate when our side of the handshake is over: where no request was there to
    /// find out, its alert ends the connection unused.
    fn note_refusal(&self, facts: &Facts, meter: &Meter) {
        let Some(alert) = meter.alert().filter(|_| facts.version == Version::Tls13) else { return };
        if facts.is_resumed_late() {
            return self.session_ended(facts, Some(alert));
        }
        self.counters.identity_refused(facts.version);
        self.note_missing(&format!("{} {}", facts.peer, ended_with(alert, facts.shown)));
    }

    /// A connection with a resumed session ended before anything came over it: the next handshake is a full one. With an
    /// alert, that was the handshake's end.
    pub fn session_ended(&self, facts: &Facts, alert: Option<AlertDescription>) {
        if alert.is_some() {
            self.counters.identity_refused(facts.version);
        }
        let lesson = self.generation.get().tls.session_ended(facts.peer.ip(), Instant::now());
        let error = alert.map(|alert| ended_with(alert, facts.shown));
        self.tell(lesson, facts.peer, error.as_deref());
    }

    fn tell(&self, lesson: Option<tls::Lesson>, address: SocketAddr, error: Option<&str>) {
        if let Some(lesson) = lesson {
            let upstream = self.name();
            tracing::warn!(upstream, %address, error, "TLS handshakes with this address change: {lesson}");
        }
    }

    /// Drives in a task of its own: the dial's is larger, and ends here.
    fn spawn_driver(
        self: Arc<Self>,
        permit: Permit<Connection, ConnectError>,
        ready: Ready,
        seat: Seat,
    ) {
        let Ready { connection, driver, generation } = ready;
        let (id, peer) = (permit.id(), connection.facts.peer);
        let (facts, meter) = (Arc::clone(&connection.facts), Arc::clone(&connection.meter));
        let place = permit.established(
            connection,
            generation.number,
            peer,
            Instant::now(),
            fastrand::f64(),
        );
        tokio::spawn(async move {
            let over = |by| {
                let now = Instant::now();
                place.closing(by, now);
                if meter.is_forgotten() {
                    self.doubt_idle(peer, meter.last_write().unwrap_or(now), now);
                }
            };
            let end = driver.run(|| place.trusted(Instant::now()), over).await;
            drop(seat);
            self.ends.increment((Facing::Upstream, end.how));
            let now = Instant::now();
            if place.is_unused() {
                self.note_refusal(&facts, &meter);
            }
            place.socket_ended(end, now);
            self.connection_gone(&generation, id, now);
            self.tell_learned_timeout();
            self.tell_closes_at_any_time();
        });
    }

    /// Has the idle connections to an address probed, as the network has forgotten another one, on which bytes were sent at
    /// that time.
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

    /// Names a configured timeout that the upstream does not keep, once for each configuration.
    fn tell_learned_timeout(&self) {
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

    /// Says why some requests get new connections, once for each configuration.
    fn tell_closes_at_any_time(&self) {
        if self.pool().closes_at_any_time() && !self.habit_told.swap(true, SeqCst) {
            tracing::warn!(
                upstream = self.name(),
                "the upstream closes idle connections at any time: requests that could not be sent again get new ones"
            );
        }
    }

    async fn dial(
        &self,
        permit: &Permit<Connection, ConnectError>,
        resolver: &Resolver,
    ) -> Result<Ready, Failed> {
        let generation = self.generation.share();
        let limits = self.settings().connect.clone();
        let addresses = &generation.addresses;
        let spare = || permit.spare();
        let reached = reach(&generation.endpoint, resolver, &limits, addresses, &spare).await;
        self.leave_lost_addresses(&generation);
        let reached = reached?;
        let address = reached.peer;
        let dialled =
            self.shake_hands(reached, &generation.tls, &limits).await.inspect_err(|_| {
                addresses.failed(address.ip(), Trouble::Slow, Instant::now());
            })?;
        let chain = dialled.chain().to_vec();
        let (connection, driver) =
            connection::start(dialled, generation.number, generation.header_case).await.map_err(
                |error| ConnectError::Broken { address, error: std::io::Error::other(error) },
            )?;
        generation.opened(permit.id(), connection.switch(), &chain);
        Ok(Ready { connection, driver, generation })
    }

    /// Makes and counts the handshakes of a dial; tells what was learned by a second one.
    async fn shake_hands(
        &self,
        reached: Reached,
        client: &tls::Client,
        limits: &Limits,
    ) -> Result<Dialled, Failed> {
        let mut first_error = None;
        let failed_first = |error: &ConnectError| {
            self.counters.handshake_failed(error);
            first_error = Some(error.to_string());
        };
        let dialled = handshake::shake_hands(reached, client, limits, failed_first)
            .await
            .inspect_err(|failed| self.counters.handshake_failed(&failed.error))?;
        self.counters.handshake_done(&dialled);
        self.tell(dialled.lesson, dialled.peer, first_error.as_deref());
        Ok(dialled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
