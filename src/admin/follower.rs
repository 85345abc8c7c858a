//! Asking whoever follows the files to look at them now.

use tokio::sync::{
    mpsc::{Receiver, Sender, channel},
    oneshot,
};

/// How many may have asked without an answer yet; the next one waits.
const ASKS: usize = 16;

use crate::config::Source;

/// The way to whoever follows the configuration's source.
#[derive(Debug)]
pub struct Follower {
    /// What is followed.
    pub source: Source,
    asks: Sender<Ask>,
}

/// Someone who waits for the outcome of a look.
pub type Ask = oneshot::Sender<Looked>;

/// What a look at the files came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// What was found is in force.
    Applied,
    /// It was in force already.
    Unchanged,
    /// It cannot be used, and why: what is in force stays.
    Refused(String),
}

impl Follower {
    /// A way to the follower of this source, and its end, where the asks arrive.
    #[must_use]
    pub fn new(source: &Source) -> (Self, Receiver<Ask>) {
        let (asks, arriving) = channel(ASKS);
        (Self { source: source.clone(), asks }, arriving)
    }

    /// Has the files looked at; `None` where nobody follows them any more.
    pub(super) async fn look(&self) -> Option<Looked> {
        let (ask, answer) = oneshot::channel();
        self.asks.send(ask).await.ok()?;
        answer.await.ok()
    }
}
