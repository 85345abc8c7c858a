//! The `warmline` program.

use std::process::ExitCode;

/// Small and fast for many small allocations; musl's own is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    warmline::cli::main()
}
