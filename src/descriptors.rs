//! The signal that descriptors are used up. Their limit is the whole process's: the task that meets it sends the
//! signal, and each pool closes idle connections.

use std::{fs, io};

use rustix::io::Errno;
use tokio::sync::{Notify, futures::Notified};

static SHORTAGE: Notify = Notify::const_new();

/// True if this error says that the process (EMFILE) or the machine (ENFILE) has no descriptor left.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Returns the number of open descriptors of this process; `None` where `/proc` does not tell it.
pub(crate) fn open() -> Option<usize> {
    // The directory itself is open while its entries are counted.
    fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1))
}

/// Wakes all tasks that wait in [`shortage`] at this moment.
pub(crate) fn signal_shortage() {
    SHORTAGE.notify_waiters();
}

/// Completes at the next [`signal_shortage`].
pub(crate) fn shortage() -> Notified<'static> {
    SHORTAGE.notified()
}
