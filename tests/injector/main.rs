//! `warmline injector` as the API server and kubelet see it: the program, over real sockets and TLS.

#![allow(unreachable_pub, reason = "one crate without users: visibility inside it says enough")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is how it fails")]

mod certificates;
mod ending;
mod hostile;
mod program;
mod reviews;
