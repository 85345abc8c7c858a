//! The `warmline` program.

use std::process::ExitCode;

/// The allocator: small, and fast for many small allocations; the one of musl is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    warmline::cli::main()
}
