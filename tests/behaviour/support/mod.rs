//! The tests' support: an [`authority`] that issues every odd certificate, a counting [`origin`], a raw [`client`],
//! [`names`] that resolve as a test sets, and Warmline itself, which runs inside the test's process.
//!
//! ```ignore
//! #[test]
//! fn forty_clients_share_one_connection() {
//!     let origin = Origin::serving().start();
//!     let warmline = Setup::before(&origin).start();
//!     for _ in 0..40 {
//!         assert_eq!(warmline.one_shot("/any").status, 200);
//!     }
//!     assert_eq!(origin.record().connections.len(), 1);
//! }
//!
//! #[test]
//! fn a_peer_that_resets_in_mid_body() {
//!     let origin = Origin::scripted(|mut peer| async move {
//!         peer.request().await;
//!         peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
//!         peer.reset();
//!     })
//!     .start();
//!     let warmline = Setup::before(&origin).start();
//!     let mut client = warmline.connect();
//!     client.send("GET / HTTP/1.1\r\nHost: api.test\r\n\r\n");
//!     let broken = client.response_to("GET").expect_err("the body broke");
//!     assert_eq!(broken.end, Ending::Reset);
//! }
//! ```
//!
//! Tests do not sleep: they wait for events with [`origin::Origin::wait_for`], a [`origin::Gate`], or a read that ends.

pub mod authority;
pub mod client;
pub mod kernel;
pub mod key_format;
pub mod lives;
pub mod log_lines;
pub mod message;
pub mod mount;
#[allow(dead_code, reason = "the resolver's own tests use the rest of it")]
pub mod name_server;
pub mod names;
pub mod origin;
pub mod pattern;
pub mod program;
pub mod refusing;
pub mod running;
pub mod setup;
pub mod silent;

use std::{
    env, thread,
    time::{Duration, Instant},
};

/// The time that a test waits for an event before it fails; far longer than any event takes.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// True if the long versions of the tests are wanted (`WARMLINE_SOAK=1`); they run alone, with `--test-threads=1`.
pub fn soaking() -> bool {
    env::var_os("WARMLINE_SOAK").is_some_and(|value| value == "1")
}

/// Runs the work on `count` threads at once, each with its number, until all are done.
pub fn together(count: usize, work: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        let work = &work;
        for number in 0..count {
            scope.spawn(move || work(number));
        }
    });
}

/// Waits until the condition holds, which is checked every millisecond; panics with `what` if it never does.
pub fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "this never came true: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
