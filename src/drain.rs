//! The orderly end of the process or of a part of it, in stages: serving, draining, aborting ("Draining" in
//! docs/design.md).
//!
//! The process has one drain. A part that can end earlier, such as a listener that a new configuration removes, has a
//! branch of it.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU8, Ordering::SeqCst},
};

use tokio::sync::{Notify, futures::OwnedNotified};

/// The progress of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum DrainStage {
    /// The drain has not begun.
    Serving,
    /// Exchanges in flight may finish, and nothing new begins.
    Draining,
    /// Exchanges in flight are ended.
    Aborting,
}

/// A drain, shared by all tasks that act on it; clones are the same drain.
#[derive(Debug, Clone, Default)]
pub struct Drain(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stage: AtomicU8,
    changed: Arc<Notify>,
    /// The branches of this drain. A branch is never at an earlier stage than this. Dropped ones are removed when
    /// another branch is made.
    branches: Mutex<Vec<Weak<Shared>>>,
}

impl Drain {
    /// Makes a branch: a drain that begins with this one at the latest, and may begin earlier.
    #[must_use]
    pub fn branch(&self) -> Self {
        let branch = Self::default();
        {
            let mut branches = self.0.branches();
            branches.retain(|branch| branch.strong_count() > 0);
            branches.push(Arc::downgrade(&branch.0));
        }
        branch.0.advance(self.stage());
        branch
    }

    /// Returns the present stage.
    pub fn stage(&self) -> DrainStage {
        match self.0.stage.load(SeqCst) {
            0 => DrainStage::Serving,
            1 => DrainStage::Draining,
            _ => DrainStage::Aborting,
        }
    }

    /// True if the drain has begun.
    pub fn has_begun(&self) -> bool {
        self.stage() > DrainStage::Serving
    }

    /// Begins the drain: exchanges in flight may finish, and nothing new begins.
    pub fn begin(&self) {
        self.0.advance(DrainStage::Draining);
    }

    /// Ends the exchanges in flight.
    pub fn abort(&self) {
        self.0.advance(DrainStage::Aborting);
    }

    /// Completes at the next change of stage after this call.
    pub fn changed(&self) -> OwnedNotified {
        Arc::clone(&self.0.changed).notified_owned()
    }

    /// Completes once the drain has begun.
    pub async fn begun(&self) {
        self.reached(DrainStage::Draining).await;
    }

    /// Completes once exchanges in flight must end.
    pub async fn aborted(&self) {
        self.reached(DrainStage::Aborting).await;
    }

    /// Completes once the drain is at this stage, or at a later one.
    async fn reached(&self, stage: DrainStage) {
        loop {
            let changed = self.changed();
            if self.stage() >= stage {
                return;
            }
            changed.await;
        }
    }
}

impl Shared {
    /// Advances the drain and its branches to this stage, and wakes those that wait for a change. Does nothing if it is
    /// there already, or further.
    fn advance(&self, to: DrainStage) {
        if self.stage.fetch_max(to as u8, SeqCst) < to as u8 {
            self.changed.notify_waiters();
            let branches: Vec<_> = self.branches().iter().filter_map(Weak::upgrade).collect();
            for branch in branches {
                branch.advance(to);
            }
        }
    }

    fn branches(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Self>>> {
        self.branches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_follows_the_whole_and_the_whole_does_not_follow_a_branch() {
        let whole = Drain::default();
        let (first, second) = (whole.branch(), whole.branch());
        first.begin();
        assert!(first.has_begun() && !second.has_begun() && !whole.has_begun());
        whole.begin();
        assert_eq!(second.stage(), DrainStage::Draining);
        whole.abort();
        assert_eq!([first.stage(), second.stage()], [DrainStage::Aborting; 2]);
        assert_eq!(whole.branch().stage(), DrainStage::Aborting, "a late branch has begun already");
    }
}
