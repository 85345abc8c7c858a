//! A gate that a test opens: threads and scripts wait for that event, not for a clock.

use std::sync::Arc;

use tokio::sync::watch;

/// A gate, closed at first; clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// Makes a closed gate.
    pub fn new() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }

    /// Opens the gate for good.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Blocks the thread until the gate is open.
    pub fn wait(&self) {
        super::super::wait_for("a gate's opening", || *self.0.borrow());
    }

    /// Waits in a script until the gate is open.
    pub async fn opened(&self) {
        let mut receiver = self.0.subscribe();
        let _ = receiver.wait_for(|open| *open).await;
    }
}
