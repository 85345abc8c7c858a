//! Latencies on the page and in `/pools`, and Warmline's share of them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{
    names::Names,
    origin::{NAME, Origin},
    running::Running,
    setup::Setup,
    silent::Silent,
};

/// The time limits that the tests set, and the delays that they cause.
const LIMIT: Duration = Duration::from_millis(200);

/// Reads the figures of the only upstream from `/pools`.
fn figures(warmline: &Running) -> Value {
    let page = warmline.admin("/pools?format=json").text();
    let mut page: Value = serde_json::from_str(&page).expect("JSON");
    page["upstreams"][0].take()
}

fn seconds(upstream: &Value, which: &str) -> f64 {
    upstream["latencySeconds"][which].as_f64().unwrap_or_else(|| panic!("{which}: {upstream}"))
}

/// Asserts that `added`, Warmline's share, does not contain `time` of the one request's latency.
#[track_caller]
fn assert_left_out(upstream: &Value, time: Duration) {
    let (mean, added) = (seconds(upstream, "mean"), seconds(upstream, "added"));
    // Both numbers are rounded to whole microseconds.
    assert!(added <= mean - time.as_secs_f64() + 2e-6, "{added} of {mean} without {time:?}");
}

#[test]
fn fault_25_median_and_p99_are_between_what_the_origin_took_and_what_the_client_saw() {
    let takes = Duration::from_millis(40);
    let origin = Origin::scripted(move |mut peer| async move {
        while peer.request().await.is_some() {
            tokio::time::sleep(takes).await;
            peer.answer("right").await;
        }
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    let mut longest = Duration::ZERO;
    for _ in 0..9 {
        let start = Instant::now();
        assert_eq!(client.get(NAME, "/any").text(), "right");
        longest = longest.max(start.elapsed());
    }
    let upstream = figures(&warmline);
    for which in ["median", "p99"] {
        let told = seconds(&upstream, which);
        let (least, most) = (takes.as_secs_f64() * 0.95, longest.as_secs_f64() * 1.05);
        assert!((least..=most).contains(&told), "{which} {told} is not in {least} to {most}");
    }
    let text = warmline.admin("/pools").text();
    assert!(text.contains(" p99 in the last minute; Warmline adds "), "{text}");
    assert!(!warmline.admin("/").text().contains("(estimates)"));
}

#[test]
fn fault_25_the_added_time_leaves_out_the_time_out_of_a_response() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.ended().await;
        peer.close().await;
    })
    .start();
    let limit = format!("{}ms", LIMIT.as_millis());
    let warmline = Setup::before(&origin).set("timeouts.response", limit).start();
    assert_eq!(warmline.one_shot("/any").status, 504);
    assert_left_out(&figures(&warmline), LIMIT);
}

#[test]
fn fault_25_the_added_time_leaves_out_an_attempt_that_was_repeated() {
    let origin = Origin::scripted(|mut peer| async move {
        while peer.request().await.is_some() {
            if peer.number() == 0 {
                tokio::time::sleep(LIMIT).await;
                break;
            }
            peer.answer("right").await;
        }
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    assert_eq!(warmline.one_shot("/any").text(), "right");
    assert_eq!(origin.record().connections.len(), 2);
    assert_left_out(&figures(&warmline), LIMIT);
}

#[test]
fn fault_25_the_added_time_leaves_out_a_dial_that_timed_out() {
    let origin = Origin::serving().start();
    let silent = Silent::at(SocketAddr::from(([127, 0, 9, 1], origin.port())));
    let names = Names::default().fixed(NAME, &[&silent.address.ip().to_string()]);
    let limit = format!("{}ms", LIMIT.as_millis());
    let setup = Setup::before(&origin).names(&names).set("timeouts.connect", limit);
    let warmline = setup.start();
    assert_eq!(warmline.one_shot("/any").status, 504);
    assert_left_out(&figures(&warmline), LIMIT);
}

#[test]
fn fault_25_the_added_time_leaves_out_each_dial_that_failed_and_was_repeated() {
    let origin = Origin::scripted(|mut peer| async move {
        tokio::time::sleep(LIMIT).await;
        peer.half_close().await;
        peer.ended().await;
    });
    let origin = origin.plain().start();
    let warmline = Setup::before(&origin).start();
    assert_eq!(warmline.one_shot("/any").status, 502);
    let upstream = figures(&warmline);
    let repeated = upstream["retries"]["dial-failed"].as_u64().expect("a number");
    assert!(repeated > 0, "{upstream}");
    assert_left_out(&upstream, LIMIT * (1 + repeated as u32));
}

#[test]
fn fault_25_the_added_time_includes_the_dial_that_brought_a_connection() {
    let origin = Origin::serving().far_away(LIMIT).start();
    let warmline = Setup::before(&origin).start();
    assert_eq!(warmline.one_shot("/any").status, 200);
    let added = seconds(&figures(&warmline), "added");
    assert!(added >= LIMIT.as_secs_f64(), "{added}");
}
