//! The way to ask the thread that follows the files for a look at them now.

use tokio::sync::{
    mpsc::{Receiver, Sender, channel},
    oneshot,
};

/// The number of asks that may be waiting for an answer; a further one waits for room.
const ASKS: usize = 16;

use crate::config::Source;

/// The way to the thread that follows the configuration's source.
#[derive(Debug)]
pub(crate) struct Follower {
    /// The source that is followed.
    pub source: Source,
    asks: Sender<LookRequest>,
}

/// The sender for the outcome of one look, held by the following thread until it has looked.
pub(crate) type LookRequest = oneshot::Sender<LookOutcome>;

/// The outcome of a look at the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LookOutcome {
    /// The files had changed, and their content is now in force.
    Applied,
    /// The files' content was in force already.
    Unchanged,
    /// The files' content cannot be used, for this reason; the old content stays in force.
    Refused(String),
}

impl Follower {
    /// Makes the way to the follower of this source, and the receiver at which the follower gets the asks.
    #[must_use]
    pub(crate) fn new(source: &Source) -> (Self, Receiver<LookRequest>) {
        let (asks, arriving) = channel(ASKS);
        (Self { source: source.clone(), asks }, arriving)
    }

    /// Has the files looked at, and returns the outcome; `None` if the follower has ended.
    pub(super) async fn look(&self) -> Option<LookOutcome> {
        let (ask, answer) = oneshot::channel();
        self.asks.send(ask).await.ok()?;
        answer.await.ok()
    }
}
