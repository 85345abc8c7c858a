//! Warmline's behaviour as sentences, tested through real sockets against a counting origin made in the test.
//!
//! `case_NN_…` is a hostile case, by its number. `WARMLINE_SOAK=1` runs the long versions.

#![allow(unreachable_pub, reason = "one crate without users: visibility inside it says enough")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is how it fails")]

mod support;
mod support_itself;

mod access_log;
mod administration;
mod cap;
mod configmap;
mod draining;
mod explain;
mod faults;
mod fields;
mod hostile;
mod identity;
mod keeping;
mod large_bodies;
mod leaving;
mod limits;
mod own_answers;
mod polite_close;
mod queue;
mod reload;
mod reload_under_load;
mod resting;
mod resumption;
mod retries;
mod reuse;
mod risky;
mod rotation;
mod saturation;
mod stale;
mod streaming;
mod trust;
mod unread_log;
