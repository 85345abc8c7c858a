//! With `explain: true` a listener's responses say in Proxy-Status how they came about; without it nothing is added.

use crate::support::{
    client::{Client, Response},
    origin::{self, Origin},
    setup::Setup,
};

/// Returns the values of the lines of Proxy-Status.
fn told(answer: &Response) -> Vec<&str> {
    answer.head.values("proxy-status")
}

/// Returns the parameters of the last member of Proxy-Status, which Warmline added.
fn parameters(answer: &Response) -> Vec<(&str, &str)> {
    let member = told(answer).last().copied().expect("a member");
    let mut quoted = false;
    let mut parts = member.split(|c| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    assert_eq!(parts.next(), Some("warmline"), "{member}");
    parts.map(|part| part.trim().split_once('=').expect("a parameter")).collect()
}

fn parameter<'a>(answer: &'a Response, name: &str) -> &'a str {
    let found = parameters(answer).into_iter().find(|(known, _)| *known == name);
    found.map_or("", |(_, value)| value)
}

fn explaining(origin: &Origin) -> Setup {
    Setup::before(origin).set_global("listeners.0.explain", true)
}

#[test]
fn an_answer_says_what_connection_it_came_by_and_why() {
    let origin = Origin::serving().start();
    let warmline = explaining(&origin).start();
    let answers = [warmline.one_shot("/any"), warmline.one_shot("/any")];
    let names = ["reuse", "use", "tls", "retries", "queue", "retried"];
    let [first, second] =
        answers.each_ref().map(|answer| names.map(|name| parameter(answer, name)));
    assert_eq!(first, ["first", "1", "full", "0", "0.000", ""]);
    assert_eq!(second, ["reused", "2", "none", "0", "0.000", ""]);
    let [one, two] = answers.each_ref().map(|answer| parameter(answer, "conn"));
    assert_eq!(one, two);
    let next_hop = format!("\"127.0.0.1:{}\"", origin.port());
    assert_eq!(parameter(&answers[0], "next-hop"), next_hop);
    let times = |answer| {
        ["age", "connect", "handshake", "first"].map(|name| parameter(answer, name).parse::<f64>())
    };
    assert!(answers.iter().flat_map(times).all(|time| time.is_ok_and(|time| time < 20.0)));
    assert_eq!(parameter(&answers[1], "handshake"), "0.000");
}

#[test]
fn a_request_that_was_tried_again_says_after_what() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        if peer.number() == 0 {
            return peer.reset();
        }
        peer.answer("ok").await;
        peer.close().await;
    })
    .start();
    let warmline = explaining(&origin).start();
    let answer = warmline.one_shot("/any");
    let seen = ["reuse", "retries", "retried"].map(|name| parameter(&answer, name));
    assert_eq!(seen, ["policy", "1", "unanswered"]);
}

#[test]
fn an_answer_of_ours_has_error_and_explanation_in_one_member() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.reset();
    })
    .start();
    let warmline = explaining(&origin).start();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 502);
    assert_eq!(told(&answer).len(), 1);
    let seen = ["error", "reuse", "use", "retries"].map(|name| parameter(&answer, name));
    assert_eq!(seen, ["http_response_incomplete", "policy", "1", "2"]);
    let unknown = warmline.connect().get("other.test", "/any");
    let seen = ["error", "conn", "retries"].map(|name| parameter(&unknown, name));
    assert_eq!(seen, ["destination_not_found", "", "0"]);
}

/// Starts an origin that answers with these lines of Proxy-Status.
fn telling(lines: &'static [&str]) -> Origin {
    Origin::scripted(move |mut peer| async move {
        while peer.request().await.is_some() {
            let fields = lines.iter().map(|line| format!("proxy-status: {line}\r\n"));
            let fields: String = fields.collect();
            peer.write(format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n")).await;
        }
        peer.close().await;
    })
    .start()
}

const OTHERS: &[&str] = &["cdn; details=\"a, b\"", "lb; received-status=200"];
const FORGED: &[&str] = &["warmline; conn=99; use=99", "cdn; details=\"never ends"];

#[test]
fn members_of_others_stay_before_ours_and_forged_ones_do_not_pass() {
    let (honest, forging) = (telling(OTHERS), telling(FORGED));
    let answer = explaining(&honest).start().one_shot("/any");
    assert_eq!(told(&answer)[..2], *OTHERS);
    assert_eq!((told(&answer).len(), parameter(&answer, "use")), (3, "1"));
    let answer = explaining(&forging).start().one_shot("/any");
    assert_eq!((told(&answer).len(), parameter(&answer, "use")), (1, "1"));
}

#[test]
fn without_explain_nothing_is_added_and_the_upstreams_own_passes_as_it_is() {
    for lines in [&[][..], OTHERS, FORGED] {
        let origin = telling(lines);
        let warmline = Setup::before(&origin).start();
        assert_eq!(told(&warmline.one_shot("/any")), lines);
    }
    let origin = telling(&[]);
    let answer = Setup::before(&origin).start().connect().get("other.test", "/any");
    assert!(!told(&answer)[0].contains("retries="), "{:?}", told(&answer));
}

#[test]
fn explain_applies_in_place_to_open_connections_and_own_ports() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).set("port", 0).start_following();
    let addresses = warmline.addresses();
    let mut clients: Vec<_> = addresses.into_iter().map(Client::connect).collect();
    assert!(clients.len() > 1, "an own port");
    for explained in [false, true, false] {
        warmline.set("listeners.0.explain", explained).apply();
        for client in &mut clients {
            let answer = client.get(origin::NAME, "/any");
            assert_eq!(!told(&answer).is_empty(), explained);
        }
    }
}
