//! Watched files: a limit of the kernel's is logged, and nothing is logged again and again.

use std::fs;

use serde_json::json;

use crate::support::{
    authority::{Authority, certificates_pem},
    client::Client,
    origin::Origin,
    program::Program,
    setup::{Following, Setup},
    wait_for,
};

/// Starts the program under a user to whom the kernel gives none of the resource `limit`, until the configuration
/// allows 7 clients.
fn limited(origin: &Origin, limit: &str) -> Program {
    let limit = format!("/proc/sys/user/{limit}");
    let until = r#"n=0; until grep -q "\"connections\":7" "$1" || [ $n -gt 900 ]; do n=$((n+1)); sleep 0.05; done"#;
    let inside =
        format!("echo 0 >{limit}; ({until}; echo 100 >{limit}) & exec \"$0\" run --config \"$1\"");
    Program::start(
        origin,
        &format!("exec unshare --user --map-root-user sh -c '{inside}' \"$0\" \"$1\""),
    )
}

fn the_limit_is_told_and_changes_are_found_without_a_sign(limit: &str, named: &str) {
    let origin = Origin::serving().start();
    let program = limited(&origin, limit);
    let told = || program.said("files cannot be watched, and are looked at every second");
    wait_for("it is told", || told().len() == 1);
    assert!(told()[0]["reason"].as_str().unwrap().contains(named), "{:?}", told());
    // Each of these changes is found by another look, which asks the kernel again.
    program.allow_clients(5);
    program.allow_clients(6);
    assert_eq!(told().len(), 1, "once, however often it is tried");
    program.allow_clients(7);
    wait_for("the limit is raised", || program.said("files are watched again").len() == 1);
}

#[test]
fn fault_38_a_user_without_another_inotify_instance_is_told_so_and_follows_changes_all_the_same() {
    the_limit_is_told_and_changes_are_found_without_a_sign(
        "max_inotify_instances",
        "fs.inotify.max_user_instances",
    );
}

#[test]
fn fault_38_a_user_without_another_inotify_watch_is_told_so_and_follows_changes_all_the_same() {
    the_limit_is_told_and_changes_are_found_without_a_sign(
        "max_inotify_watches",
        "fs.inotify.max_user_watches",
    );
}

/// Has the administration look at the files (`/reload`) and returns the answer.
fn look(warmline: &Following) -> String {
    Client::connect(warmline.administration()).post("localhost", "/reload", "").text()
}

#[test]
fn fault_24_a_broken_certificate_beside_a_refused_configuration_is_told_and_counted_once() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).start_following();
    let trust = warmline.document["upstreams"][0]["tls"]["trust"].as_str().unwrap().to_owned();
    let other = warmline.path.with_file_name("other.crt");
    let authority = Authority::new("another");
    fs::write(&other, certificates_pem(&[authority.certificate().clone()])).unwrap();
    // The configuration is refused because of the threads; moreover it does not name the file that breaks next.
    warmline.set("upstreams.0.tls.trust", json!(other.to_str())).set("threads", json!(3));
    warmline.be_refused();
    fs::write(&trust, "broken").unwrap();
    wait_for("the broken trust is counted", || warmline.rotations("rejected") == 1);
    let last = "warmline_identity_last_reload_successful";
    for _ in 0..5 {
        assert!(
            look(&warmline).contains("threads: 1 is in force, and 3 is wanted"),
            "the configuration is refused"
        );
        assert_eq!(warmline.rotations("rejected"), 1, "it is no news");
        assert_eq!(warmline.metric(last, &[]), 0);
    }
    assert_eq!(warmline.reloads("rejected"), 1);
    assert_eq!(warmline.one_shot("/any").status, 200, "the old trust stays");

    fs::write(&trust, certificates_pem(&[Authority::shared().certificate().clone()])).unwrap();
    wait_for("it is good again", || warmline.metric(last, &[]) == 1);
    assert_eq!((warmline.rotations("rejected"), warmline.reloads("rejected")), (1, 1));
}
