//! The limit on address space (`ulimit -v`). Allocators reserve far more of it than they use; where it does not suffice, a
//! thread's first allocation ends the process without a word of ours.

use rustix::process::{Resource, getrlimit};

/// Bytes that a thread reserves: a segment of mimalloc's, an arena of the C library's, its stack.
const OF_A_THREAD: u64 = 112 * 1024 * 1024;
/// Threads beside the workers: main, `operations`, `watch`, `signals`, `log`.
const OTHER_THREADS: usize = 5;
const MIB: u64 = 1024 * 1024;

/// A limit that is too low.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit on address space (ulimit -v, LimitAS) is {} MiB, and {threads} threads reserve up to {} MiB, most of which is \
     never used: raise that limit or take it away, and bound the memory in use instead (a container's memory limit, MemoryMax)",
    .limit / MIB, of(*.threads) / MIB
)]
pub struct TooLittle {
    limit: u64,
    threads: usize,
}

/// Fails if the limit does not suffice for so many workers.
pub fn suffices(workers: usize) -> Result<(), TooLittle> {
    judge(getrlimit(Resource::As).current, workers + OTHER_THREADS)
}

fn judge(limit: Option<u64>, threads: usize) -> Result<(), TooLittle> {
    match limit {
        Some(limit) if limit < of(threads) => Err(TooLittle { limit, threads }),
        _ => Ok(()),
    }
}

fn of(threads: usize) -> u64 {
    OF_A_THREAD * threads as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_38_too_little_address_space_is_told_with_what_would_suffice() {
        assert_eq!(judge(None, 6), Ok(()));
        assert_eq!(judge(Some(672 * MIB), 6), Ok(()));
        let told = judge(Some(400 * MIB), 6).expect_err("it is too little").to_string();
        assert!(
            told.contains("(ulimit -v, LimitAS) is 400 MiB, and 6 threads reserve up to 672 MiB")
        );
        assert!(judge(Some(672 * MIB), 7).is_err(), "more workers need more");
    }
}
