//! Warmline's behaviour as sentences, shown through real sockets against a counting origin made in the test.
//!
//! `case_NN_…` shows line NN of the list of hostile cases. `WARMLINE_SOAK=1` runs the long versions.

#![allow(unreachable_pub, reason = "one crate without users: visibility inside it says enough")]

mod support;
mod support_itself;
