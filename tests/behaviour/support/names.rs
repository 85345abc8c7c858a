//! Names for the tests: a resolver whose answers are fixed or change at every query.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use warmline::connect::Resolver;

/// Names and their addresses; clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    answers: Mutex<HashMap<String, Answers>>,
    queries: AtomicUsize,
}

/// The answers for a name, given one after another, over and over.
#[derive(Debug)]
struct Answers {
    turns: Vec<Vec<IpAddr>>,
    next: usize,
}

impl Names {
    /// Sets the addresses of a name, always the same.
    pub fn fixed(self, name: &str, addresses: &[&str]) -> Self {
        self.in_turn(name, &[addresses])
    }

    /// Sets the answers of a name: each query gets the next one, and the first follows the last.
    pub fn in_turn(self, name: &str, turns: &[&[&str]]) -> Self {
        let parse = |text: &&str| text.parse().expect("an address");
        let turns = turns.iter().map(|turn| turn.iter().map(parse).collect()).collect();
        let answers = Answers { turns, next: 0 };
        self.0.answers.lock().expect("no panic inside").insert(name.to_string(), answers);
        self
    }

    /// Returns the answer to a query of this name; `None` if the name is unknown.
    pub fn query(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.0.queries.fetch_add(1, Relaxed);
        let mut table = self.0.answers.lock().expect("no panic inside");
        let answers = table.get_mut(name)?;
        let answer = answers.turns[answers.next % answers.turns.len()].clone();
        answers.next += 1;
        Some(answer)
    }

    /// Returns a resolver that asks these names in place of DNS.
    pub fn resolver(&self) -> Resolver {
        let names = self.clone();
        Resolver::Fixed(Arc::new(move |name| names.query(name).unwrap_or_default()))
    }

    /// Returns the number of queries so far.
    pub fn queries(&self) -> usize {
        self.0.queries.load(Relaxed)
    }
}
