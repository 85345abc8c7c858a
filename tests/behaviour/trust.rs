//! Trust in upstreams: the name is always verified, and nothing is sent to an upstream that is not verified.

use rcgen::SanType;

use crate::support::{
    authority::{self, Authority, Identity, dns_name, only_name, server_params},
    client::Response,
    origin::{self, ClientCertificates, Origin},
    setup::Setup,
};

/// Asserts that an origin with this certificate is refused: one handshake, no request byte, and an answer that says
/// why.
fn refused(identity: Identity, set: impl FnOnce(Setup) -> Setup) -> Response {
    let origin = Origin::serving().identity(identity).start();
    let warmline = set(Setup::before(&origin)).start();
    let answer = warmline.one_shot("/secret");
    let record = origin.record();
    assert_eq!((answer.status, record.request_count), (502, 0), "{}", answer.text());
    assert_eq!(record.connections.len(), 1, "a failed verification is not tried again");
    let status = answer.head.field("proxy-status").expect("the reason for machines");
    assert!(status.contains("; error=tls_certificate_error"), "{status}");
    assert_eq!(warmline.metric("warmline_tls_verify_failures_total", &[]), 1);
    answer
}

fn refused_by_default(identity: Identity) -> Response {
    refused(identity, |setup| setup)
}

/// Asserts that a request to an origin with this certificate succeeds.
fn believed(identity: Identity, set: impl FnOnce(Setup) -> Setup) {
    let origin = Origin::serving().identity(identity).start();
    let warmline = set(Setup::before(&origin)).start();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn assert_says(answer: &Response, words: &[&str]) {
    let text = answer.text();
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text:?}");
}

#[test]
fn case_39_a_wrong_name_is_refused_and_both_names_are_told() {
    let answer = refused_by_default(Authority::shared().server(&["other.test", "third.test"]));
    assert_says(&answer, &["api.test", "other.test", "third.test", "verifyName"]);
}

#[test]
fn case_39_a_wrong_address_is_refused() {
    let identity = Authority::shared().server(&["127.0.0.9"]);
    let answer = refused(identity, |setup| setup.set("tls.verifyName", "127.0.0.1"));
    assert_says(&answer, &["127.0.0.1", "127.0.0.9"]);
}

#[test]
fn case_39_a_name_in_the_subject_alone_is_refused_and_the_remedy_is_told() {
    let params = authority::common_name_only(origin::NAME);
    let answer = refused_by_default(Authority::shared().issue(&params));
    assert_says(&answer, &["api.test", "subject alternative name"]);
}

#[test]
fn case_39_an_expired_certificate_is_refused() {
    let params = authority::expired(server_params(&[origin::NAME]));
    assert_says(&refused_by_default(Authority::shared().issue(&params)), &["expired", "2020"]);
}

#[test]
fn case_39_a_certificate_that_is_not_yet_valid_is_refused() {
    let params = authority::not_yet_valid(server_params(&[origin::NAME]));
    assert_says(&refused_by_default(Authority::shared().issue(&params)), &["not", "valid", "2200"]);
}

#[test]
fn case_39_a_certificate_of_another_authority_is_refused() {
    let answer = refused_by_default(Authority::new("foreign").server(&[origin::NAME]));
    assert_says(&answer, &["it does not lead to a certificate in tls.trust"]);
}

#[test]
fn without_a_trust_of_its_own_a_refusal_speaks_of_the_systems_roots_and_names_the_remedy() {
    let identity = Authority::shared().server(&[origin::NAME]);
    let answer = refused(identity, |setup| setup.unset("tls.trust"));
    assert_says(&answer, &["the system's roots", "set tls.trust to the CA"]);
}

#[test]
fn case_39_a_chain_without_its_intermediate_is_refused() {
    let middle = Authority::shared().intermediate("middle");
    let answer = refused_by_default(middle.server(&[origin::NAME]).without_intermediates());
    assert_says(&answer, &["trust"]);
}

#[test]
fn a_chain_with_its_intermediate_is_believed() {
    believed(Authority::shared().intermediate("middle").server(&[origin::NAME]), |setup| setup);
}

#[test]
fn case_39_a_refused_upstream_is_dialled_once_a_request() {
    let origin = Origin::serving().identity(Authority::shared().server(&["other.test"])).start();
    let warmline = Setup::before(&origin).set("retries.max", 10).start();
    for _ in 0..5 {
        assert_eq!(warmline.one_shot("/any").status, 502);
    }
    assert_eq!(origin.record().connections.len(), 5);
}

#[test]
fn the_name_is_verified_without_sni_too() {
    let wrong = Authority::shared().server(&["other.test"]);
    refused(wrong, |setup| setup.set("tls.serverName", "none"));
}

#[test]
fn without_sni_none_is_sent_and_the_endpoints_name_is_verified() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set("tls.serverName", "none").start();
    assert_eq!(warmline.one_shot("/any").status, 200);
    let record = origin.record();
    assert_eq!(record.connections[0].handshake.as_ref().unwrap().server_name, None);
}

#[test]
fn sni_and_the_verified_name_may_differ() {
    let origin = Origin::serving().identity(Authority::shared().server(&["inner.test"])).start();
    let setup = Setup::before(&origin).set("tls.serverName", "outer.test");
    let warmline = setup.set("tls.verifyName", "inner.test").start();
    assert_eq!(warmline.one_shot("/any").status, 200);
    let seen = origin.record().connections[0].handshake.clone().unwrap().server_name;
    assert_eq!(seen.as_deref(), Some("outer.test"));
}

#[test]
fn if_sni_and_the_verified_name_differ_a_certificate_for_the_sni_is_refused() {
    refused(Authority::shared().server(&["outer.test"]), |setup| {
        setup.set("tls.serverName", "outer.test").set("tls.verifyName", "inner.test")
    });
}

#[test]
fn an_address_can_be_verified() {
    believed(Authority::shared().server(&["127.0.0.1"]), |setup| {
        setup.set("tls.verifyName", "127.0.0.1")
    });
}

#[test]
fn a_servers_own_certificate_is_believed_with_and_without_the_mark_of_an_authority() {
    for authority in [true, false] {
        let identity = Identity::self_signed(&[origin::NAME], authority);
        let pem = identity.chain_pem();
        believed(identity, |setup| setup.trust_pem(&pem));
    }
}

#[test]
fn a_servers_own_certificate_must_carry_the_name_too() {
    for authority in [true, false] {
        let identity = Identity::self_signed(&["other.test"], authority);
        let pem = identity.chain_pem();
        refused(identity, |setup| setup.trust_pem(&pem));
    }
}

#[test]
fn a_servers_own_certificate_must_be_valid_now_too() {
    let key = authority::key();
    let params = authority::expired(server_params(&[origin::NAME]));
    let identity = Identity::self_signed_from(&params, key);
    let pem = identity.chain_pem();
    refused(identity, |setup| setup.trust_pem(&pem));
}

#[test]
fn another_self_signed_certificate_of_the_same_name_is_refused() {
    let trusted = Identity::self_signed(&[origin::NAME], false).chain_pem();
    let shown = Identity::self_signed(&[origin::NAME], false);
    refused(shown, |setup| setup.trust_pem(&trusted));
}

fn refuses_name(name: SanType) {
    refused_by_default(Authority::shared().issue(&only_name(name)));
}

#[test]
fn case_40_a_name_with_a_nul_inside_is_refused() {
    refuses_name(dns_name("api.test\0.evil.example"));
}

#[test]
fn case_40_a_mail_address_alone_is_refused() {
    refuses_name(SanType::Rfc822Name("postmaster@api.test".try_into().unwrap()));
}

#[test]
fn case_40_a_uri_alone_is_refused() {
    refuses_name(SanType::URI("https://api.test/".try_into().unwrap()));
}

#[test]
fn case_40_a_bare_star_is_refused() {
    refuses_name(dns_name("*"));
}

#[test]
fn case_40_a_star_within_a_label_is_refused() {
    refuses_name(dns_name("a*.test"));
}

#[test]
fn case_40_a_star_stands_for_one_label_not_for_two() {
    let identity = || Authority::shared().issue(&only_name(dns_name("*.foo.test")));
    refused(identity(), |setup| setup.set("tls.serverName", "a.b.foo.test"));
    refused(identity(), |setup| setup.set("tls.serverName", "foo.test"));
    believed(identity(), |setup| setup.set("tls.serverName", "a.foo.test"));
}

#[test]
fn case_40_the_text_of_an_address_in_a_dns_name_is_refused() {
    let identity = Authority::shared().issue(&only_name(dns_name("127.0.0.1")));
    refused(identity, |setup| setup.set("tls.verifyName", "127.0.0.1"));
}

#[test]
fn case_40_a_certificate_that_is_not_for_servers_is_refused() {
    let mut params = server_params(&[origin::NAME]);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    refused_by_default(Authority::shared().issue(&params));
}

/// Asserts that an origin that refuses Warmline's certificate gives a 502 that names `tls.identity`, after one attempt.
fn identity_refused(origin: &Origin, set: impl FnOnce(Setup) -> Setup) -> Response {
    let warmline = set(Setup::before(origin)).start();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 502);
    assert_says(&answer, &["tls.identity"]);
    let status = answer.head.field("proxy-status").expect("the reason for machines");
    assert!(status.contains("; error=tls_alert_received"), "{status}");
    let record = origin.record();
    assert_eq!((record.connections.len(), record.request_count), (1, 0));
    assert_eq!(warmline.metric("warmline_tls_handshakes_total", &[("result", "failed")]), 1);
    answer
}

#[test]
fn case_42_an_upstream_that_wants_a_certificate_and_gets_none_is_told_so() {
    for origin in [Origin::serving().start(), Origin::serving().tls12().start()] {
        identity_refused(&origin, |setup| setup.unset("tls.identity"));
    }
}

#[test]
fn case_42_an_upstream_that_refuses_our_certificate_is_told_so() {
    let foreign = Authority::new("foreign");
    let tls13 = Origin::serving().requires(&foreign).start();
    let tls12 = Origin::serving().requires(&foreign).tls12().start();
    for origin in [tls13, tls12] {
        identity_refused(&origin, |setup| setup);
    }
}

#[test]
fn case_42_a_post_is_not_sent_again_when_our_certificate_is_refused() {
    let origin = Origin::serving().requires(&Authority::new("foreign")).start();
    let warmline = Setup::before(&origin).start();
    assert_eq!(warmline.connect().post(origin::NAME, "/any", "body").status, 502);
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn an_upstream_that_asks_for_no_certificate_is_shown_none() {
    let origin = Origin::serving().clients(ClientCertificates::NotAsked).start();
    let warmline = Setup::before(&origin).unset("tls.identity").start();
    assert_eq!(warmline.one_shot("/any").status, 200);
    assert_eq!(origin.record().connections[0].handshake.clone().unwrap().client_certificate, None);
}
