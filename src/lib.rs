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
pub mod admin;
pub mod demo;
pub mod injector;
pub mod listener;

// Intent: what users write, and the validated plan that comes of it.
pub mod config;

// A request's journey.
pub mod proxy;

// Destinations.
pub mod route;
pub mod upstream;

// Connecting.
pub mod api_server;
pub mod connect;

// Core: `pool` and `tls` know neither each other nor hyper.
pub mod pool;
pub mod tls;

// Bounds: how much the process, or one of its ports, may have of what is scarce.
pub mod clients;
pub mod resources;

// Foundation: small modules that all others may use.
pub mod address_space;
pub mod backoff;
pub mod descriptors;
pub mod drain;
pub mod head;
pub mod latest;
pub mod memory;
pub mod socket;
pub mod stamp;
pub mod telemetry;
