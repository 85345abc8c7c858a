//! A handshake's note: facts that the verifier and the resolver of client certificates learn and rustls has no place for.
//!
//! Both are shared by all handshakes of an upstream, as a session resumes under the same two objects only. So the note belongs
//! to the task that shakes hands.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::{label, telemetry::Label as _};

tokio::task_local! {
    static NOTE: Arc<Note>;
}

label! {
    /// The answer to a server's question for a client certificate.
    #[derive(Default)]
    pub enum Shown {
        /// There was no question.
        #[default]
        NotAsked = "not-asked",
        /// The server asked, and none is configured.
        NotConfigured = "not-configured",
        /// The server asked, and takes none of the signatures that our key can make.
        NoSignature = "no-signature",
        /// The server asked, and got ours.
        Sent = "sent",
        /// There was no question, as an earlier session went on.
        Resumed = "resumed",
    }
}

/// The last answer to a question for a client certificate, of all handshakes under one configuration; a certificate that was
/// sent once has been shown.
#[derive(Debug, Default)]
pub(super) struct LastShown(AtomicUsize);

impl LastShown {
    pub(super) fn get(&self) -> Shown {
        Shown::at(self.0.load(Relaxed))
    }

    /// Notes an answer, here and in the note of its handshake.
    pub(super) fn note(&self, shown: Shown) {
        if self.get() != Shown::Sent {
            self.0.store(shown.index(), Relaxed);
        }
        // Without a note nobody wants to know: some tests call a resolver by hand.
        let _ = NOTE.try_with(|note| note.shown.set(shown));
    }
}

/// The facts of one handshake.
#[derive(Debug, Default)]
pub struct Note {
    shown: OnceLock<Shown>,
    refusal: OnceLock<String>,
}

impl Note {
    /// Runs a handshake whose facts are noted here.
    pub fn of<F: Future>(self: &Arc<Self>, handshake: F) -> impl Future<Output = F::Output> {
        NOTE.scope(Arc::clone(self), handshake)
    }

    /// The answer to the server's question for a certificate.
    pub fn shown(&self) -> Shown {
        self.shown.get().copied().unwrap_or_default()
    }

    /// The reason why the server's certificate was refused, with the remedy.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.get().map(String::as_str)
    }
}

/// Notes why the server's certificate is refused.
pub(super) fn refused(reason: impl FnOnce() -> String) {
    // Without a note nobody wants to know: chains are verified outside of handshakes too.
    let _ = NOTE.try_with(|note| note.refusal.set(reason()));
}
