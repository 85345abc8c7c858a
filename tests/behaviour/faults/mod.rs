//! Faults from the field, each as a sentence that says what is right: `fault_NN_…` tests item NN of the list in
//! `tests/faults.rs`.

mod access_rate;
mod alarm;
mod authentication;
mod certificates;
mod departures;
mod descriptors;
mod duplex;
mod evidence;
mod first_message;
mod forgotten;
mod getting;
mod handshakes;
mod https;
mod idle_words;
mod latency;
mod memory;
mod names;
mod names_and_values;
mod reasons;
mod targets;
mod watching;
