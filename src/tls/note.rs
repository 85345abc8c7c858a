//! The note of a handshake: facts that the verifier and the resolver of client certificates learn and rustls has no
//! place for.
//!
//! Verifier and resolver are shared by all handshakes of an upstream, as a session resumes only under the same two
//! objects. Therefore the note belongs to the task that makes the handshake.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::{label, telemetry::Label as _};

tokio::task_local! {
    static NOTE: Arc<Note>;
}

label! {
    /// The use of Warmline's certificate in a handshake.
    #[derive(Default)]
    pub enum CertificateUse {
        /// The server did not ask for a certificate.
        #[default]
        NotAsked = "not-asked",
        /// The server asked, and no certificate is configured.
        NotConfigured = "not-configured",
        /// The server asked, and takes none of the signatures that Warmline's key can make.
        NoSignature = "no-signature",
        /// The server asked, and got the certificate.
        Sent = "sent",
        /// The server did not ask, as an earlier session was resumed.
        Resumed = "resumed",
    }
}

/// The last use of Warmline's certificate in the handshakes under one configuration; once a certificate was sent, that
/// stays.
#[derive(Debug, Default)]
pub(super) struct LastCertificateUse(AtomicUsize);

impl LastCertificateUse {
    pub(super) fn get(&self) -> CertificateUse {
        CertificateUse::at(self.0.load(Relaxed))
    }

    /// Notes a use, here and in the note of its handshake.
    pub(super) fn note(&self, shown: CertificateUse) {
        if self.get() != CertificateUse::Sent {
            self.0.store(shown.index(), Relaxed);
        }
        // Without a note there is no handshake: some tests call a resolver by hand.
        let _ = NOTE.try_with(|note| note.shown.set(shown));
    }
}

/// The facts of one handshake.
#[derive(Debug, Default)]
pub struct Note {
    shown: OnceLock<CertificateUse>,
    refusal: OnceLock<String>,
}

impl Note {
    /// Runs a handshake whose facts are noted here.
    pub fn of<F: Future>(self: &Arc<Self>, handshake: F) -> impl Future<Output = F::Output> {
        NOTE.scope(Arc::clone(self), handshake)
    }

    /// Returns the use of Warmline's certificate.
    pub fn shown(&self) -> CertificateUse {
        self.shown.get().copied().unwrap_or_default()
    }

    /// Returns the reason why the server's certificate was refused, with the remedy; `None` if it was not.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.get().map(String::as_str)
    }
}

/// Notes in the current handshake why the server's certificate is refused.
pub(super) fn refused(reason: impl FnOnce() -> String) {
    // Without a note there is no handshake: chains are verified outside of handshakes too.
    let _ = NOTE.try_with(|note| note.refusal.set(reason()));
}
