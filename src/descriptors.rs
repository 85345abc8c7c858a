//! Descriptors that are used up. The limit is the process's, and so is the sign: whoever meets it tells, and pools close
//! connections that nobody uses.

use std::{fs, io};

use tokio::sync::{Notify, futures::Notified};

static USED_UP: Notify = Notify::const_new();

/// Whether this error says that the process (EMFILE), or the machine (ENFILE), has no descriptor left.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// Counts the descriptors that are open, where `/proc` says so.
pub fn open() -> Option<usize> {
    // The directory is open while it is counted.
    fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1))
}

/// Tells everyone who waits at this moment.
pub fn tell_used_up() {
    USED_UP.notify_waiters();
}

/// Ready once it is told.
pub fn used_up() -> Notified<'static> {
    USED_UP.notified()
}
