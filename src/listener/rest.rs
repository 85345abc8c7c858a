//! The rest of an idle client connection: hyper's state and buffers, most of the memory that such a connection costs,
//! are freed until the client's next byte comes.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::stream::ClientStream;
use crate::{
    config::ListenerLimits,
    proxy::{Client, Phase},
};

/// The idle time after which a connection rests. Waking takes some microseconds, so this may be short.
const REST_DELAY: Duration = Duration::from_millis(500);
/// The idle time before a connection rests if hyper's buffer has grown, which may hold the beginning of a next request.
const BULKY_REST_DELAY: Duration = Duration::from_millis(20);
/// The range in milliseconds over which connections spread their rests: where many free their memory all at once,
/// mimalloc keeps that memory.
const SPREAD: u64 = 256;

/// Returns the time at which an idle connection is to rest, or `None` if it is not idle or a drain has begun.
pub(super) fn due(client: &Client) -> Option<Instant> {
    // In a drain hyper must know which request is the last.
    if client.phase() != Phase::Idle || client.drain.has_begun() {
        return None;
    }
    let after = if client.is_bulky() { BULKY_REST_DELAY } else { REST_DELAY };
    let spread = Duration::from_millis(client.id % SPREAD);
    Some(client.since()? + after + spread)
}

/// Waits for the client's next byte or FIN, and returns true; returns false if the connection's time to end comes first.
pub(super) async fn rest(stream: &ClientStream, client: &Client, limits: &ListenerLimits) -> bool {
    if stream.has_request() {
        return true;
    }
    let ends = client.since().unwrap_or_else(Instant::now) + limits.idle_timeout;
    loop {
        let kept_until = client.kept_until().filter(|until| *until < ends);
        tokio::select! {
            biased;
            () = stream.readable() => return true,
            // A request that came before the drain began is served.
            () = client.drain.begun() => return stream.has_arrived_bytes(),
            () = sleep_until(kept_until.unwrap_or(ends).into()) => match kept_until {
                Some(_) => client.let_go(Instant::now()),
                None => return false,
            },
        }
    }
}
