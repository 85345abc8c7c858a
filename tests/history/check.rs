//! The judge of a history: a pure function, so that `forged.rs` can show that every rule can fail.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Instant,
};

use http::Method;

use crate::{
    history::{Connection, Delivery, Fate, History, Id, Outcome, Request, Rules},
    verdict::{Breach, Verdict},
};

/// Judges a history by the rules: returns every breach, and the counts of the run.
pub fn check(history: &History, rules: &Rules) -> Verdict {
    let mut judge = Judge { history, rules, verdict: Verdict::default() };
    let sent = judge.sent();
    let arrived = judge.arrivals(&sent);
    judge.outcomes(&sent, &arrived);
    judge.caps();
    judge.ends();
    judge.account();
    judge.verdict
}

struct Judge<'a> {
    history: &'a History,
    rules: &'a Rules,
    verdict: Verdict,
}

type Sent<'a> = HashMap<Id, &'a Request>;
type Arrived<'a> = HashMap<Id, Vec<&'a Delivery>>;

impl<'a> Judge<'a> {
    fn breach(&mut self, breach: Breach) {
        self.verdict.breaches.push(breach);
    }

    fn sent(&mut self) -> Sent<'a> {
        let mut sent = Sent::new();
        for request in &self.history.requests {
            if sent.insert(request.id, request).is_some() {
                self.breach(Breach::AmbiguousId(request.id));
            }
            match request.method {
                Method::GET => self.verdict.figures.gets += 1,
                _ => self.verdict.figures.posts += 1,
            }
        }
        sent
    }

    /// Checks every delivery against its request (upstream, method, body, Host, client certificate, SNI) and counts how
    /// often each request arrived. Returns the deliveries by request id.
    fn arrivals(&mut self, sent: &Sent) -> Arrived<'a> {
        let mut arrived = Arrived::new();
        for delivery in &self.history.deliveries {
            match sent.get(&delivery.id) {
                Some(request) => self.arrival(request, delivery),
                None => self.breach(Breach::Unknown(delivery.id)),
            }
            arrived.entry(delivery.id).or_default().push(delivery);
        }
        for (id, deliveries) in &arrived {
            let idempotent = sent.get(id).is_some_and(|request| request.method.is_idempotent());
            if !idempotent && deliveries.len() > 1 {
                self.verdict.figures.duplicates += 1;
                self.breach(Breach::Duplicate(*id));
            } else if deliveries.len() > self.rules.attempts {
                self.breach(Breach::TooManyAttempts(*id));
            }
        }
        arrived
    }

    fn arrival(&mut self, request: &Request, delivery: &Delivery) {
        let (id, upstream) = (request.id, &self.rules.upstreams[request.upstream]);
        let connection = &self.history.connections[delivery.upstream][delivery.connection];
        let identity = connection.client.as_ref();
        let known = identity.is_some_and(|identity| upstream.identities.contains(identity));
        let same_name = connection.server_name.as_ref() == Some(&upstream.name);
        let same_body = delivery.body.is_none_or(|body| body == request.body);
        for (right, breach) in [
            (request.upstream == delivery.upstream, Breach::WrongUpstream(id)),
            (request.method == delivery.method, Breach::WrongMethod(id)),
            (same_body, Breach::WrongBody(id)),
            (upstream.hosts.contains(&delivery.host), Breach::WrongHost(id)),
            (known, Breach::WrongIdentity(id)),
            (same_name, Breach::WrongServerName(id)),
        ] {
            if !right {
                self.breach(breach);
            }
        }
    }

    /// Checks that each request ended exactly once, and that each right answer was written by an origin.
    fn outcomes(&mut self, sent: &Sent, arrived: &Arrived) {
        let mut ended = HashMap::new();
        for (id, outcome) in &self.history.outcomes {
            match ended.entry(*id) {
                Entry::Vacant(place) if sent.contains_key(id) => _ = place.insert(*outcome),
                _ => self.breach(Breach::SurplusOutcome(*id)),
            }
        }
        for (id, request) in sent {
            let deliveries = arrived.get(id).map(Vec::as_slice).unwrap_or_default();
            match ended.get(id) {
                Some(outcome) => self.outcome(request, *outcome, deliveries),
                None => self.breach(Breach::NoOutcome(*id)),
            }
        }
    }

    fn outcome(&mut self, request: &Request, outcome: Outcome, deliveries: &[&Delivery]) {
        match outcome {
            Outcome::Right => {
                if !deliveries.iter().any(|delivery| delivery.fate == Fate::Answered) {
                    self.breach(Breach::AnswerFromNowhere(request.id));
                }
            }
            Outcome::Wrong => {
                self.verdict.figures.wrong += 1;
                self.breach(Breach::WrongAnswer(request.id));
            }
            Outcome::Refused(_) | Outcome::Aborted => self.failure(request, deliveries),
        }
    }

    /// Counts a failed request as broken by the origin, or as lost by the proxy.
    fn failure(&mut self, request: &Request, deliveries: &[&Delivery]) {
        let idempotent = request.method.is_idempotent();
        let with = |fates: &[Fate]| deliveries.iter().filter(|d| fates.contains(&d.fate)).count();
        let unanswered = with(&[Fate::ResetBeforeHeader]);
        let begun = with(&[Fate::ResetInHeader, Fate::ResetInBody]);
        let figures = &mut self.verdict.figures;
        // An idempotent request may be tried again until a byte of an answer has come.
        if begun > 0 || unanswered >= if idempotent { self.rules.attempts } else { 1 } {
            figures.broken += 1;
        } else if request.method == Method::GET {
            figures.lost_gets += 1;
        } else {
            figures.lost_posts += 1;
            figures.lost_after_delivery += usize::from(!deliveries.is_empty());
        }
    }

    fn caps(&mut self) {
        for (upstream, connections) in self.history.connections.iter().enumerate() {
            let (most, above) = at_once(connections, self.rules.cap);
            let figures = &mut self.verdict.figures;
            figures.connections += connections.len();
            figures.most = figures.most.max(most);
            figures.above_cap += above;
            if self.rules.strict_cap && above > 0 {
                self.breach(Breach::AboveCap { upstream, at_once: most });
            }
        }
    }

    fn ends(&mut self) {
        for (upstream, connections) in self.history.connections.iter().enumerate() {
            let open = connections.iter().filter(|connection| connection.ended.is_none()).count();
            if open > 0 {
                self.breach(Breach::StillOpen { upstream, connections: open });
            }
        }
    }

    /// Checks the proxy's own counts against what the clients and the origins saw.
    fn account(&mut self) {
        let history = self.history;
        let Some(account) = &history.account else { return };
        self.verdict.figures.changes = account.changes;
        if account.most > self.rules.cap {
            self.breach(Breach::CountedAboveCap(account.most));
        }
        if account.left > 0 {
            self.breach(Breach::LeftInPool(account.left));
        }
        let seen = account.opened.iter().zip(&history.connections);
        for (upstream, (&opened, connections)) in seen.enumerate() {
            let accepted = connections.len() as u64;
            if opened != accepted {
                self.breach(Breach::Uncounted { upstream, opened, accepted });
            }
        }
        let (counted, sent) = (account.requests, history.requests.len() as u64);
        if counted != sent {
            self.breach(Breach::Miscounted { counted, sent });
        }
    }
}

/// Returns the most connections that were open at once, and the number of connections that began while `cap` or more
/// were open.
fn at_once(connections: &[Connection], cap: usize) -> (usize, usize) {
    let begins = connections.iter().map(|connection| (connection.accepted, true));
    let ends = connections.iter().filter_map(|connection| Some((connection.ended?, false)));
    let mut events: Vec<(Instant, bool)> = begins.chain(ends).collect();
    // An end comes before a beginning at the same instant: `false` sorts before `true`.
    events.sort_unstable();
    let (mut open, mut most, mut above) = (0, 0, 0);
    for (_, begins) in events {
        open = if begins { open + 1 } else { open - 1 };
        most = most.max(open);
        above += usize::from(begins && open > cap);
    }
    (most, above)
}
