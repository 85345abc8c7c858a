//! An end, as everyone whom it concerns sees it: serving, draining, aborting ("Draining" in docs/design.md).
//!
//! The process has one; what can end before it, such as a listener that a new configuration takes away, has a branch.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
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
    /// They never lag behind this one; those that nobody holds any more are left out at the next branching.
    branches: Mutex<Vec<Weak<Shared>>>,
}

impl Drain {
    /// One that begins with this one at the latest, and may begin before.
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
        self.0.advance(Stage::Draining);
    }

    /// What is in flight ends.
    pub fn abort(&self) {
        self.0.advance(Stage::Aborting);
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

impl Shared {
    fn advance(&self, to: Stage) {
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
        assert_eq!(second.stage(), Stage::Draining);
        whole.abort();
        assert_eq!([first.stage(), second.stage()], [Stage::Aborting; 2]);
        assert_eq!(whole.branch().stage(), Stage::Aborting, "a late branch has begun already");
    }
}
