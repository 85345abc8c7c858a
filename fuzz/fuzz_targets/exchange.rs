//! A fuzz target that takes any bytes as a client's requests and any bytes as the upstream's answers: Warmline must not
//! panic, must frame each message in one way, and must answer the next request with its own answer only.
//!
//! Warmline itself runs in this process, between a client and a TLS origin; README.md describes an input's layout.

#![no_main]

#[path = "exchange/client.rs"]
mod client;
#[path = "exchange/input.rs"]
mod input;
#[path = "exchange/origin.rs"]
mod origin;
#[path = "exchange/received.rs"]
mod received;
#[path = "exchange/relayed.rs"]
mod relayed;
#[path = "exchange/world.rs"]
mod world;

use libfuzzer_sys::{Corpus, fuzz_target};

use input::Input;
use world::World;

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some(input) = Input::parse(bytes) else { return Corpus::Reject };
    let world = World::get();
    world.origin.answer_with(&input);
    let answered = client::exchange(world.address(), &input);
    relayed::check(&answered, &input);
    world.ask_sanely();
    world.check_cap();
    Corpus::Keep
});
