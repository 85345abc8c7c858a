//! The rules for what handshakes with one address offer, as sentences: each is a list of handshakes with their results.

use super::*;

const AUTO: Policy = Policy { resumption: true, key_exchange: KeyExchange::Auto };

/// A server, described by the handshakes that fail there.
#[derive(Clone, Copy)]
struct Server {
    /// True if the server ends handshakes that offer a session, with an alert; if `by_any_alert`, with one that size may cause.
    ends_sessions: bool,
    by_any_alert: bool,
    lost: Lost,
    /// True if the server needs more than half of the time, and sends a part at once.
    slow: bool,
}

/// The messages that do not reach a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    Nothing,
    /// Large first messages.
    Large,
    /// Messages with a hybrid share that the server asked for.
    Asked,
    /// All large messages.
    LargeAndAsked,
    Everything,
}

const GOOD: Server =
    Server { ends_sessions: false, by_any_alert: false, lost: Lost::Nothing, slow: false };

impl Server {
    fn losing(lost: Lost) -> Self {
        Self { lost, ..GOOD }
    }

    /// Returns the answer to a handshake that fails there.
    fn answer(self, policy: Policy, tried: TriedHandshake) -> Option<AnswerKind> {
        let TriedHandshake { allowed, session, .. } = tried;
        match (allowed.key_share, self.lost) {
            (_, Lost::Everything) | (KeyShare::Large, Lost::Large | Lost::LargeAndAsked) => {
                Some(AnswerKind::Nothing)
            }
            (KeyShare::Small, Lost::Asked | Lost::LargeAndAsked) => Some(AnswerKind::Retry),
            _ if self.slow => {
                let has_half = second_offer(policy, tried, AnswerKind::Something).is_some();
                (has_half || allowed.second.is_some()).then_some(AnswerKind::Something)
            }
            _ if self.by_any_alert => (session && self.ends_sessions).then_some(AnswerKind::Alert),
            _ => (session && self.ends_sessions).then_some(AnswerKind::Something),
        }
    }
}

/// An address and its client, which has a session from each handshake that succeeded.
struct Scene {
    policy: Policy,
    tolerance: Tolerance,
    has_session: bool,
    now: Instant,
    lessons: Vec<Lesson>,
}

impl Scene {
    fn new(policy: Policy) -> Self {
        let (tolerance, now) = (Tolerance::default(), Instant::now());
        Self { policy, tolerance, has_session: false, now, lessons: Vec::new() }
    }

    /// Makes the tries of the next connection, and returns each as `session+large`, `small` and the like, with `!` if
    /// it failed.
    fn connect(&mut self, server: Server) -> String {
        self.now += Duration::from_secs(1);
        let begun = self.now;
        let mut seen = Vec::new();
        let mut next = Some(self.tolerance.first_offer(self.policy, self.now));
        while let Some(allowed) = next.take() {
            self.now += Duration::from_millis(10);
            let session = allowed.session && self.has_session;
            let tried = TriedHandshake {
                allowed,
                session,
                large: allowed.key_share == KeyShare::Large,
                begun,
            };
            let answer = server.answer(self.policy, tried);
            seen.push(told(tried, answer.is_none()));
            if let Some(answer) = answer {
                self.has_session &= !session;
                next = self.tolerance.failed(self.policy, tried, answer, self.now);
            } else {
                self.has_session = true;
                self.lessons.extend(self.tolerance.succeeded(tried, self.now));
            }
        }
        seen.join(" ")
    }

    fn connects<const N: usize>(&mut self, server: Server) -> [String; N] {
        std::array::from_fn(|_| self.connect(server))
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }
}

fn told(tried: TriedHandshake, good: bool) -> String {
    let key_share = match tried.allowed.key_share {
        KeyShare::Large => "large",
        KeyShare::Small => "small",
        KeyShare::Classic => "classic",
    };
    let (session, mark) =
        (if tried.session { "session+" } else { "" }, if good { "" } else { "!" });
    format!("{session}{key_share}{mark}")
}

#[test]
fn fault_02_before_a_good_server_every_handshake_offers_all() {
    let mut scene = Scene::new(AUTO);
    assert_eq!(scene.connects(GOOD), ["large", "session+large", "session+large"]);
    assert_eq!(scene.lessons, []);
}

#[test]
fn fault_02_a_session_that_ends_a_handshake_costs_one_second_try_and_the_second_time_resumption() {
    let server = Server { ends_sessions: true, ..GOOD };
    let mut scene = Scene::new(AUTO);
    assert_eq!(
        scene.connects(server),
        ["large", "session+large! large", "session+large! large", "large", "large"]
    );
    let off = Lesson::SessionsOff(FIRST_PAUSE);
    assert_eq!(scene.lessons, [Lesson::SessionsForgotten, off]);
    scene.wait(FIRST_PAUSE);
    assert_eq!(scene.connects(server), ["session+large! large", "large"]);
    assert_eq!(scene.lessons[2..], [Lesson::SessionsOff(FIRST_PAUSE * 2)]);
}

#[test]
fn fault_02_an_alert_that_size_may_cause_is_the_sessions_where_large_messages_were_read() {
    let server = Server { ends_sessions: true, by_any_alert: true, ..GOOD };
    let mut scene = Scene::new(AUTO);
    assert_eq!(
        scene.connects(server),
        ["large", "session+large! small", "session+large! small", "large"]
    );
    assert_eq!(scene.lessons, [Lesson::SessionsForgotten, Lesson::SessionsOff(FIRST_PAUSE)]);
    // A node among several: if a small message succeeded elsewhere, that says nothing about large ones.
    let mut scene = Scene::new(AUTO);
    scene.connect(GOOD);
    for _ in 0..3 {
        assert_eq!(scene.connect(server), "session+large! small");
        assert_eq!(scene.connects(GOOD), ["session+large", "session+large"]);
    }
    assert_eq!(scene.lessons, [Lesson::SessionsForgotten]);
    // If none was read before, the cause may be either.
    let mut scene = Scene::new(AUTO);
    scene.has_session = true;
    assert_eq!(scene.connects(server), ["session+large! small", "session+small! small", "large"]);
    assert_eq!(scene.lessons, [Lesson::Either, Lesson::SessionsOff(FIRST_PAUSE)]);
}

#[test]
fn fault_02_only_failures_in_a_row_turn_resumption_off() {
    let (good, bad) = (GOOD, Server { ends_sessions: true, ..GOOD });
    let mut scene = Scene::new(AUTO);
    scene.connect(good);
    for _ in 0..5 {
        assert_eq!(scene.connect(bad), "session+large! large");
        assert_eq!(scene.connect(good), "session+large");
    }
    assert_eq!(scene.lessons, [Lesson::SessionsForgotten], "it is said once");
}

#[test]
fn fault_02_handshakes_that_were_under_way_at_once_count_as_one_failure() {
    let mut scene = Scene::new(AUTO);
    let (begun, later) = (scene.now, scene.now + Duration::from_millis(5));
    let allowed = scene.tolerance.first_offer(AUTO, begun);
    let tried = TriedHandshake { allowed, session: true, large: true, begun };
    let seconds: Vec<_> = (0..50)
        .map(|_| {
            scene.tolerance.failed(AUTO, tried, AnswerKind::Something, later).expect("a second")
        })
        .collect();
    for allowed in seconds {
        let tried = TriedHandshake { allowed, session: false, ..tried };
        scene.lessons.extend(scene.tolerance.succeeded(tried, later));
    }
    assert_eq!(scene.lessons, [Lesson::SessionsForgotten]);
    assert!(scene.tolerance.first_offer(AUTO, later).session);
}

#[test]
fn fault_12_a_large_message_that_gets_no_answer_is_followed_by_small_ones() {
    let server = Server::losing(Lost::Large);
    let mut scene = Scene::new(AUTO);
    assert_eq!(scene.connects(server), ["large! small", "session+small", "session+small"]);
    assert_eq!(scene.lessons, [Lesson::Small(FIRST_PAUSE)]);
    scene.wait(FIRST_PAUSE);
    assert_eq!(scene.connect(server), "session+large! small", "after a while it is tried again");
    assert_eq!(scene.connects(server), ["session+small", "session+small"]);
    assert_eq!(scene.lessons[1..], [Lesson::Either, Lesson::Small(FIRST_PAUSE * 2)]);
    scene.wait(FIRST_PAUSE * 2);
    assert_eq!(scene.connects(GOOD), ["session+large", "session+large"]);
}

#[test]
fn fault_12_a_share_that_the_server_asks_for_in_vain_is_not_named_any_more() {
    let server = Server::losing(Lost::LargeAndAsked);
    let mut scene = Scene::new(AUTO);
    assert_eq!(scene.connect(server), "large! small!", "the first one fails");
    assert_eq!(scene.connects(server), ["classic", "session+classic"]);
    let asks = Server::losing(Lost::Asked);
    let mut scene = Scene::new(AUTO);
    scene.tolerance.pause(RefusedShare::Large, scene.now);
    assert_eq!(scene.connects(asks), ["small! classic", "session+classic"]);
    assert_eq!(scene.lessons, [Lesson::Classic(FIRST_PAUSE)]);
}

#[test]
fn fault_12_if_session_and_share_may_both_be_the_cause_they_are_tried_one_at_a_time() {
    let mut scene = Scene::new(AUTO);
    scene.connect(GOOD);
    let shares = Server::losing(Lost::Large);
    assert_eq!(scene.connects(shares), ["session+large! small", "session+small", "session+small"]);
    assert_eq!(scene.lessons, [Lesson::Either, Lesson::Small(FIRST_PAUSE)]);

    let mut scene = Scene::new(AUTO);
    scene.connect(GOOD);
    let both = Server { ends_sessions: true, lost: Lost::Large, ..GOOD };
    assert_eq!(
        scene.connects(both),
        ["session+large! small", "session+small! small", "large! small", "small"]
    );
    let (off, small) = (Lesson::SessionsOff(FIRST_PAUSE), Lesson::Small(FIRST_PAUSE));
    assert_eq!(scene.lessons, [Lesson::Either, off, small]);
}

#[test]
fn fault_12_a_server_that_is_down_costs_two_tries_once_in_a_while() {
    let server = Server::losing(Lost::Everything);
    let mut scene = Scene::new(AUTO);
    assert_eq!(scene.connects(server), ["large! small!", "small!", "small!"]);
    scene.wait(FAILING);
    assert_eq!(scene.connect(server), "large! small!");
    assert_eq!(scene.connects(GOOD), ["small", "small"], "a slow one has the whole time");
    scene.wait(FAILING * 2);
    assert_eq!(scene.connect(GOOD), "session+large");
    assert_eq!(scene.lessons, []);
}

#[test]
fn fault_02_a_slow_server_fails_once_in_a_while_and_between_has_the_whole_time() {
    let slow = Server { slow: true, ..GOOD };
    for (key_exchange, first, then) in [
        (KeyExchange::Auto, "large", "small"),
        (KeyExchange::Classic, "classic", "classic"),
        (KeyExchange::Hybrid, "large", "large"),
    ] {
        let mut scene = Scene::new(Policy { key_exchange, ..AUTO });
        assert_eq!(scene.connect(slow), first);
        for pause in [FAILING, FAILING * 2] {
            assert_eq!(scene.connect(slow), format!("session+{first}! {first}!"));
            assert_eq!(scene.connects(slow), [then; 3]);
            scene.wait(pause);
        }
        assert_eq!(scene.lessons, []);
    }
}

#[test]
fn fault_12_the_configured_key_exchange_is_used() {
    let lost = Server::losing(Lost::Large);
    let mut classic = Scene::new(Policy { key_exchange: KeyExchange::Classic, ..AUTO });
    assert_eq!(classic.connects(lost), ["classic", "session+classic"]);
    let mut hybrid = Scene::new(Policy { key_exchange: KeyExchange::Hybrid, ..AUTO });
    assert_eq!(hybrid.connects(lost), ["large!", "large!"]);
    let mut hybrid = Scene::new(Policy { key_exchange: KeyExchange::Hybrid, ..AUTO });
    let ends = Server { ends_sessions: true, ..GOOD };
    assert_eq!(hybrid.connects(ends), ["large", "session+large! large"]);
    let mut full = Scene::new(Policy { resumption: false, ..AUTO });
    assert_eq!(full.connects(GOOD), ["large", "large"]);
}

#[test]
fn fault_02_resumed_connections_that_end_unused_turn_resumption_off_the_second_time_in_a_while() {
    let mut scene = Scene::new(AUTO);
    scene.connect(GOOD);
    assert_eq!(scene.tolerance.resumed_in_vain(scene.now), None);
    assert_eq!(scene.connect(GOOD), "session+large");
    scene.wait(FIRST_PAUSE);
    assert_eq!(scene.tolerance.resumed_in_vain(scene.now), None, "long after the first");
    assert_eq!(scene.connect(GOOD), "session+large");
    let off = scene.tolerance.resumed_in_vain(scene.now);
    assert_eq!(off, Some(Lesson::ResumedInVain(FIRST_PAUSE)));
    assert_eq!(scene.connect(GOOD), "large");
}
