//! Bodies and answers that follow from a request's id alone, so that each end can tell to which request they belong.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::history::Id;

/// An origin's answer to one request.
pub struct Answer {
    /// The content.
    pub content: Vec<u8>,
    /// True if the content is sent in chunks, false if with a content-length.
    pub chunked: bool,
}

/// Returns the body of the POST with this id: at most 2 kB, and at most 100 kB for one in 64.
pub fn body(id: Id) -> Vec<u8> {
    let mut random = random(id, "body");
    let most = if random.u8(..) < 4 { 100_000 } else { 2_000 };
    bytes(&mut random, most)
}

/// Returns the answer to the request with this id.
pub fn answer(id: Id) -> Answer {
    let mut random = random(id, "answer");
    let most = if random.u8(..) < 4 { 100_000 } else { 4_000 };
    Answer { chunked: random.bool(), content: bytes(&mut random, most) }
}

/// Returns a hash that is the same for the same bytes in every process.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Returns a random generator whose sequence depends on the seed and the purpose alone.
pub fn random(seed: u64, purpose: &str) -> fastrand::Rng {
    let mut hasher = DefaultHasher::new();
    (seed, purpose).hash(&mut hasher);
    fastrand::Rng::with_seed(hasher.finish())
}

fn bytes(random: &mut fastrand::Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.usize(..=most)];
    random.fill(&mut bytes);
    bytes
}
