//! The ways in which an origin lets clients resume sessions, and forgets them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    server::{NoServerSessionStorage, StoresServerSessions},
};

/// A way in which an origin lets clients resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    /// The server keeps the sessions: session IDs in TLS 1.2, stateful tickets in 1.3.
    Sessions,
    /// The client keeps the sessions: stateless tickets in both versions.
    Tickets,
    /// No resumption.
    None,
}

/// The sessions that an origin keeps; it may forget them while clients still offer them.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Vec<u8>, Vec<u8>>>);

impl Sessions {
    /// Changes a server's configuration so that it resumes in this way.
    pub(super) fn apply(self: &Arc<Self>, resumption: Resumption, config: &mut ServerConfig) {
        match resumption {
            Resumption::Sessions => config.session_storage = Arc::<Self>::clone(self),
            Resumption::Tickets => config.ticketer = Ticketer::new().expect("tickets can be made"),
            Resumption::None => {
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
            }
        }
    }

    /// Forgets every session.
    pub(super) fn forget(&self) {
        self.map().clear();
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, Vec<u8>>> {
        self.0.lock().expect("nothing panics inside")
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.map().insert(key, value);
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.map().get(key).cloned()
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.map().remove(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}
