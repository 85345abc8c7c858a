//! The limit on address space (`ulimit -v`). Allocators reserve far more of it than they use; where the limit is too
//! low, a thread's first allocation ends the process without a message.

use rustix::process::{Resource, getrlimit};

/// The bytes that a thread reserves: a segment of mimalloc's, an arena of the C library's, its stack.
const OF_A_THREAD: u64 = 112 * 1024 * 1024;
/// The bytes that a thread reserves if it does little and soon ends: without room the C library does without an arena.
const OF_A_SHORT_THREAD: u64 = 64 * 1024 * 1024;
/// The number of threads beside the workers and `configmap`: main, `operations`, `watch`, notify's for inotify, `signals`,
/// `log`.
const OTHER_THREADS: usize = 6;
/// The number of threads for one request: main, and one that resolves the name.
const THREADS_OF_A_REQUEST: usize = 2;
const MIB: u64 = 1024 * 1024;

/// A limit that is too low.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit on address space (ulimit -v, LimitAS) is {} MiB, and {threads} threads reserve up to {} MiB, most of which is \
     never used: raise that limit or take it away, and bound the memory in use instead (a container's memory limit, MemoryMax)",
    .limit / MIB, .needed / MIB
)]
pub struct TooLittle {
    limit: u64,
    threads: usize,
    needed: u64,
}

/// Fails if the limit is too low for this number of workers and the other threads, of which `configmap` exists only where
/// a `ConfigMap` is followed.
pub(crate) fn suffices(workers: usize, follows_configmap: bool) -> Result<(), TooLittle> {
    let threads = workers + OTHER_THREADS + usize::from(follows_configmap);
    judge(limit(), threads, OF_A_THREAD)
}

/// Fails if the limit is too low for a program that makes one request.
pub(crate) fn suffices_for_a_request() -> Result<(), TooLittle> {
    judge(limit(), THREADS_OF_A_REQUEST, OF_A_SHORT_THREAD)
}

fn limit() -> Option<u64> {
    getrlimit(Resource::As).current
}

/// Fails if the limit in bytes is lower than this number of threads needs, at `each` bytes; `None` is no limit.
fn judge(limit: Option<u64>, threads: usize, each: u64) -> Result<(), TooLittle> {
    let needed = each * threads as u64;
    match limit {
        Some(limit) if limit < needed => Err(TooLittle { limit, threads, needed }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_38_too_little_address_space_is_told_with_what_would_suffice() {
        let judge = |limit, threads| judge(limit, threads, OF_A_THREAD);
        assert_eq!(judge(None, 6), Ok(()));
        assert_eq!(judge(Some(672 * MIB), 6), Ok(()));
        let told = judge(Some(400 * MIB), 6).expect_err("it is too little").to_string();
        assert!(
            told.contains("(ulimit -v, LimitAS) is 400 MiB, and 6 threads reserve up to 672 MiB")
        );
        assert!(judge(Some(672 * MIB), 7).is_err(), "more workers need more");
    }
}
