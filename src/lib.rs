//! Warmline: a sidecar for outbound calls. Plain HTTP on localhost goes in, and comes out over a warm pool of verified
//! (mutual) TLS connections.
//!
//! The groups of `mod` lines are the layers, top first. A module imports only from groups below its own; members of one
//! group do not import each other (`tests/architecture` checks it).

// Command line: arguments, subcommands, exit codes.
pub mod cli;

// Assembly: build, run, drain.
pub mod app;

// Edges: each faces one outside party.
pub(crate) mod admin;
pub mod demo;
pub(crate) mod injector;
pub mod listener;

// Intent: what users write, and the validated plan that comes of it.
pub mod config;

// A request's journey.
pub(crate) mod proxy;

// Destinations.
pub(crate) mod route;
pub mod upstream;

// Connecting.
pub(crate) mod api_server;
pub mod connect;

// Core: `pool` and `tls` know neither each other nor hyper.
pub mod pool;
pub mod tls;

// Bounds: how much the process, or one of its ports, may have of what is scarce.
pub(crate) mod clients;
pub mod resources;

// Foundation: small modules that all others may use.
pub(crate) mod address_space;
pub(crate) mod backoff;
pub(crate) mod descriptors;
pub mod drain;
pub(crate) mod head;
pub(crate) mod latest;
pub(crate) mod memory;
pub(crate) mod socket;
pub(crate) mod stamp;
pub mod telemetry;
