//! The rest of an idle client connection: hyper is taken away, whose state and buffers are most of the memory that such a
//! connection costs, until the application's next byte comes.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::{connection::Ending, stream::DownstreamStream};
use crate::{
    config::ListenerLimits,
    proxy::{Downstream, Phase},
};

/// Idle time before a connection rests. Waking it takes some microseconds, so this may be short.
const RESTS_AFTER: Duration = Duration::from_millis(500);
/// The same where hyper has much room to give back, and may hold the beginning of a next request in it.
const BULKY_RESTS_AFTER: Duration = Duration::from_millis(20);
/// Connections rest at moments of their own: where a crowd gives its memory back all at once, mimalloc keeps it.
const SPREAD: u64 = 256;

/// The time at which an idle connection rests, if it is one that may.
pub(super) fn due(downstream: &Downstream) -> Option<Instant> {
    // In a drain hyper knows which request is the last.
    if downstream.phase() != Phase::Idle || downstream.drain.has_begun() {
        return None;
    }
    let after = if downstream.is_bulky() { BULKY_RESTS_AFTER } else { RESTS_AFTER };
    let spread = Duration::from_millis(downstream.id % SPREAD);
    Some(downstream.since()? + after + spread)
}

/// Waits for the application's next byte, or its FIN; or says how the connection ends instead.
pub(super) async fn rest(
    stream: &DownstreamStream,
    downstream: &Downstream,
    limits: &ListenerLimits,
) -> Option<Ending> {
    if stream.has_request() {
        return None;
    }
    let ends = downstream.since().unwrap_or_else(Instant::now) + limits.idle_timeout;
    loop {
        let kept_until = downstream.kept_until().filter(|until| *until < ends);
        tokio::select! {
            biased;
            () = stream.readable() => return None,
            // A client that connected before the drain is served once.
            () = downstream.drain.begun() => return (!downstream.is_new()).then_some(Ending::Idle),
            () = sleep_until(kept_until.unwrap_or(ends).into()) => match kept_until {
                Some(_) => downstream.let_go(Instant::now()),
                None => return Some(Ending::Idle),
            },
        }
    }
}
