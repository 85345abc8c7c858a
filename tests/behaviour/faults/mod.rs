//! Faults from the field, each as a sentence about what is right: `fault_NN_…` shows item NN of the list of faults.

mod alarm;
mod authentication;
mod descriptors;
mod first_message;
mod handshakes;
mod names;
mod targets;
