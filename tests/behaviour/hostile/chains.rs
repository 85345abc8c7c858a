//! Certificate chains that are built to cost time: refused within webpki's budget, while other requests go on.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use rcgen::{GeneralSubtree, NameConstraints};

use crate::support::{
    authority::{Authority, Identity, authority_params, server_params},
    client::Response,
    origin::{ClientCertificates, NAME, Origin},
    setup::Setup,
};

/// Returns the answer to a request to an upstream with this chain; meanwhile requests to another upstream have to be
/// answered.
fn answer_to(chain: Identity) -> Response {
    let evil = Origin::serving().identity(chain).clients(ClientCertificates::NotAsked).start();
    let good = Origin::serving().start();
    let setup = Setup::before(&evil).set("hosts", vec![NAME]);
    let warmline = setup.upstream("good", &good).set("hosts", vec!["good.test"]).start();
    let over = AtomicBool::new(false);
    let answer = thread::scope(|scope| {
        let bystander = scope.spawn(|| {
            let mut client = warmline.connect();
            let mut answers = 0;
            while !over.load(Relaxed) || answers == 0 {
                assert_eq!(client.get("good.test", "/any").text(), "hello\n");
                answers += 1;
            }
            answers
        });
        let answer = warmline.one_shot("/any");
        over.store(true, Relaxed);
        assert!(bystander.join().expect("the other upstream answers") > 0);
        answer
    });
    assert_eq!(evil.record().request_count, 0, "no request byte is sent");
    warmline.wait_for_pool("every place's return", |pool| pool.census.total() == 0);
    answer
}

fn assert_refused(chain: Identity, reason: &str) {
    let answer = answer_to(chain);
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains(reason), "{}", answer.text());
    assert!(answer.text().len() < 4096, "{} bytes of text", answer.text().len());
}

#[test]
fn case_26_a_chain_of_more_bytes_than_a_handshake_message_may_have_is_refused() {
    let chain = Authority::shared().intermediate("one of many").server(&[NAME]).padded_to(200);
    let bytes: usize = chain.chain.iter().map(|certificate| certificate.len()).sum();
    assert!(bytes > 0xffff, "{bytes} bytes");
    assert_refused(chain, "larger than 64 KiB");
}

#[test]
fn case_26_certificates_that_all_could_have_signed_each_other_are_refused() {
    // All certificates have the same name, so that every pair has to be tried, in every order.
    let root = Authority::new("the same");
    let mut chain = root.intermediate("the same").server(&[NAME]);
    chain.chain.extend((1..120).map(|_| root.intermediate("the same").certificate().clone()));
    let bytes: usize = chain.chain.iter().map(|certificate| certificate.len()).sum();
    assert!(bytes < 0xffff, "{bytes} bytes: it is not webpki that refuses");
    assert_refused(chain, "takes too much work to verify");
}

#[test]
fn case_26_a_chain_that_is_too_deep_is_refused() {
    let deep = (0..20).map(|depth| format!("level {depth}"));
    let issuer = deep.fold(Authority::new("root of a deep one"), |a, name| a.intermediate(&name));
    assert_refused(issuer.server(&[NAME]), "its chain is too long");
}

#[test]
fn case_26_thousands_of_names_under_thousands_of_constraints_are_refused() {
    let names: Vec<String> = (0..2_000).map(|n| format!("n{n}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut params = authority_params("constrains");
    let permitted = (0..1_000).map(|n| GeneralSubtree::DnsName(format!("c{n}.example")));
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("test".into())],
        excluded_subtrees: permitted.collect(),
    });
    let constrained = Authority::shared().intermediate_from(params);
    let mut server = server_params(&names);
    server.subject_alt_names.push(crate::support::authority::dns_name(NAME));
    assert_refused(constrained.issue(&server), "takes too much work to verify");
}

#[test]
fn case_26_thousands_of_names_are_read_and_a_refusal_tells_a_few_of_them() {
    let names: Vec<String> = (0..3_000).map(|n| format!("n{n}.test")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_refused(Authority::shared().server(&names), "the certificate is not for");
    names.push(NAME);
    assert_eq!(answer_to_all(&names).text(), "hello\n");
}

fn answer_to_all(names: &[&str]) -> Response {
    let origin = Origin::serving().identity(Authority::shared().server(names)).start();
    Setup::before(&origin).start().one_shot("/any")
}
