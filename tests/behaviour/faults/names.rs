//! Names and addresses: the hosts file, DNS with partial answers, addresses that are dead, appear and disappear.

use std::{fs, net::SocketAddr, path::PathBuf};

use crate::support::{
    name_server::{
        Kind::{A, Aaaa},
        NameServer, Says,
    },
    names::Names,
    origin::{NAME, Origin},
    setup::Setup,
    silent::Silent,
    together,
};

/// A configuration that resolves by files of its own, and the name server named in them.
struct Scene {
    setup: Setup,
    hosts: PathBuf,
    resolv_conf: PathBuf,
    server: NameServer,
}

impl Scene {
    fn new(setup: Setup) -> Self {
        let server = NameServer::start();
        let path = |name| setup.folder().join(name);
        let (hosts, resolv_conf) = (path("hosts"), path("resolv.conf"));
        fs::write(&hosts, "").unwrap();
        fs::write(&resolv_conf, "search test\nnameserver 127.0.0.1\n").unwrap();
        let setup = setup.resolver(&hosts, &resolv_conf, server.port());
        Self { setup, hosts, resolv_conf, server }
    }
}

#[test]
fn fault_03_traffic_for_a_test_double_in_the_hosts_file_never_reaches_the_real_service() {
    let origin = Origin::serving().addresses(&["127.0.0.2", "127.0.0.3", "::1"]).start();
    let setup = Setup::before(&origin).set("pool.maxRequests", 1);
    let Scene { setup, hosts, server, .. } = Scene::new(setup);
    server.says(NAME, A, Says::addresses(&["127.0.0.3"])).says(
        NAME,
        Aaaa,
        Says::addresses(&["::1"]),
    );
    fs::write(&hosts, format!("127.0.0.2 {NAME}\n")).unwrap();
    let warmline = setup.start();
    for _ in 0..3 {
        assert_eq!(warmline.one_shot("/any").status, 200);
    }
    let locals: Vec<_> = origin.record().connections.iter().map(|c| c.local.ip()).collect();
    assert!(locals.iter().all(|ip| ip.to_string() == "127.0.0.2"), "{locals:?}");
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[test]
fn fault_04_a_name_server_that_never_answers_for_ipv6_costs_no_request() {
    let origin = Origin::serving().start();
    let Scene { setup, server, .. } = Scene::new(Setup::before(&origin).set("pool.maxRequests", 1));
    server.says(NAME, A, Says::addresses(&["127.0.0.1"])).says(NAME, Aaaa, Says::Silence);
    let warmline = setup.start();
    for _ in 0..3 {
        assert_eq!(warmline.one_shot("/any").status, 200);
    }
}

#[test]
fn fault_04_lost_questions_cost_no_request() {
    let origin = Origin::serving().start();
    let Scene { setup, server, .. } = Scene::new(Setup::before(&origin));
    server.says(NAME, A, Says::addresses(&["127.0.0.1"])).says(NAME, Aaaa, Says::NoData(None));
    server.loses(3);
    let warmline = setup.start();
    assert_eq!(warmline.one_shot("/any").status, 200);
    assert_eq!(server.lost(), 3);
}

#[test]
fn fault_04_if_no_name_server_answers_the_error_is_about_the_name_and_not_about_tcp() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set("timeouts.connect", "100ms");
    let Scene { setup, server, .. } = Scene::new(setup);
    for name in [NAME, "api.test.test"] {
        server.says(name, A, Says::Silence).says(name, Aaaa, Says::Silence);
    }
    let warmline = setup.start();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 504);
    let status = answer.head.field("proxy-status").expect("it says why").to_owned();
    assert!(status.contains("error=dns_timeout"), "{status}");
    let text = answer.text();
    let server = format!("127.0.0.1:{}", server.port());
    for says in ["no name server answered", "within 100ms", NAME, &server, "stage: connect"] {
        assert!(text.contains(says), "{says}: {text}");
    }
    assert!(!text.contains("TCP"), "{text}");
}

#[test]
fn fault_04_the_name_servers_may_change_while_it_runs() {
    let origin = Origin::serving().start();
    let Scene { setup, resolv_conf, server, .. } = Scene::new(Setup::before(&origin));
    server.says(NAME, A, Says::addresses(&["127.0.0.1"])).says(NAME, Aaaa, Says::NoData(None));
    fs::write(&resolv_conf, "# being written\n").unwrap();
    let warmline = setup.start();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("it names no name server"), "{}", answer.text());
    fs::write(&resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    assert_eq!(warmline.one_shot("/any").status, 200);
}

#[test]
fn fault_10_with_one_connection_allowed_addresses_are_tried_one_after_the_other() {
    let origin = Origin::serving().start();
    let silent = Silent::at(SocketAddr::from(([127, 0, 6, 1], origin.port())));
    let names = Names::default().fixed(NAME, &[&silent.address.ip().to_string(), "127.0.0.1"]);
    let setup = Setup::before(&origin).names(&names).set("pool.maxConnections", 1);
    let warmline = setup.set("timeouts.connect", "4s").start();
    assert_eq!(warmline.one_shot("/any").status, 200);
    assert_eq!(warmline.pool("origin").census.total(), 1);
    assert_eq!(Silent::waiting(&[silent.address]), [0]);
}

#[test]
fn fault_30_answers_that_are_parts_of_a_whole_close_no_connection() {
    let addresses: Vec<_> = (1..=12).map(|last| format!("127.0.7.{last}")).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let origin = Origin::serving().addresses(&addresses).start();
    let three = |first: usize| [0, 1, 2].map(|next| addresses[(first * 5 + next) % 12]);
    let turns: Vec<_> = (0..12).map(three).collect();
    let turns: Vec<&[&str]> = turns.iter().map(|turn| &turn[..]).collect();
    let names = Names::default().in_turn(NAME, &turns);
    let warmline = Setup::before(&origin).names(&names).start();
    together(8, |_| {
        let mut client = warmline.connect();
        for _ in 0..50 {
            assert_eq!(client.get(NAME, "/any").status, 200);
        }
    });
    assert_eq!(warmline.closed("moved"), 0);
    let handshakes = origin.record().connections.len();
    assert!(handshakes <= 8, "one for each client at the most: {handshakes}");
}

#[test]
fn fault_31_with_23_of_24_addresses_dead_a_connection_is_made_within_its_limit() {
    let origin = Origin::serving().start();
    let at = |last| Silent::at(SocketAddr::from(([127, 0, 8, last], origin.port())));
    let silent: Vec<_> = (1..=23).map(at).collect();
    let mut addresses: Vec<_> = silent.iter().map(|s| s.address.ip().to_string()).collect();
    addresses.push("127.0.0.1".into());
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let names = Names::default().fixed(NAME, &addresses);
    let setup = Setup::before(&origin).names(&names).set("pool.maxRequests", 1);
    let warmline = setup.start();
    for _ in 0..3 {
        assert_eq!(warmline.one_shot("/any").status, 200);
    }
}

#[test]
fn fault_32_a_name_with_an_underscore_is_dialled() {
    let origin = Origin::serving().start();
    let endpoint = format!("my_service:{}", origin.port());
    let setup = Setup::new().upstream_at("origin", &endpoint).set("hosts", vec![NAME]);
    let setup = setup.set("tls.serverName", NAME);
    let Scene { setup, server, .. } = Scene::new(setup);
    server.says("my_service.test", A, Says::addresses(&["127.0.0.1"]));
    server.says("my_service.test", Aaaa, Says::NoData(None));
    let warmline = setup.start();
    assert_eq!(warmline.one_shot("/any").status, 200);
}
