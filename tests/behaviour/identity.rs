//! Two upstreams at one address that differ in one TLS field share neither connections nor sessions.

use serde_json::json;

use crate::support::{
    authority::{self, Authority, Identity},
    client::Client,
    key_format::KeyFormat,
    names::Names,
    origin::{Handshakes, Origin},
    running::Running,
    setup::{Setup, identity},
};

/// Starts Warmline with two upstreams, `a.test` and `b.test`, at one address; `differ` changes the second.
fn two(origin: &Origin, differ: impl FnOnce(Setup) -> Setup) -> Running {
    let names = Names::default().fixed("api.test", &["127.0.0.1"]);
    let setup = Setup::new().names(&names).upstream("a", origin).set("hosts", json!(["a.test"]));
    differ(setup.upstream("b", origin).set("hosts", json!(["b.test"]))).start()
}

fn get(warmline: &Running, host: &str) {
    let answer = Client::connect(warmline.address()).get(host, "/any");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Asserts that requests to the two upstreams use one connection each, both with full handshakes.
fn separates(origin: &Origin, differ: impl FnOnce(Setup) -> Setup) {
    let warmline = two(origin, differ);
    for host in ["a.test", "b.test", "a.test", "b.test"] {
        get(&warmline, host);
    }
    let record = origin.record();
    let requests: Vec<_> =
        record.connections.iter().map(|connection| connection.requests).collect();
    assert_eq!(requests, [2, 2]);
    assert_eq!(record.handshakes(), Handshakes { full: 2, resumed: 0 });
}

#[test]
fn case_36_another_client_certificate_separates() {
    let other = Authority::shared().client("other");
    for origin in [Origin::serving().start(), Origin::serving().tls12().start()] {
        separates(&origin, |setup| setup.identity(&other));
        let seen: Vec<_> = origin.record().connections.iter().map(carried).collect();
        assert_eq!(seen, [Some(identity().leaf().to_vec()), Some(other.leaf().to_vec())]);
    }
}

fn carried(connection: &crate::support::origin::ConnectionRecord) -> Option<Vec<u8>> {
    connection.handshake.as_ref().and_then(|handshake| handshake.client_certificate.clone())
}

#[test]
fn case_36_another_key_under_the_same_name_separates() {
    let other = Authority::shared().client("warmline");
    separates(&Origin::serving().start(), |setup| setup.identity(&other));
}

#[test]
fn case_36_no_client_certificate_separates() {
    let origin = Origin::serving().clients(origin_asks_for_none()).start();
    separates(&origin, |setup| setup.unset("tls.identity"));
}

fn origin_asks_for_none() -> crate::support::origin::ClientCertificates {
    crate::support::origin::ClientCertificates::NotAsked
}

#[test]
fn case_36_another_trust_separates() {
    let shared = Authority::shared().certificate().clone();
    let other = Authority::new("other").certificate().clone();
    let both = authority::certificates_pem(&[shared, other]);
    for origin in [Origin::serving().start(), Origin::serving().tls12().start()] {
        separates(&origin, |setup| setup.trust_pem(&both));
    }
}

#[test]
fn case_36_another_server_name_separates() {
    let certificate = || Authority::shared().server(&["api.test", "other.test"]);
    let origin = Origin::serving().identity(certificate()).start();
    separates(&origin, |setup| setup.set("tls.serverName", "other.test"));
    let origin = Origin::serving().identity(certificate()).start();
    separates(&origin, |setup| setup.set("tls.serverName", "none"));
}

#[test]
fn case_36_another_verified_name_separates() {
    let certificate = Authority::shared().server(&["api.test", "other.test"]);
    let origin = Origin::serving().identity(certificate).start();
    separates(&origin, |setup| setup.set("tls.verifyName", "other.test"));
}

#[test]
fn case_36_another_version_separates() {
    let origin = Origin::serving().tls12_and_13().start();
    separates(&origin, |setup| setup.set("tls.minVersion", "1.3"));
}

#[test]
fn case_36_two_upstreams_separate_even_when_nothing_differs() {
    separates(&Origin::serving().start(), |setup| setup);
}

#[test]
fn case_36_a_second_upstream_is_not_fooled_by_the_firsts_verified_name() {
    let origin = Origin::serving().start();
    let warmline = two(&origin, |setup| setup.set("tls.verifyName", "other.test"));
    get(&warmline, "a.test");
    let answer = Client::connect(warmline.address()).get("b.test", "/any");
    assert_eq!((answer.status, origin.record().request_count), (502, 1));
}

#[test]
fn case_41_on_an_upstreams_own_port_another_host_does_not_change_the_verified_name() {
    let origin = Origin::serving().start();
    let names = Names::default().fixed("api.test", &["127.0.0.1"]);
    let setup = Setup::new().names(&names).upstream("x", &origin).set("hosts", json!(["x.test"]));
    let setup = setup.set("tls.verifyName", "x.test");
    let setup = setup.upstream("y", &origin).set("hosts", json!(["y.test"])).set("port", 0);
    let warmline = setup.start();
    let own = warmline.addresses()[1];
    assert_eq!(Client::connect(own).get("x.test", "/any").status, 200);
    let record = origin.record();
    assert_eq!(
        record.connections[0].handshake.as_ref().unwrap().server_name.as_deref(),
        Some("api.test")
    );
    assert_eq!(
        record.last_request().head.field("host"),
        Some(format!("y.test:{}", origin.port()).as_str())
    );
}

fn shows(set: impl FnOnce(Setup) -> Setup, expected: &Identity) {
    let origin = Origin::serving().start();
    let warmline = set(Setup::before(&origin)).start();
    assert_eq!(warmline.one_shot("/any").status, 200);
    assert_eq!(carried(&origin.record().connections[0]), Some(expected.leaf().to_vec()));
}

fn in_files(mut setup: Setup, shown: &Identity, format: KeyFormat) -> Setup {
    let certificate = setup.file("shown.crt", &shown.chain_pem());
    let key = setup.file("shown.key", &shown.key_pem(format));
    setup.set("tls.identity", json!({ "certificate": certificate, "key": key }))
}

#[test]
fn the_key_may_be_pkcs8_pkcs1_or_sec1() {
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let rsa = Authority::shared().client_for("rsa", rsa);
    let ec = Authority::shared().client("ec");
    shows(|setup| in_files(setup, &rsa, KeyFormat::Pkcs8), &rsa);
    shows(|setup| in_files(setup, &rsa, KeyFormat::Pkcs1), &rsa);
    shows(|setup| in_files(setup, &ec, KeyFormat::Pkcs8), &ec);
    shows(|setup| in_files(setup, &ec, KeyFormat::Sec1), &ec);
}

#[test]
fn key_and_chain_may_be_one_file() {
    let shown = Authority::shared().intermediate("middle").client("bundled");
    let pem = format!("{}{}", shown.key_pem(KeyFormat::Pkcs8), shown.chain_pem());
    let set = |mut setup: Setup| {
        let bundle = setup.file("bundle.pem", &pem);
        setup.set("tls.identity", json!({ "bundle": bundle }))
    };
    shows(set, &shown);
}
