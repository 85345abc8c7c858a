//! A changed configuration replaces the old one while Warmline runs, whole or not at all.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    client::Client,
    mount::Mount,
    origin::{End, Origin},
    program::Program,
    running::Running,
    setup::Setup,
    soaking, wait_for,
};

/// Returns a port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Returns the upstreams of another set-up, whose files last as long as that set-up.
fn upstreams_of(setup: &Setup) -> Value {
    let document: Value = serde_json::from_str(&setup.text()).unwrap();
    document["upstreams"].clone()
}

#[test]
fn pool_numbers_time_limits_retries_and_hosts_apply_in_place_and_close_nothing() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).set("pool.purgeDelay", "5s").start_following();
    let mut client = warmline.connect();
    assert_eq!(client.get("api.test", "/any").status, 200);
    warmline
        .set("upstreams.0.pool.purgeDelay", "200s")
        .set("upstreams.0.pool.maxConnections", 7)
        .set("upstreams.0.timeouts.response", "9s")
        .set("upstreams.0.retries.max", 1)
        .set("upstreams.0.hosts", json!(["other.test", "api.test"]))
        .apply();
    assert_eq!(client.get("other.test", "/any").status, 200, "its new host, on its old connection");
    assert_eq!(client.get("api.test", "/any").status, 200);
    assert_eq!(origin.record().connections.len(), 1);
    assert_eq!(warmline.pool("origin").connections[0].uses, 3);
}

#[test]
fn a_time_limit_of_the_new_configuration_holds_for_the_next_request() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).start_following();
    warmline.set("upstreams.0.timeouts.response", "60ms").apply();
    let answer = warmline.one_shot("/hold");
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.text().contains("60ms"), "{}", answer.text());
    origin.release();
}

#[test]
fn an_invalid_configuration_leaves_the_old_one_in_force_and_is_told_until_it_is_mended() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).start_following();
    let in_force = || warmline.metric("warmline_config_last_reload_successful", &[]);
    assert_eq!(in_force(), 1);
    let hash = |page: String| {
        let line = page.lines().find(|line| line.starts_with("warmline_config_info{"));
        line.expect("config_info").to_owned()
    };
    let before = hash(warmline.health("/metrics").text());
    warmline.set("upstreams.0.pool.purgeDelay", "never").be_refused();
    assert_eq!(warmline.metric("warmline_config_last_reload_successful", &[]), 0);
    assert_eq!(hash(warmline.health("/metrics").text()), before);
    assert_eq!(warmline.one_shot("/any").status, 200);
    warmline.set("upstreams.0.pool.purgeDelay", "7s").apply();
    assert_eq!(warmline.metric("warmline_config_last_reload_successful", &[]), 1);
    assert_ne!(hash(warmline.health("/metrics").text()), before);
    assert_eq!((warmline.reloads("applied"), warmline.reloads("rejected")), (1, 1));
}

#[test]
fn a_refused_text_that_is_taken_back_is_no_longer_told_and_counts_as_no_reload() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).set("pool.purgeDelay", "5s").start_following();
    warmline.set("upstreams.0.pool.purgeDelay", "never").be_refused();
    warmline.set("upstreams.0.pool.purgeDelay", "5s");
    warmline.write();
    wait_for("the file is as it was", || {
        warmline.metric("warmline_config_last_reload_successful", &[]) == 1
    });
    assert_eq!((warmline.reloads("applied"), warmline.reloads("rejected")), (0, 1));
}

#[test]
fn an_edit_in_place_is_noticed() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).start_following();
    warmline.set("upstreams.0.hosts", json!(["edited.test"]));
    fs::write(&warmline.path, warmline.document.to_string()).unwrap();
    wait_for("the edit is in force", || warmline.reloads("applied") == 1);
    assert_eq!(warmline.connect().get("edited.test", "/any").status, 200);
}

#[test]
fn sighup_has_the_files_looked_at_and_ends_nothing() {
    let origin = Origin::serving().start();
    let program = Program::start(&origin, "exec \"$0\" run --config \"$1\"");
    assert_eq!(program.status(), 200);
    program.signal("-HUP");
    wait_for("it is told", || program.said("SIGHUP").len() == 1);
    assert_eq!(program.status(), 200);
    assert_eq!(origin.record().connections.len(), 1, "nothing had changed");
}

#[test]
fn a_config_map_s_swap_of_its_folder_s_link_is_noticed_every_time() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin);
    let mut mount = Mount::new(setup.folder().join("config"), &["config.yaml"]);
    mount.swap(|folder| fs::write(folder.join("config.yaml"), setup.text()).unwrap());
    let mut warmline = setup.start_following_at(mount.path("config.yaml"));
    for number in 1..=3_u64 {
        let host = format!("swapped-{number}.test");
        let text = warmline.set("upstreams.0.hosts", json!([host])).document.to_string();
        mount.swap(|folder| fs::write(folder.join("config.yaml"), text).unwrap());
        wait_for("the swap is in force", || warmline.reloads("applied") == number);
        assert_eq!(warmline.connect().get(&host, "/any").status, 200);
    }
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn another_field_of_the_key_starts_a_generation_and_idle_connections_of_the_old_one_close() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).start_following();
    assert_eq!(warmline.one_shot("/any").status, 200);
    warmline
        .set("upstreams.0.tls.serverName", "none")
        .set("upstreams.0.tls.verifyName", "api.test");
    warmline.apply();
    origin.wait_for("the old connection's end", |record| record.ends() == [Some(End::Polite)]);
    assert_eq!(warmline.one_shot("/any").status, 200);
    let names: Vec<_> = origin.read(|record| {
        let handshakes = record.connections.iter().map(|c| c.handshake.clone().unwrap());
        handshakes.map(|handshake| (handshake.server_name, handshake.resumed)).collect()
    });
    assert_eq!(names, [(Some("api.test".into()), false), (None, false)]);
    warmline.wait_for_closed("reconfigured", 1);
    assert_eq!(warmline.metric("warmline_pool_checkouts_total", &[("reason", "reconfigured")]), 1);
}

#[test]
fn a_request_whose_new_connections_are_outdated_again_and_again_ends_within_the_limits_of_connecting()
 {
    let origin = Origin::serving().far_away(Duration::from_millis(100)).start();
    let setup = Setup::before(&origin).set("timeouts.connect", "1s");
    let setup = setup.set("timeouts.handshake", "2s");
    let mut document: Value = serde_json::from_str(&setup.text()).unwrap();
    let warmline = setup.start();
    let answer = thread::scope(|scope| {
        let asking = scope.spawn(|| warmline.one_shot("/any"));
        for version in ["1.3", "1.2"].into_iter().cycle() {
            document["upstreams"][0]["tls"]["minVersion"] = version.into();
            warmline.reconfigure(&document);
            if asking.is_finished() {
                break;
            }
        }
        asking.join().unwrap()
    });
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.text().contains("each new connection was outdated"), "{}", answer.text());
    let status = answer.head.field("proxy-status").unwrap();
    assert!(status.contains("error=connection_timeout"), "{status}");
    assert_eq!(origin.read(|record| record.request_count), 0);
    assert_eq!(warmline.one_shot("/any").status, 200, "it is calm again");
}

#[test]
fn an_upstream_that_is_added_serves_and_one_that_is_removed_finishes_what_it_has() {
    let (first, second) = (Origin::serving().start(), Origin::serving().start());
    let mut warmline = Setup::before(&first).set("hosts", json!(["a.test"])).start_following();
    let mut waiting = warmline.connect();
    waiting.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n");
    first.wait_for("a request in flight", |record| record.requests.len() == 1);

    let added = Setup::new().upstream("second", &second).set("hosts", json!(["b.test"]));
    warmline.set("upstreams", upstreams_of(&added)).apply();
    assert_eq!(warmline.connect().get("b.test", "/any").status, 200);
    assert_eq!(warmline.connect().get("a.test", "/any").status, 404);
    first.release();
    assert_eq!(waiting.response().status, 200, "what was in flight finishes");
    first.wait_for("its connection closes politely", |record| record.ends() == [Some(End::Polite)]);
}

/// Starts Warmline with an upstream `a.test` with these settings and a permanent one, `b.test`; sends a request to the
/// first, which the origin does not answer by itself.
fn held_beside_another(
    origin: &Origin,
    set: impl FnOnce(Setup) -> Setup,
    request: &str,
) -> (Running, Value, Client) {
    let setup = set(Setup::before(origin).set("hosts", json!(["a.test"])));
    let setup = setup.upstream("other", origin).set("hosts", json!(["b.test"]));
    let setup = setup.set("timeouts.response", "2s");
    let document = serde_json::from_str(&setup.text()).unwrap();
    // No file is followed: the first look at it would take changes back that it does not have.
    let warmline = setup.start();
    let mut held = warmline.connect();
    held.send(format!("{request} /hold HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n"));
    origin.wait_for("a request in flight", |record| record.requests.len() == 1);
    (warmline, document, held)
}

/// Puts this configuration in force without its first upstream.
fn remove_first(warmline: &Running, document: &Value) {
    let mut document = document.clone();
    document["upstreams"].as_array_mut().unwrap().remove(0);
    warmline.reconfigure(&document);
}

#[test]
fn exchanges_of_a_removed_upstream_end_at_the_rotation_deadline() {
    let set = |setup: Setup| setup.set("pool.rotationDeadline", "100ms");
    let origin = Origin::unanswering().start();
    let (warmline, document, mut held) = held_beside_another(&origin, set, "POST");
    remove_first(&warmline, &document);
    let answer = held.response();
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.text().contains("rotationDeadline"), "{}", answer.text());
    origin.wait_for("a polite end", |record| record.ends() == [Some(End::Polite)]);
}

#[test]
fn a_repeated_request_to_a_removed_upstream_ends_likewise() {
    let set = |setup: Setup| setup.set("pool.rotationDeadline", "500ms").set("retries.max", 1);
    let origin = Origin::unanswering().start();
    let (warmline, document, mut held) = held_beside_another(&origin, set, "GET");
    remove_first(&warmline, &document);
    let answer = held.response();
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_eq!(origin.read(|record| record.requests.len()), 2);
}

#[test]
fn an_upstream_that_returns_in_time_ends_nothing() {
    let set = |setup: Setup| setup.set("pool.rotationDeadline", "1500ms");
    let origin = Origin::serving().start();
    let (warmline, document, mut held) = held_beside_another(&origin, set, "POST");
    remove_first(&warmline, &document);
    warmline.reconfigure(&document);
    assert_eq!(warmline.connect().get("b.test", "/hold").status, 504, "2 s are over");
    origin.release();
    assert_eq!(held.response().status, 200);
}

#[test]
fn an_upstream_that_returns_while_it_drains_keeps_its_cap_and_serves_again() {
    let origin = Origin::serving().start();
    let other = Origin::serving().start();
    let setup =
        Setup::before(&origin).set("hosts", json!(["a.test"])).set("pool.maxConnections", 1);
    let mut warmline = setup.start_following();
    let with_it = warmline.document["upstreams"].clone();
    let mut waiting = warmline.connect();
    waiting.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n");
    origin.wait_for("a request in flight", |record| record.requests.len() == 1);
    let without = Setup::new().upstream("other", &other);
    warmline.set("upstreams", upstreams_of(&without)).apply();
    warmline.set("upstreams", with_it).apply();
    let mut second = warmline.connect();
    second.send("GET /any HTTP/1.1\r\nHost: a.test\r\n\r\n");
    warmline.wait_for_pool("the second request waits at the cap", |pool| pool.queued == 1);
    origin.release();
    assert_eq!((waiting.response().status, second.response().status), (200, 200));
    assert_eq!(
        origin.record().connections.len(),
        1,
        "it was never drained, as it came back in time"
    );
}

#[test]
fn listeners_come_and_go_and_those_that_stay_refuse_nobody() {
    let origin = Origin::serving().start();
    let (stays, goes, comes) = (free_port(), free_port(), free_port());
    let bind = |port: u16| format!("127.0.0.1:{port}");
    let setup = Setup::before(&origin)
        .set_global("listeners", json!([{ "bind": [bind(stays), bind(goes)] }]));
    let mut warmline = setup.start_following();
    let at = |port: u16| Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    let (mut kept, mut idle, mut busy) = (at(stays), at(goes), at(goes));
    assert_eq!(kept.get("api.test", "/any").status, 200);
    assert_eq!(idle.get("api.test", "/any").status, 200);
    busy.send("GET /hold HTTP/1.1\r\nHost: api.test\r\n\r\n");
    origin.wait_for("a request in flight", |record| record.requests.len() == 3);

    warmline.set("listeners", json!([{ "bind": [bind(stays), bind(comes)] }])).apply();
    assert_eq!(at(comes).get("api.test", "/any").status, 200);
    assert_eq!(kept.get("api.test", "/any").status, 200, "on the connection that it had");
    assert_eq!(idle.end().1, b"", "an idle client of the closed one is sent away");
    wait_for("the closed listener refuses", || TcpStream::connect(bind(goes)).is_err());
    origin.release();
    let last = busy.response();
    assert_eq!((last.status, last.head.field("connection")), (200, Some("close")));
}

#[test]
fn an_address_that_moves_to_another_listener_takes_that_one_s_bound_and_leaves_the_old_one_its_own()
{
    let origin = Origin::serving().start();
    let (stays, moves, narrow) = (free_port(), free_port(), free_port());
    let listener = |ports: &[u16], most: usize| {
        let binds: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        json!({ "bind": binds, "limits": { "connections": most } })
    };
    let before = json!([listener(&[stays, moves], 9), listener(&[narrow], 1)]);
    let mut warmline = Setup::before(&origin).set_global("listeners", before).start_following();
    let at = |port: u16| Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(at(moves).get("api.test", "/any").status, 200);

    let after = json!([listener(&[stays], 9), listener(&[narrow, moves], 1)]);
    warmline.set("listeners", after).apply();
    let mut wide: Vec<_> = (0..3).map(|_| at(stays)).collect();
    for client in &mut wide {
        assert_eq!(client.get("api.test", "/any").status, 200, "nine may come here, as before");
    }
    let (mut first, mut second) = (at(narrow), at(moves));
    assert_eq!(first.get("api.test", "/any").status, 200);
    second.send("GET /any HTTP/1.1\r\nHost: api.test\r\n\r\n");
    assert_eq!(wide[0].get("api.test", "/any").status, 200);
    second.assert_silent();
    drop(first);
    assert_eq!(second.response().status, 200, "one at a time, over both of its addresses");
}

#[test]
fn a_change_that_needs_a_restart_is_refused_by_its_name_and_nothing_else_of_it_applies() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).start_following();
    warmline.set("threads", 2).set("upstreams.0.hosts", json!(["new.test"]));
    let admin = warmline.document["admin"]["bind"].clone();
    warmline.set("admin.bind", json!(["[::1]:0"])).be_refused();
    let told = Client::connect(warmline.administration()).post("localhost", "/reload", "").text();
    let remedy = "is wanted; only a restart changes it: restart, or write";
    let file = warmline.path.display();
    for key in [
        "threads: 1 is in force, and 2 ".to_owned(),
        format!("admin.bind: {} is in force, and [::1]:0 ", admin[0].as_str().unwrap()),
    ] {
        let line = told.lines().find(|line| line.contains(&format!("{key}{remedy}")));
        let line = line.unwrap_or_else(|| panic!("{key}: {told}"));
        assert!(line.contains(&format!("{file}:1:")), "it has a place: {line}");
    }
    warmline.set("admin.bind", admin);
    assert_eq!(warmline.connect().get("new.test", "/any").status, 404);
    warmline.set("threads", 1).apply();
    assert_eq!(warmline.connect().get("new.test", "/any").status, 200);
}

#[test]
fn a_port_that_carried_one_upstream_never_carries_another() {
    let (first, second) = (Origin::serving().start(), Origin::serving().start());
    let port = free_port();
    let setup = Setup::new().upstream("first", &first).set("port", port);
    let setup = setup.set("hosts", json!(["a.test"])).upstream("second", &second);
    let mut warmline = setup.set("hosts", json!(["b.test"])).start_following();
    let own = || Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(own().get("any.test", "/any").status, 200);
    let mut moved = warmline.document["upstreams"].clone();
    moved[0].as_object_mut().unwrap().remove("port");
    warmline.set("upstreams", moved.clone()).apply();
    let without = moved.clone();
    moved[1]["port"] = port.into();
    warmline.set("upstreams", moved).be_refused();
    let reason = warmline.admin("/plan").text();
    assert!(reason.contains(&format!(" upstreams[1].port: port {port} carried ")), "{reason}");
    let bind = json!([{ "bind": [format!("127.0.0.1:{port}")] }]);
    warmline.set("upstreams", without).set("listeners", bind).be_refused();
    let reason = warmline.admin("/plan").text();
    assert!(reason.contains(&format!(" listeners[0].bind[0]: port {port} carried ")), "{reason}");
    assert_eq!(second.record().requests.len(), 0);
}

#[test]
fn a_lowered_cap_closes_idle_surplus_at_once_and_a_raised_one_lets_waiters_dial() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).set("pool.maxConnections", 3).start_following();
    let mut clients: Vec<_> = (0..3).map(|_| warmline.connect()).collect();
    for client in &mut clients {
        client.send("GET /hold HTTP/1.1\r\nHost: api.test\r\n\r\n");
    }
    origin.wait_for("three in flight", |record| record.requests.len() == 3);
    let mut fourth = warmline.connect();
    fourth.send("GET /hold HTTP/1.1\r\nHost: api.test\r\n\r\n");
    warmline.wait_for_pool("one waits", |pool| pool.queued == 1);
    warmline.set("upstreams.0.pool.maxConnections", 4).apply();
    origin.wait_for("the raised cap lets it dial", |record| record.requests.len() == 4);
    origin.release();
    for client in clients.iter_mut().chain([&mut fourth]) {
        assert_eq!(client.response().status, 200);
    }
    warmline.wait_for_pool("all are idle", |pool| pool.census.idle == 4);
    warmline.set("upstreams.0.pool.maxConnections", 1).apply();
    warmline.wait_for_pool("one is left", |pool| pool.census.total() == 1);
}

#[test]
fn a_file_that_vanishes_or_becomes_a_folder_leaves_the_old_configuration_in_force() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).start_following();
    let spoil: [&dyn Fn(); 3] = [
        &|| fs::remove_file(&warmline.path).unwrap(),
        &|| fs::create_dir(&warmline.path).unwrap(),
        &|| {
            fs::remove_dir(&warmline.path).unwrap();
            fs::write(&warmline.path, "upstreams: [").unwrap();
        },
    ];
    for (turn, spoil) in spoil.iter().enumerate() {
        spoil();
        wait_for("it is told", || warmline.reloads("rejected") > turn as u64);
        assert_eq!(warmline.one_shot("/any").status, 200);
    }
    warmline.set("upstreams.0.hosts", json!(["mended.test"])).apply();
    assert_eq!(warmline.connect().get("mended.test", "/any").status, 200);
}

/// A soak makes as many changes as ten a second make in a minute.
#[test]
fn each_of_many_changes_has_one_outcome_and_leaves_nothing_behind() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).start_following();
    assert_eq!(warmline.one_shot("/any").status, 200);
    let changes = if soaking() { 600 } else { 40 };
    let before = warmline.metric("process_open_fds", &[]);
    for turn in 0..changes / 2 {
        warmline.set("upstreams.0.retries.max", turn % 2).apply();
        warmline.set("upstreams.0.retries.max", "many").be_refused();
    }
    warmline.set("upstreams.0.retries.max", 3).apply();
    let outcomes = (warmline.reloads("applied"), warmline.reloads("rejected"));
    assert_eq!(outcomes, (changes / 2 + 1, changes / 2));
    assert_eq!(warmline.one_shot("/any").status, 200);
    assert_eq!(origin.record().connections.len(), 1, "nothing of the key changed");
    let after = warmline.metric("process_open_fds", &[]);
    // Other tests of this process open descriptors too, except in a soak.
    assert!(!soaking() || after <= before + 2, "{after} descriptors, {before} before");
}

#[test]
fn the_log_names_the_upstreams_that_changed_and_warns_of_a_port_that_moved() {
    let origin = Origin::serving().start();
    let (closed, open) = (free_port(), free_port());
    let setup = Program::setup(&[("a.test", &origin)]).set("port", closed);
    let program = Program::run(setup, "exec \"$0\" run --config \"$1\"");
    let name = format!("origin-{}", origin.port());
    program.reconfigure(|document| document["drain"] = "7s".into());
    program.reconfigure(|document| document["upstreams"][0]["port"] = open.into());
    let changed = program.said("changed configuration is in force");
    let upstreams: Vec<_> = changed.iter().map(|line| line["upstreams"].clone()).collect();
    assert_eq!(upstreams, [json!(""), json!(name)]);
    let moved = || program.said("the upstream's own port has changed");
    wait_for("the port's move is told", || !moved().is_empty());
    let moved = moved();
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert_eq!((&moved[0]["level"], &moved[0]["upstream"]), (&json!("WARN"), &json!(name)));
    assert_eq!((&moved[0]["closed"], &moved[0]["open"]), (&json!(closed), &json!(open)));
}
