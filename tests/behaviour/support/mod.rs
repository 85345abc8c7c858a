//! What the tests stand on: an [`authority`] that issues every odd certificate, a counting [`origin`], a raw [`client`],
//! [`names`] that resolve as a test wants, and Warmline itself, running inside the test's process.
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
//!     let broken = warmline.connect().try_get("/any").expect_err("the body broke");
//!     assert_eq!(broken.end, Ending::Reset);
//! }
//! ```
//!
//! Nothing sleeps: wait for events with [`origin::Origin::wait_for`], a [`origin::Gate`], or a read that ends.

pub mod authority;
pub mod client;
pub mod key_format;
pub mod message;
pub mod names;
pub mod origin;
pub mod pattern;

use std::time::Duration;

/// How long a test waits for an event before it fails: never reached when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);
