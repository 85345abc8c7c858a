//! Forged histories: each breaks one rule, and the judge names that rule. A judge that cannot fail proves nothing.

use std::time::{Duration, Instant};

use http::Method;

use crate::{
    check::check,
    history::{
        Account, Connection, Delivery, Fate, History, Id, Outcome, Request, Rules, Upstream,
    },
    verdict::{Breach, Figures, Verdict},
};

const BODY: u64 = 7;
const GET: Id = 1;
const POST: Id = 2;

/// A history without a breach, and the rules that it obeys.
struct Forged {
    history: History,
    rules: Rules,
    start: Instant,
}

impl Forged {
    /// Makes the history of a GET to the first upstream and a POST to the second, each over one connection.
    fn new() -> Self {
        let start = Instant::now();
        let upstream = |name: &str, identity: u8| Upstream {
            name: name.into(),
            hosts: vec![name.into(), format!("{name}:443")],
            identities: vec![vec![identity]],
        };
        let rules = Rules {
            upstreams: vec![upstream("one", 1), upstream("two", 2)],
            cap: 2,
            strict_cap: true,
            attempts: 3,
        };
        let mut forged = Self { history: History::default(), rules, start };
        forged.history.connections =
            vec![vec![forged.connection(0, 0, 9)], vec![forged.connection(1, 0, 9)]];
        forged.exchange(GET, Method::GET, 0);
        forged.exchange(POST, Method::POST, 1);
        forged.history.account =
            Some(Account { most: 2, left: 0, opened: vec![1, 1], requests: 2, changes: 0 });
        forged
    }

    /// Returns a connection to this upstream that breaks no rule, open from `from` to `to` in milliseconds after the
    /// start.
    fn connection(&self, upstream: usize, from: u64, to: u64) -> Connection {
        let rules = &self.rules.upstreams[upstream];
        let at = |millis| self.start + Duration::from_millis(millis);
        Connection {
            accepted: at(from),
            ended: Some(at(to)),
            client: Some(rules.identities[0].clone()),
            server_name: Some(rules.name.clone()),
        }
    }

    fn exchange(&mut self, id: Id, method: Method, upstream: usize) {
        let host = self.rules.upstreams[upstream].name.clone();
        let request = Request { id, upstream, method: method.clone(), body: BODY };
        self.history.requests.push(request);
        self.history.outcomes.push((id, Outcome::Right));
        self.history.deliveries.push(Delivery {
            id,
            upstream,
            connection: 0,
            method,
            host,
            body: Some(BODY),
            fate: Fate::Answered,
        });
    }

    fn outcome(&mut self, id: Id, outcome: Outcome) {
        let place = self.history.outcomes.iter_mut().find(|(of, _)| *of == id);
        place.unwrap().1 = outcome;
    }

    fn delivery(&mut self, id: Id) -> &mut Delivery {
        self.history.deliveries.iter_mut().find(|delivery| delivery.id == id).unwrap()
    }

    /// Repeats the delivery of this request so many times more.
    fn redeliver(&mut self, id: Id, times: usize) {
        let again = self.delivery(id).clone();
        self.history.deliveries.extend(std::iter::repeat_n(again, times));
    }

    /// Replaces the connections to the first upstream by ones open between these milliseconds, and has the account
    /// count all of them.
    fn connections(&mut self, times: &[(u64, u64)]) {
        let connections = times.iter().map(|(from, to)| self.connection(0, *from, *to)).collect();
        self.history.connections[0] = connections;
        self.history.account.as_mut().unwrap().opened[0] = times.len() as u64;
    }

    fn account(&mut self) -> &mut Account {
        self.history.account.as_mut().unwrap()
    }
}

fn verdict(forge: impl FnOnce(&mut Forged)) -> Verdict {
    let mut forged = Forged::new();
    forge(&mut forged);
    check(&forged.history, &forged.rules)
}

fn breaches(forge: impl FnOnce(&mut Forged)) -> Vec<Breach> {
    verdict(forge).breaches
}

fn figures(forge: impl FnOnce(&mut Forged)) -> Figures {
    let Verdict { breaches, figures } = verdict(forge);
    assert_eq!(breaches, [], "a loss is a figure, not a breach");
    figures
}

#[test]
fn a_history_in_which_all_is_well_has_no_breach() {
    let Verdict { breaches, figures } = verdict(|_| ());
    assert_eq!(breaches, []);
    let well = Figures { gets: 1, posts: 1, connections: 2, most: 1, ..Figures::default() };
    assert_eq!(figures, well);
}

#[test]
fn an_answer_that_belongs_to_another_request_is_a_breach() {
    let Verdict { breaches, figures } = verdict(|run| run.outcome(GET, Outcome::Wrong));
    assert_eq!((breaches.as_slice(), figures.wrong), ([Breach::WrongAnswer(GET)].as_slice(), 1));
}

#[test]
fn an_answer_that_no_origin_gave_is_a_breach() {
    let found = breaches(|run| run.history.deliveries.retain(|delivery| delivery.id != POST));
    assert_eq!(found, [Breach::AnswerFromNowhere(POST)]);
    let found = breaches(|run| run.delivery(GET).fate = Fate::ResetInBody);
    assert_eq!(found, [Breach::AnswerFromNowhere(GET)]);
}

#[test]
fn a_post_that_arrives_twice_is_a_breach_whatever_came_of_it() {
    let twice = verdict(|run| run.redeliver(POST, 1));
    assert_eq!((twice.breaches, twice.figures.duplicates), (vec![Breach::Duplicate(POST)], 1));
    let first_was_cut_short = breaches(|run| {
        run.redeliver(POST, 1);
        let first = run.delivery(POST);
        (first.fate, first.body) = (Fate::Unfinished, None);
    });
    assert_eq!(first_was_cut_short, [Breach::Duplicate(POST)]);
}

fn breaches_of_redelivery(id: Id, times: usize) -> Vec<Breach> {
    breaches(|run| run.redeliver(id, times))
}

#[test]
fn a_get_may_arrive_as_often_as_it_may_be_tried_and_no_more() {
    assert_eq!(breaches_of_redelivery(GET, 2), []);
    assert_eq!(breaches_of_redelivery(GET, 3), [Breach::TooManyAttempts(GET)]);
}

#[test]
fn a_request_that_nobody_sent_is_a_breach() {
    assert_eq!(
        breaches(|run| run.delivery(GET).id = 99),
        [Breach::Unknown(99), Breach::AnswerFromNowhere(GET)]
    );
}

#[test]
fn another_method_body_or_host_is_a_breach() {
    assert_eq!(breaches(|run| run.delivery(GET).method = Method::POST), [Breach::WrongMethod(GET)]);
    assert_eq!(breaches(|run| run.delivery(POST).body = Some(8)), [Breach::WrongBody(POST)]);
    assert_eq!(breaches(|run| run.delivery(POST).host = "one".into()), [Breach::WrongHost(POST)]);
    assert_eq!(breaches(|run| run.delivery(POST).host = "two:443".into()), []);
}

#[test]
fn another_upstreams_origin_is_a_breach_though_it_shows_the_right_names() {
    let found = breaches(|run| {
        run.history.connections[0][0] = run.history.connections[1][0].clone();
        run.history.deliveries.retain(|delivery| delivery.id != GET);
        run.history.requests.retain(|request| request.id != GET);
        run.history.outcomes.retain(|(id, _)| *id != GET);
        run.account().requests = 1;
        run.delivery(POST).upstream = 0;
    });
    assert_eq!(found, [Breach::WrongUpstream(POST)]);
}

#[test]
fn another_client_certificate_or_none_is_a_breach() {
    for client in [Some(vec![1]), None] {
        let found = breaches(|run| run.history.connections[1][0].client = client);
        assert_eq!(found, [Breach::WrongIdentity(POST)]);
    }
}

#[test]
fn another_server_name_or_none_is_a_breach() {
    for name in [Some("one".to_owned()), None] {
        let found = breaches(|run| run.history.connections[1][0].server_name = name);
        assert_eq!(found, [Breach::WrongServerName(POST)]);
    }
}

#[test]
fn a_request_that_never_ends_is_a_breach() {
    let found = breaches(|run| run.history.outcomes.retain(|(id, _)| *id != GET));
    assert_eq!(found, [Breach::NoOutcome(GET)]);
}

#[test]
fn a_second_end_of_a_request_and_one_of_no_request_are_breaches() {
    let found = breaches(|run| run.history.outcomes.push((GET, Outcome::Right)));
    assert_eq!(found, [Breach::SurplusOutcome(GET)]);
    let found = breaches(|run| run.history.outcomes.push((99, Outcome::Right)));
    assert_eq!(found, [Breach::SurplusOutcome(99)]);
}

#[test]
fn an_id_that_is_sent_twice_is_a_breach_of_the_load_itself() {
    let found = breaches(|run| {
        let again = run.history.requests[0].clone();
        run.history.requests.push(again);
        run.account().requests += 1;
    });
    assert_eq!(found, [Breach::AmbiguousId(GET)]);
}

#[test]
fn a_connection_too_many_at_one_instant_is_a_breach() {
    assert_eq!(breaches(|run| run.connections(&[(0, 9), (1, 4), (5, 9)])), []);
    let Verdict { breaches, figures } = verdict(|run| run.connections(&[(0, 9), (1, 6), (5, 9)]));
    assert_eq!(breaches, [Breach::AboveCap { upstream: 0, at_once: 3 }]);
    assert_eq!((figures.most, figures.above_cap), (3, 1));
}

#[test]
fn a_place_may_be_taken_in_the_instant_in_which_it_becomes_free() {
    assert_eq!(breaches(|run| run.connections(&[(0, 9), (0, 5), (5, 9)])), []);
}

#[test]
fn more_connections_than_a_cap_that_is_not_strict_are_a_figure() {
    let Verdict { breaches, figures } = verdict(|run| {
        run.rules.strict_cap = false;
        run.connections(&[(0, 9), (1, 6), (2, 9), (3, 9)]);
    });
    assert_eq!((breaches, figures.above_cap, figures.most), (vec![], 2, 4));
}

#[test]
fn a_pool_that_counts_above_the_cap_is_a_breach() {
    assert_eq!(breaches(|run| run.account().most = 3), [Breach::CountedAboveCap(3)]);
}

#[test]
fn a_connection_that_never_ends_is_a_breach() {
    let found = breaches(|run| run.history.connections[1][0].ended = None);
    assert_eq!(found, [Breach::StillOpen { upstream: 1, connections: 1 }]);
}

#[test]
fn a_connection_left_in_a_pool_after_the_drain_is_a_breach() {
    assert_eq!(breaches(|run| run.account().left = 1), [Breach::LeftInPool(1)]);
}

#[test]
fn a_proxy_that_counts_otherwise_than_its_peers_is_a_breach() {
    let found = breaches(|run| run.account().opened[1] = 2);
    assert_eq!(found, [Breach::Uncounted { upstream: 1, opened: 2, accepted: 1 }]);
    let found = breaches(|run| run.account().requests = 3);
    assert_eq!(found, [Breach::Miscounted { counted: 3, sent: 2 }]);
}

#[test]
fn a_request_that_failed_though_its_origin_broke_nothing_is_lost() {
    for failure in [Outcome::Refused(502), Outcome::Aborted] {
        let lost = figures(|run| {
            run.outcome(GET, failure);
            run.outcome(POST, failure);
            run.history.deliveries.retain(|delivery| delivery.id != POST);
        });
        assert_eq!((lost.lost_gets, lost.lost_posts, lost.lost_after_delivery), (1, 1, 0));
        assert_eq!(lost.broken, 0);
    }
    let lost = figures(|run| run.outcome(POST, Outcome::Refused(502)));
    assert_eq!((lost.lost_posts, lost.lost_after_delivery), (1, 1));
}

/// Returns the figures of a history in which this request failed after so many attempts that all ended in `fate`.
fn failed(id: Id, fate: Fate, attempts: usize) -> Figures {
    figures(|run| {
        run.outcome(id, Outcome::Refused(502));
        run.delivery(id).fate = fate;
        run.redeliver(id, attempts - 1);
    })
}

#[test]
fn a_request_whose_answer_the_origin_broke_is_not_the_proxys_loss() {
    for (id, fate) in [
        (GET, Fate::ResetInHeader),
        (GET, Fate::ResetInBody),
        (POST, Fate::ResetBeforeHeader),
        (POST, Fate::ResetInHeader),
        (POST, Fate::ResetInBody),
    ] {
        let Figures { broken, lost_gets, lost_posts, .. } = failed(id, fate, 1);
        assert_eq!((broken, lost_gets, lost_posts), (1, 0, 0), "{id} {fate:?}");
    }
}

#[test]
fn a_get_that_got_no_byte_of_an_answer_is_lost_unless_it_was_tried_as_often_as_it_may_be() {
    for (attempts, lost) in [(1, 1), (2, 1), (3, 0)] {
        let figures = failed(GET, Fate::ResetBeforeHeader, attempts);
        assert_eq!((figures.lost_gets, figures.broken), (lost, 1 - lost), "{attempts}");
    }
}
