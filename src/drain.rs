//! The end of the process, as everyone sees it: serving, draining, aborting (design, section 4.15).

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::SeqCst},
};

use tokio::sync::{Notify, futures::OwnedNotified};

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// It has not begun.
    Serving,
    /// What is in flight may finish.
    Draining,
    /// What is in flight ends.
    Aborting,
}

/// The end, shared by all who must know of it.
#[derive(Debug, Clone, Default)]
pub struct Drain(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stage: AtomicU8,
    changed: Arc<Notify>,
}

impl Drain {
    /// How far it has come.
    pub fn stage(&self) -> Stage {
        match self.0.stage.load(SeqCst) {
            0 => Stage::Serving,
            1 => Stage::Draining,
            _ => Stage::Aborting,
        }
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.stage() > Stage::Serving
    }

    /// What is in flight may finish, nothing new begins.
    pub fn begin(&self) {
        self.advance(Stage::Draining);
    }

    /// What is in flight ends.
    pub fn abort(&self) {
        self.advance(Stage::Aborting);
    }

    fn advance(&self, to: Stage) {
        if self.0.stage.fetch_max(to as u8, SeqCst) < to as u8 {
            self.0.changed.notify_waiters();
        }
    }

    /// Completes at the next change of stage after this call.
    pub fn changed(&self) -> OwnedNotified {
        Arc::clone(&self.0.changed).notified_owned()
    }

    /// Completes once it has begun.
    pub async fn begun(&self) {
        self.reached(Stage::Draining).await;
    }

    /// Completes once what is in flight must end.
    pub async fn aborted(&self) {
        self.reached(Stage::Aborting).await;
    }

    async fn reached(&self, stage: Stage) {
        loop {
            let changed = self.changed();
            if self.stage() >= stage {
                return;
            }
            changed.await;
        }
    }
}
