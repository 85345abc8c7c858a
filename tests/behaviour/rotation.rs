//! New certificates, keys and trust replace old ones while Warmline runs, without a lost request.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::{Value, json};

use crate::support::{
    authority::{self, Authority, Identity, certificates_pem, client_params},
    client::{Client, Ending},
    key_format::KeyFormat,
    mount::Mount,
    origin::{ConnectionRecord, End, Origin},
    setup::{Following, Setup, identity},
    wait_for,
};

/// A running Warmline, and the files of its identity and trust.
struct Scene {
    origin: Origin,
    warmline: Following,
    certificate: PathBuf,
    key: PathBuf,
    trust: PathBuf,
}

fn scene(change: impl FnOnce(Setup) -> Setup) -> Scene {
    scene_before(Origin::serving().start(), change)
}

fn scene_before(origin: Origin, change: impl FnOnce(Setup) -> Setup) -> Scene {
    let warmline = change(Setup::before(&origin)).start_following();
    let tls = &warmline.document["upstreams"][0]["tls"];
    let path = |value: &Value| PathBuf::from(value.as_str().unwrap());
    let (identity, trust) = (&tls["identity"], path(&tls["trust"]));
    let (certificate, key) = (path(&identity["certificate"]), path(&identity["key"]));
    Scene { origin, warmline, certificate, key, trust }
}

impl Scene {
    fn get(&self) {
        let answer = self.warmline.one_shot("/any");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Writes both files of the identity, the key first.
    fn write(&self, identity: &Identity) {
        replace(&self.key, &identity.key_pem(KeyFormat::Pkcs8));
        replace(&self.certificate, &identity.chain_pem());
    }

    fn rotate(&self, identity: &Identity) {
        let applied = self.warmline.rotations("applied");
        self.write(identity);
        wait_for("the new certificate is in force", || {
            self.warmline.rotations("applied") > applied
        });
    }

    /// Replaces the trust by these authorities.
    fn trust(&self, authorities: &[&Authority]) {
        let certificates: Vec<_> = authorities.iter().map(|a| a.certificate().clone()).collect();
        replace(&self.trust, &certificates_pem(&certificates));
    }

    /// Returns the client certificates that the origin saw, one for each connection.
    fn shown(&self) -> Vec<Vec<u8>> {
        self.origin.read(|record| record.connections.iter().map(certificate).collect())
    }
}

fn certificate(connection: &ConnectionRecord) -> Vec<u8> {
    let handshake = connection.handshake.as_ref().unwrap();
    handshake.client_certificate.clone().unwrap()
}

/// Replaces a file by a rename, so that no reader sees it half-written.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("beside");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

fn leaf(identity: &Identity) -> Vec<u8> {
    identity.leaf().to_vec()
}

/// Sends a POST that the origin holds, on a connection with the certificate that Warmline began with.
fn held_post(scene: &Scene) -> Client {
    let mut post = scene.warmline.connect();
    post.send("POST /hold HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n");
    scene.origin.wait_for("a request in flight", |record| record.requests.len() == 1);
    post
}

/// Sends a GET that the origin holds, on a connection with the certificate that Warmline began with.
fn held_get(scene: &Scene) -> Client {
    let get = scene.warmline.ask("/hold");
    scene.origin.wait_for("a request in flight", |record| record.requests.len() == 1);
    get
}

#[test]
fn a_new_pair_is_shown_at_once_idle_connections_close_and_no_session_of_the_old_one_resumes() {
    let scene = scene(|setup| setup);
    scene.get();
    let second = Authority::shared().client("warmline");
    scene.rotate(&second);
    scene
        .origin
        .wait_for("the idle connection's end", |record| record.ends() == [Some(End::Polite)]);
    scene.get();
    assert_eq!(scene.shown(), [leaf(identity()), leaf(&second)]);
    assert_eq!(scene.origin.record().handshakes().resumed, 0);
    scene.warmline.wait_for_closed("rotated", 1);
    let rotated = [("reason", "rotated")];
    assert_eq!(scene.warmline.metric("warmline_pool_checkouts_total", &rotated), 1);
}

#[test]
fn case_37_a_request_in_flight_finishes_on_the_old_pair_and_the_next_request_shows_the_new_one() {
    let scene = scene(|setup| setup);
    let mut waiting = held_get(&scene);
    let second = Authority::shared().client("warmline");
    scene.rotate(&second);
    let old = || scene.warmline.metric("warmline_old_generation_connections", &[]);
    assert_eq!(old(), 1);
    scene.origin.release();
    assert_eq!(waiting.response().status, 200);
    wait_for("the old connection is gone", || old() == 0);
    assert_eq!(waiting.get("api.test", "/any").status, 200);
    assert_eq!(scene.shown(), [leaf(identity()), leaf(&second)]);
}

#[test]
fn case_37_a_request_on_an_old_connection_ends_at_the_rotation_deadline() {
    let origin = Origin::unanswering().start();
    let scene = scene_before(origin, |setup| setup.set("pool.rotationDeadline", "100ms"));
    let mut post = held_post(&scene);
    scene.rotate(&Authority::shared().client("warmline"));
    let answer = post.response();
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.text().contains("rotationDeadline"), "{}", answer.text());
    scene.origin.wait_for("a polite end", |record| record.ends() == [Some(End::Polite)]);
    assert_eq!(scene.origin.record().requests.len(), 1, "it is not sent again");
}

#[test]
fn case_37_at_the_deadline_a_get_goes_again_under_the_new_pair() {
    let scene = scene(|setup| setup.set("pool.rotationDeadline", "100ms"));
    let mut get = held_get(&scene);
    let second = Authority::shared().client("warmline");
    scene.rotate(&second);
    scene.origin.wait_for("it goes again", |record| record.requests.len() == 2);
    scene.origin.release();
    assert_eq!(get.response().status, 200);
    assert_eq!(scene.shown(), [leaf(identity()), leaf(&second)]);
}

#[test]
fn a_body_that_is_under_way_at_the_rotation_deadline_is_broken_off_and_never_ends_cleanly() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        peer.request().await;
    })
    .start();
    let scene = scene_before(origin, |setup| setup.set("pool.rotationDeadline", "100ms"));
    let mut client = scene.warmline.ask("/");
    assert_eq!(client.response_head().field("content-length"), Some("10"));
    scene.write(&Authority::shared().client("warmline"));
    assert_eq!(client.end().0, Ending::Reset);
}

#[test]
fn a_connection_that_the_rotation_ends_after_an_informational_response_counts_as_rotated() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 103 Early Hints\r\n\r\n").await;
        peer.ended().await;
        peer.close().await;
    })
    .start();
    let scene = scene_before(origin, |setup| setup.set("pool.rotationDeadline", "100ms"));
    let mut get = held_get(&scene);
    scene.rotate(&Authority::shared().client("warmline"));
    let answer = get.response();
    assert_eq!(answer.status, 504, "{}", answer.text());
    scene.warmline.wait_for_closed("rotated", 1);
    assert_eq!(scene.warmline.closed("unfit"), 0);
}

#[test]
fn case_38_between_the_first_and_the_second_file_the_old_pair_stays_in_either_order() {
    for key_first in [true, false] {
        let scene = scene(|setup| setup);
        scene.get();
        let second = Authority::shared().client("warmline");
        let key = second.key_pem(KeyFormat::Pkcs8);
        let mut files = [(&scene.key, key), (&scene.certificate, second.chain_pem())];
        if !key_first {
            files.reverse();
        }
        replace(files[0].0, &files[0].1);
        wait_for("the mismatch is told", || scene.warmline.rotations("rejected") == 1);
        let in_force = || scene.warmline.metric("warmline_identity_last_reload_successful", &[]);
        assert_eq!(in_force(), 0);
        scene.get();
        assert_eq!(scene.shown(), [leaf(identity())], "nothing happened yet");
        replace(files[1].0, &files[1].1);
        wait_for("the pair is in force", || scene.warmline.rotations("applied") == 1);
        assert_eq!(in_force(), 1);
        scene.get();
        assert_eq!(scene.shown(), [leaf(identity()), leaf(&second)]);
    }
}

#[test]
fn case_38_whatever_cannot_be_used_leaves_the_old_pair_in_force_and_a_good_one_ends_it() {
    let expired = Authority::shared().issue(&authority::expired(client_params("warmline")));
    let early = Authority::shared().issue(&authority::not_yet_valid(client_params("warmline")));
    let scene = scene(|setup| setup);
    scene.get();
    let good = identity().chain_pem();
    let spoil: [&dyn Fn(); 5] = [
        &|| scene.write(&expired),
        &|| scene.write(&early),
        &|| fs::write(&scene.certificate, &good[..good.len() / 2]).unwrap(),
        &|| fs::remove_file(&scene.certificate).unwrap(),
        &|| fs::create_dir(&scene.certificate).unwrap(),
    ];
    for (number, spoil) in spoil.iter().enumerate() {
        let rejected = scene.warmline.rotations("rejected");
        spoil();
        wait_for("it is told", || scene.warmline.rotations("rejected") > rejected);
        scene.get();
        assert_eq!(scene.shown(), [leaf(identity())], "spoiled in way {number}");
    }
    fs::remove_dir(&scene.certificate).unwrap();
    let second = Authority::shared().client("warmline");
    scene.rotate(&second);
    scene.get();
    assert_eq!(scene.shown(), [leaf(identity()), leaf(&second)]);
    assert_eq!(scene.warmline.metric("warmline_config_last_reload_successful", &[]), 1);
}

#[test]
fn a_configuration_may_change_while_a_certificate_cannot_be_used() {
    let mut scene = scene(|setup| setup);
    scene.get();
    fs::write(&scene.certificate, "half").unwrap();
    wait_for("it is told", || scene.warmline.rotations("rejected") == 1);
    scene.warmline.set("upstreams.0.hosts", json!(["new.test"])).apply();
    assert_eq!(scene.warmline.connect().get("new.test", "/any").status, 200);
    assert_eq!(scene.shown(), [leaf(identity())]);
}

#[test]
fn files_written_again_with_the_same_bytes_make_no_generation() {
    let mut scene = scene(|setup| setup);
    scene.get();
    scene.write(identity());
    // Once this later change is noticed, the rewriting was noticed before it.
    scene.warmline.set("upstreams.0.hosts", json!(["new.test", "api.test"])).apply();
    scene.get();
    assert_eq!(scene.shown(), [leaf(identity())]);
    assert_eq!(scene.warmline.rotations("applied"), 0);
}

#[test]
fn a_secret_s_swap_of_its_folder_s_link_rotates_both_files_at_once() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin);
    let mut mount = Mount::new(setup.folder().join("identity"), &["tls.crt", "tls.key"]);
    let swap = |mount: &mut Mount, identity: &Identity| {
        mount.swap(|folder| assert!(identity.write(folder, "tls").key.ends_with("tls.key")));
    };
    swap(&mut mount, identity());
    let files = json!({ "certificate": mount.path("tls.crt"), "key": mount.path("tls.key") });
    let warmline = setup.set("tls.identity", files).start_following();
    for number in 1..=3_u64 {
        swap(&mut mount, &Authority::shared().client("warmline"));
        wait_for("the swap is in force", || warmline.rotations("applied") == number);
        assert_eq!(warmline.one_shot("/any").status, 200);
    }
    assert_eq!(warmline.rotations("rejected"), 0, "never a mixed pair");
    assert_eq!(origin.record().connections.len(), 3);
}

#[test]
fn case_37_a_trust_that_no_longer_covers_the_upstream_ends_its_connections_at_once() {
    let scene = scene(|setup| setup);
    let mut post = held_post(&scene);
    scene.trust(&[&Authority::new("another")]);
    let answer = post.response();
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_eq!(scene.warmline.one_shot("/any").status, 502, "it is not believed any more");
    assert_eq!(scene.origin.record().requests.len(), 1);
}

#[test]
fn a_trust_that_grows_lets_what_is_in_flight_finish() {
    let scene = scene(|setup| setup);
    let mut waiting = held_get(&scene);
    scene.trust(&[Authority::shared(), &Authority::new("x")]);
    wait_for("the new trust is in force", || scene.warmline.rotations("applied") == 1);
    scene.origin.release();
    assert_eq!(waiting.response().status, 200);
    assert_eq!(waiting.get("api.test", "/any").status, 200);
    assert_eq!(scene.origin.record().connections.len(), 2);
}

#[test]
fn a_configuration_that_cannot_be_used_holds_up_no_rotation() {
    let mut scene = scene(|setup| setup);
    scene.get();
    scene.warmline.set("upstreams.0.pool.purgeDelay", "never").be_refused();
    let second = Authority::shared().client("warmline");
    scene.rotate(&second);
    scene.get();
    assert_eq!(scene.shown(), [leaf(identity()), leaf(&second)]);
    assert_eq!(scene.warmline.metric("warmline_config_last_reload_successful", &[]), 0, "still");
}

#[test]
fn case_37_a_trust_that_shrinks_after_a_rotation_ends_what_is_left_of_every_generation() {
    let scene = scene(|setup| setup);
    let mut post = held_post(&scene);
    scene.rotate(&Authority::shared().client("warmline"));
    scene.trust(&[&Authority::new("another")]);
    assert_eq!(post.response().status, 504);
}

#[test]
fn connections_that_an_operator_drained_end_at_the_deadline_of_the_rotation_that_follows() {
    let scene = scene(|setup| setup.set("pool.rotationDeadline", "100ms"));
    let mut post = held_post(&scene);
    scene.warmline.upstream("origin").replace_connections(Instant::now());
    scene.rotate(&Authority::shared().client("warmline"));
    let answer = post.response();
    assert_eq!(answer.status, 504, "{}", answer.text());
}

#[test]
fn a_certificate_that_the_upstream_itself_replaced_is_judged_at_the_next_handshake() {
    let scene = scene(|setup| setup.set("pool.maxRequests", 1));
    let shown = || scene.warmline.upstream("origin").shown().map(|chain| chain[0].to_vec());
    scene.get();
    let second = Authority::shared().server(&["api.test"]);
    scene.origin.show(&second);
    scene.get();
    assert_eq!(shown(), Some(leaf(&second)));
    let own = Identity::self_signed(&["api.test"], false);
    scene.origin.show(&own);
    let answer = scene.warmline.one_shot("/any");
    assert_eq!(answer.status, 502, "nobody said that it is to be believed: {}", answer.text());
    assert_eq!(shown(), Some(leaf(&second)), "what was not believed is not shown");
    replace(&scene.trust, &certificates_pem(&[own.leaf().clone()]));
    wait_for("the new trust is in force", || scene.warmline.rotations("applied") == 1);
    scene.get();
    assert_eq!(shown(), Some(leaf(&own)));
}

#[test]
fn a_pipe_in_a_file_s_place_is_refused_and_holds_up_nobody() {
    let scene = scene(|setup| setup);
    scene.get();
    fs::remove_file(&scene.certificate).unwrap();
    let made = Command::new("mkfifo").arg(&scene.certificate).status();
    assert!(made.unwrap().success());
    wait_for("it is told", || scene.warmline.rotations("rejected") >= 1);
    assert_eq!(scene.warmline.health("/livez").status, 200);
    scene.get();
    fs::remove_file(&scene.certificate).unwrap();
    scene.rotate(&Authority::shared().client("warmline"));
}
