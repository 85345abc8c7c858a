//! The pool's rules as sentences; then random lives against a naive model, and a crowd on real threads.

#![allow(clippy::unchecked_time_subtraction, reason = "of constants")]
#![allow(unreachable_pub, reason = "visibility inside the tests says enough")]

mod authenticated;
mod cap;
mod closing;
mod crowd;
mod days;
mod dials;
mod doubts;
mod drain;
mod fresh;
mod generations;
mod learning;
mod limits;
mod model;
mod order;
mod orphans;
mod property;
mod queue;
mod reasons;
mod reconfigure;
mod risky;
mod scene;
mod sharing;
mod streams;
mod tokens;
mod urgency;
mod warm;
