//! Descriptors that are used up. The limit is the process's, and so is the sign: whoever meets it tells, and pools close
//! connections that nobody uses.

use std::io;

use tokio::sync::{Notify, futures::Notified};

static USED_UP: Notify = Notify::const_new();

/// Whether this error says that the process (EMFILE), or the machine (ENFILE), has no descriptor left.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// Tells everyone who waits at this moment.
pub fn tell_used_up() {
    USED_UP.notify_waiters();
}

/// Ready once it is told.
pub fn used_up() -> Notified<'static> {
    USED_UP.notified()
}
