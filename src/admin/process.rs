//! The kernel's facts about the process, for the `process_*` metrics.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::descriptors;

/// The unit of times in `/proc`: 100 ticks a second on every architecture that Warmline is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// The facts from `/proc/self` and the resource limits; `None` for what cannot be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Process {
    /// The user and system CPU time, in seconds.
    pub cpu_seconds: Option<f64>,
    /// The resident memory, in bytes.
    pub resident_memory: Option<u64>,
    /// The virtual memory, in bytes.
    pub virtual_memory: Option<u64>,
    /// The number of open file descriptors.
    pub open_fds: Option<u64>,
    /// The soft limit on open file descriptors; `None` also if there is no limit.
    pub max_fds: Option<u64>,
}

impl Process {
    /// Reads the facts now. A file of `/proc` that cannot be read leaves its facts `None`.
    pub(super) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self {
            cpu_seconds: cpu_seconds(&stat),
            resident_memory: kilobytes(&status, "VmRSS:"),
            virtual_memory: kilobytes(&status, "VmSize:"),
            open_fds: descriptors::open().map(|open| open as u64),
            max_fds: getrlimit(Resource::Nofile).current,
        }
    }
}

/// Parses the CPU time (fields 14 and 15) from `/proc/self/stat`, and returns seconds. Parsing starts after the last
/// `)`, because the second field is the program's name in parentheses and may contain spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// Returns the value of a line of `/proc/self/status` in kB, converted to bytes.
fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_program_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 99 1024 2";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (a) S 1 7"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tVmRSS\nVmSize:\t    2048 kB\nVmRSS:\t 12 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(12 * 1024));
        assert_eq!(kilobytes(status, "VmSize:"), Some(2 * 1024 * 1024));
        assert_eq!(kilobytes(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let process = Process::read();
        assert!(process.resident_memory > Some(1024 * 1024), "{process:?}");
        assert!(process.virtual_memory >= process.resident_memory, "{process:?}");
        assert!(process.open_fds >= Some(3) && process.cpu_seconds.is_some(), "{process:?}");
    }
}
