//! A gate that a test opens: what stands behind it waits for that event and for no clock.

use std::sync::Arc;

use tokio::sync::watch;

/// A gate, closed at first; clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }

    /// Opens it for good: lets everyone pass, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is open, on a thread.
    pub fn wait(&self) {
        super::super::wait_for("a gate's opening", || *self.0.borrow());
    }

    /// Waits until it is open, in a script.
    pub async fn opened(&self) {
        let mut receiver = self.0.subscribe();
        let _ = receiver.wait_for(|open| *open).await;
    }
}
