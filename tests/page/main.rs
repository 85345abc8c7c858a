//! The page of administration in a real browser: headless Chromium, driven over its `DevTools` pipe.
//!
//! With `WARMLINE_SCREENSHOTS=FOLDER`, pictures of the page are left there, light and dark, wide and narrow.

#![allow(unreachable_pub, reason = "one crate without users: visibility inside it says enough")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is how it fails")]

#[path = "../peers/process.rs"]
#[allow(dead_code, reason = "shared with the tests before peers; not all of it is needed here")]
mod process;
#[path = "../behaviour/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the tests of behaviour")]
mod support;

mod browser;
mod foreign;
mod live;
mod looks;
