//! The queue at the cap: first come, first served; bounded in length and in time.

use std::{sync::Mutex, time::Duration};

use crate::support::{
    client::{Client, Response},
    origin::{self, Origin},
    running::Running,
    setup::Setup,
    together, wait_for,
};

/// A pool of at most one connection, which is in use by a held request.
struct Held {
    origin: Origin,
    warmline: Running,
    holder: Client,
}

fn held(set: impl FnOnce(Setup) -> Setup) -> Held {
    let origin = Origin::serving().start();
    let warmline = set(Setup::before(&origin).set("pool.maxConnections", 1)).start();
    let mut holder = warmline.connect();
    ask(&mut holder, "/hold");
    origin.wait_for("the holder's request", |record| record.request_count == 1);
    Held { origin, warmline, holder }
}

impl Held {
    /// Connects a client whose request waits in the queue, at this place.
    fn waiter(&self, target: &str, place: usize) -> Client {
        let mut client = self.warmline.connect();
        ask(&mut client, target);
        self.warmline.wait_for_pool("one more waiter", |pool| pool.queued == place);
        client
    }
}

fn ask(client: &mut Client, target: &str) {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", origin::NAME));
}

fn assert_refused(answer: &Response) {
    assert_eq!(answer.status, 503);
    let seconds = answer.head.field("retry-after").expect("when to come again");
    assert!(seconds.parse::<u32>().is_ok(), "{seconds}");
    let status = answer.head.field("proxy-status").expect("the reason for machines");
    assert!(status.contains("; error=connection_limit_reached"), "{status}");
    assert!(answer.text().contains("pool.maxConnections"), "{}", answer.text());
}

#[test]
fn waiters_are_served_in_the_order_in_which_they_came() {
    let held = held(|setup| setup.set("pool.queueTimeout", "20s"));
    let targets: Vec<String> = (1..=10).map(|place| format!("/waiter/{place}")).collect();
    let waiters = targets.iter().zip(1..).map(|(target, place)| held.waiter(target, place));
    let mut waiters: Vec<Client> = waiters.collect();
    held.origin.release();
    for waiter in &mut waiters {
        assert_eq!(waiter.response().status, 200);
    }
    let record = held.origin.record();
    let served: Vec<_> = record.requests.iter().skip(1).map(|r| r.target.clone()).collect();
    assert_eq!(served, targets);
    assert_eq!(record.connections.len(), 1);
}

#[test]
fn a_waiter_beyond_max_queue_is_refused_at_once() {
    let held = held(|setup| setup.set("pool.maxQueue", 2).set("pool.queueTimeout", "20s"));
    let mut waiters = [held.waiter("/1", 1), held.waiter("/2", 2)];
    assert_refused(&held.warmline.one_shot("/3"));
    held.origin.release();
    for waiter in &mut waiters {
        assert_eq!(waiter.response().status, 200);
    }
    let rejected = held.warmline.metric("warmline_pool_rejections_total", &[]);
    assert_eq!((rejected, held.origin.read(|record| record.request_count)), (1, 3));
}

#[test]
fn a_waiter_is_refused_when_its_time_is_over() {
    let mut held = held(|setup| setup.set("pool.queueTimeout", "100ms"));
    let answer = held.warmline.one_shot("/late");
    assert_refused(&answer);
    assert!(answer.text().contains("pool.queueTimeout"), "{}", answer.text());
    held.origin.release();
    assert_eq!(held.holder.response().text(), "held\n");
    assert_eq!(held.origin.read(|record| record.request_count), 1);
}

fn refusals(warmline: &Running, reason: &str) -> u64 {
    warmline.metric("warmline_pool_rejections_total", &[("reason", reason)])
}

#[test]
fn while_the_queue_stands_still_one_may_wait_and_the_next_is_refused_at_once() {
    let mut held = held(|setup| setup.set("pool.queueTimeout", "2s"));
    assert!(
        held.warmline
            .one_shot("/late")
            .text()
            .contains("none came free within pool.queueTimeout (")
    );
    let mut first = held.waiter("/first", 1);
    let shed = held.warmline.one_shot("/shed");
    assert_refused(&shed);
    assert!(shed.text().contains("too slow to serve one more within"), "{}", shed.text());
    assert_eq!(
        (refusals(&held.warmline, "queue-timeout"), refusals(&held.warmline, "shed")),
        (1, 1)
    );
    held.origin.release();
    assert_eq!((held.holder.response().status, first.response().status), (200, 200));
    assert_eq!(held.warmline.one_shot("/after").status, 200, "the line moves again");
    let targets =
        held.origin.read(|r| r.requests.iter().map(|r| r.target.clone()).collect::<Vec<_>>());
    assert_eq!(targets, ["/hold", "/first", "/after"], "nothing that was refused was sent");
}

#[test]
fn a_request_that_would_wait_longer_than_the_queue_s_time_by_its_measured_pace_is_refused_at_once()
{
    const CLIENTS: usize = 8;
    const SERVED: usize = 3;
    let origin = Origin::scripted(|mut peer| async move {
        while peer.request().await.is_some() {
            // An upstream this slow makes the pace that the test needs.
            tokio::time::sleep(Duration::from_millis(50)).await;
            peer.answer("slow").await;
        }
        peer.close().await;
    })
    .start();
    let setup = Setup::before(&origin).set("pool.maxConnections", 1);
    let warmline = setup.set("pool.queueTimeout", "200ms").start();
    let answers = Mutex::new(Vec::new());
    together(CLIENTS, |_| {
        let mut served = 0;
        while served < SERVED {
            let answer = warmline.one_shot("/any");
            served += usize::from(answer.status == 200);
            answers.lock().unwrap().push(answer);
        }
    });
    let (served, refused): (Vec<_>, Vec<_>) =
        answers.into_inner().unwrap().into_iter().partition(|answer| answer.status == 200);
    refused.iter().for_each(assert_refused);
    let (shed, late) = (refusals(&warmline, "shed"), refusals(&warmline, "queue-timeout"));
    assert_eq!(shed + late, refused.len() as u64);
    assert!(shed > 2 * late, "{shed} at once, {late} after they had waited in vain");
    assert_eq!(origin.read(|record| record.request_count), served.len());
    assert_eq!(served.len(), CLIENTS * SERVED);
}

#[test]
fn a_client_that_was_refused_may_ask_again_on_its_connection() {
    let held = held(|setup| setup.set("pool.maxQueue", 0));
    let mut client = held.warmline.connect();
    assert_refused(&client.get(origin::NAME, "/1"));
    held.origin.release();
    held.warmline.wait_for_pool("the holder's end", |pool| pool.census.idle == 1);
    assert_eq!(client.get(origin::NAME, "/2").status, 200);
}

#[test]
fn a_waiter_that_leaves_frees_its_place_and_is_never_sent() {
    let held = held(|setup| setup.set("pool.queueTimeout", "20s"));
    let leaver = held.waiter("/left", 1);
    let mut stayer = held.waiter("/stayed", 2);
    drop(leaver);
    held.warmline.wait_for_pool("the leaver's end", |pool| pool.queued == 1);
    held.origin.release();
    assert_eq!(stayer.response().status, 200);
    let record = held.origin.record();
    assert!(record.requests.iter().all(|request| request.target != "/left"));
}

#[test]
fn the_length_of_the_queue_and_the_wait_are_measured() {
    let mut held = held(|setup| setup.set("pool.queueTimeout", "20s"));
    let mut waiter = held.waiter("/1", 1);
    assert_eq!(held.warmline.metric("warmline_pool_queue_length", &[("upstream", "origin")]), 1);
    held.origin.release();
    held.holder.response();
    waiter.response();
    let waits = || held.warmline.metric("warmline_pool_queue_wait_seconds_count", &[]);
    wait_for("the wait's measure", || waits() == 1);
}

#[test]
fn a_reason_is_told_for_a_connection_that_waited_at_the_cap() {
    let held = held(|setup| setup.set("pool.queueTimeout", "20s").set("pool.maxRequests", 1));
    let mut waiter = held.waiter("/1", 1);
    held.origin.release();
    assert_eq!(waiter.response().status, 200);
    let labels = [("result", "new"), ("reason", "cap")];
    assert_eq!(held.warmline.metric("warmline_pool_checkouts_total", &labels), 1);
}

#[test]
fn an_urgent_request_goes_before_those_that_came_earlier_where_a_field_says_so() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set("pool.maxConnections", 1);
    let warmline = setup.set("pool.priority", "Priority").start();
    let mut first = warmline.ask("/hold");
    origin.wait_for("the cap is taken", |record| record.requests.len() == 1);
    let mut waiting = Vec::new();
    for (place, urgency) in ["u=7", "u=3", "u=0"].into_iter().enumerate() {
        let mut client = warmline.connect();
        client.send(format!(
            "GET /waited-{urgency} HTTP/1.1\r\nHost: api.test\r\nPriority: {urgency}\r\n\r\n"
        ));
        warmline.wait_for_pool("it waits", |pool| pool.queued == place + 1);
        waiting.push(client);
    }
    origin.release();
    assert_eq!(first.response().status, 200);
    for client in &mut waiting {
        assert_eq!(client.response().status, 200);
    }
    let order: Vec<_> = origin
        .read(|record| record.requests.iter().map(|request| request.target.clone()).collect());
    assert_eq!(order, ["/hold", "/waited-u=0", "/waited-u=3", "/waited-u=7"]);
}
