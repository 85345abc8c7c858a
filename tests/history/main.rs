//! The fate of each request under faults, proven from the logs of both ends.
//!
//! Clients and origins log every request by its id; [`check`] judges the two logs together, and each run of [`faults`]
//! must pass. `WARMLINE_SOAK=1` sends over a million requests; `make reliability` sends the same load through `HAProxy`
//! and nginx as well, and prints the table of docs/reliability.md.

#![allow(unreachable_pub, reason = "one crate without users: visibility inside it says enough")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is how it fails")]

#[path = "../peers/process.rs"]
#[allow(dead_code, reason = "shared with the tests before peers; not all of it is needed here")]
mod process;
#[path = "../behaviour/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the tests of behaviour")]
mod support;

mod check;
mod content;
mod controls;
mod faults;
mod forged;
mod history;
mod load;
mod origin;
mod proxy;
mod reliability;
mod runs;
mod verdict;
