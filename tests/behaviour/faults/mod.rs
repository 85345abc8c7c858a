//! Faults from the field, each as a sentence about what is right: `fault_NN_…` shows item NN of the list of faults.

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
