//! The admission webhook: pods that ask for a sidecar get one (design, section 9).
//!
//! `decision` is what it is for, and pure: one pod in, one decision out. Around it `review` speaks the API server's
//! protocol.

mod annotations;
mod decision;
mod obstacles;
mod patch;
mod pod;
mod quantity;
mod resources;
mod sidecar;

pub use resources::{Bounds, Defaults};
pub use sidecar::{ConfigSource, Platform, PullPolicy, Settings as Sidecar};
