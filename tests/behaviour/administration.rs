//! The acts of the administration (drain, flush, reload), and their answers.

use serde_json::{Value, json};

use crate::support::{
    client::{Client, Response},
    origin::{End, Origin},
    running::Running,
    setup::{Setup, serving},
};

fn post(warmline: &Running, path: &str) -> Response {
    Client::connect(warmline.administration()).post("localhost", path, "")
}

fn json(warmline: &Running, path: &str) -> Value {
    let page = warmline.admin(&format!("{path}?format=json")).text();
    serde_json::from_str(&page).unwrap_or_else(|error| panic!("{error}: {page}"))
}

#[test]
fn a_flush_closes_what_is_idle_politely_and_leaves_what_is_in_use() {
    let (origin, warmline) = serving();
    let held = warmline.ask("/hold");
    origin.wait_for("a request in flight", |record| record.requests.len() == 1);
    assert_eq!(warmline.one_shot("/any").status, 200);
    warmline.wait_for_pool("the second is idle", |pool| pool.census.idle == 1);
    let answer = post(&warmline, "/upstreams/origin/flush");
    assert_eq!(answer.text(), "flush origin: 1 idle connection closed\n");
    origin.wait_for("one end, polite", |record| record.ends() == [None, Some(End::Polite)]);
    origin.release();
    let mut held = held;
    assert_eq!(held.response().status, 200);
    warmline.wait_for_closed("drained", 1);
}

#[test]
fn a_drain_replaces_every_connection_and_loses_no_request() {
    let (origin, warmline) = serving();
    let mut held = warmline.ask("/hold");
    origin.wait_for("a request in flight", |record| record.requests.len() == 1);
    let answer = post(&warmline, "/upstreams/origin/drain");
    let told = "drain origin: 0 idle connections closed, 1 in use to close after their exchange\n";
    assert_eq!(answer.text(), told);
    assert_eq!(warmline.one_shot("/any").status, 200, "on a new connection");
    origin.release();
    assert_eq!(held.response().status, 200);
    origin.wait_for("the old one has ended", |record| record.ends() == [Some(End::Polite), None]);
}

#[test]
fn a_reload_answers_unchanged_applied_or_refused_with_the_reason() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).start_following();
    let unchanged = post(&warmline, "/reload");
    assert_eq!((unchanged.status, unchanged.text().starts_with("reload: unchanged")), (200, true));
    warmline.set("upstreams.0.hosts", json!(["reloaded.test"])).write();
    // The watch may have noticed the file before the request did; after the answer the configuration is in force in any
    // case.
    assert_eq!(post(&warmline, "/reload").status, 200);
    assert_eq!(warmline.connect().get("reloaded.test", "/any").status, 200);
    warmline.set("upstreams.0.pool.purgeDelay", "never").write();
    let refused = post(&warmline, "/reload");
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("`never` is not a duration"), "{}", refused.text());
    let plan = json(&warmline, "/plan");
    let reason = plan["refused"]["configuration"]["reason"].as_str().unwrap();
    assert!(reason.contains("upstreams[0].pool.purgeDelay"), "{plan}");
    assert_eq!(plan["plan"]["upstreams"][0]["hosts"], json!(["reloaded.test"]));
}

#[test]
fn a_process_that_follows_no_file_says_so() {
    let (_origin, warmline) = serving();
    let answer = post(&warmline, "/reload");
    assert_eq!(answer.status, 409);
    assert!(answer.text().contains("follows no file"), "{}", answer.text());
}

#[test]
fn the_reason_of_a_502_is_shown_with_its_stage_and_equal_ones_are_one_entry() {
    let (origin, warmline) = serving();
    drop(origin);
    for _ in 0..3 {
        assert_eq!(warmline.one_shot("/any").status, 502);
    }
    let pools = json(&warmline, "/pools");
    let failures = pools["upstreams"][0]["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1, "{pools}");
    let failure = &failures[0];
    assert_eq!((&failure["status"], &failure["times"]), (&json!(502), &json!(3)));
    assert_eq!((&failure["by"], &failure["stage"]), (&json!("upstream"), &json!("connect")));
    assert!(failure["text"].as_str().unwrap().contains("Connection refused"), "{failure}");
}

#[test]
fn certificates_tell_what_is_trusted_what_is_shown_and_what_the_upstream_showed() {
    let (_origin, warmline) = serving();
    assert_eq!(warmline.one_shot("/any").status, 200);
    let page = json(&warmline, "/certificates");
    let groups = page["certificates"].as_array().unwrap();
    let roles: Vec<_> = groups.iter().map(|group| group["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["identity", "trust", "upstream"]);
    for group in groups {
        assert_eq!(group["upstreams"], json!(["origin"]));
        let certificate = &group["certificates"][0];
        assert_eq!(certificate["fingerprint"].as_str().unwrap().len(), 64, "{certificate}");
        assert!(certificate["secondsLeft"].as_i64().unwrap() > 0, "{certificate}");
    }
    assert_eq!(groups[0]["certificates"][0]["subject"], "CN=warmline");
}

#[test]
fn no_version_is_told_but_on_the_port_for_administration() {
    let (_origin, warmline) = serving();
    let version = env!("CARGO_PKG_VERSION");
    assert!(warmline.admin("/").text().contains(version));
    for answer in [warmline.admin("/"), warmline.health("/readyz"), warmline.one_shot("/any")] {
        assert!(!format!("{:?}", answer.head).contains(version), "{:?}", answer.head);
    }
    assert!(!warmline.health("/").text().contains(version));
}
