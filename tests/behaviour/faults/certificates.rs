//! Chains and keys as they occur in the field: accepted where OpenSSL accepts them and verification stays complete; all
//! others are refused in one sentence that says what to do.

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, GeneralSubtree, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};

use crate::support::{
    authority::{
        self, Authority, Identity, authority_params, certificates_pem, client_params, only_name,
        server_params,
    },
    log_lines,
    origin::{ClientCertificates, NAME, Origin},
    setup::Setup,
};

/// Returns status and text of the answer to a request, from an origin that shows this chain, with this trust in PEM.
fn answer(chain: Identity, trust: &str) -> (u16, String) {
    let origin = Origin::serving().identity(chain).start();
    let warmline = Setup::before(&origin).trust_pem(trust).start();
    let answer = warmline.one_shot("/any");
    let requests = origin.record().request_count;
    assert_eq!(requests, usize::from(answer.status == 200), "refused before a request is sent");
    (answer.status, answer.text())
}

fn shared_trust() -> String {
    certificates_pem(&[Authority::shared().certificate().clone()])
}

fn believed(chain: Identity, trust: &str) {
    let (status, text) = answer(chain, trust);
    assert_eq!(status, 200, "{text}");
}

/// Asserts that the chain is refused with 502, and that the text contains all of these words and no notation of source
/// code.
fn refused(chain: Identity, trust: &str, says: &[&str]) {
    let (status, text) = answer(chain, trust);
    assert_eq!(status, 502, "{text}");
    assert!(says.iter().all(|words| text.contains(words)), "{says:?} in {text}");
    assert_plain(&text);
}

/// Asserts that a text contains neither notation of source code nor a list of object identifiers.
fn assert_plain(text: &str) {
    for sign in [
        "{ ",
        "::",
        "Error(",
        "Context",
        "Other(",
        "[1, 2",
        "invalid peer certificate",
        "OtherError",
    ] {
        assert!(!text.contains(sign), "{sign} in {text}");
    }
}

/// Returns a critical extension with the object identifier 2.5.29.`last` (id-ce).
fn critical(last: u64, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, last], content.to_vec());
    extension.set_criticality(true);
    extension
}

/// Returns a critical extension certificatePolicies with anyPolicy.
fn critical_policy() -> CustomExtension {
    critical(32, &[0x30, 8, 0x30, 6, 6, 4, 0x55, 0x1d, 0x20, 0])
}

fn middle_with(change: impl FnOnce(&mut CertificateParams)) -> Authority {
    let mut params = authority_params("middle");
    change(&mut params);
    Authority::shared().intermediate_from(params)
}

fn pem_of(authority: &Authority) -> String {
    certificates_pem(&[authority.certificate().clone()])
}

#[test]
fn fault_14_a_ca_whose_name_is_spelt_in_another_type_of_string_is_the_same_ca() {
    let root = Authority::new("An Authority  of the Tests");
    for value in [
        DnValue::PrintableString("An Authority of the Tests".try_into().unwrap()),
        DnValue::Utf8String("AN AUTHORITY of the tests ".into()),
        DnValue::BmpString("An Authority of the Tests".try_into().unwrap()),
    ] {
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, value);
        believed(root.called(name).server(&[NAME]), &pem_of(&root));
    }
    let mut other = DistinguishedName::new();
    other.push(DnType::CommonName, "Another Authority");
    refused(
        root.called(other).server(&[NAME]),
        &pem_of(&root),
        &["was issued by CN=Another Authority"],
    );
    let mut same = DistinguishedName::new();
    same.push(DnType::CommonName, "AN AUTHORITY OF THE TESTS");
    let forger = Authority::new("forger").called(same);
    refused(forger.server(&[NAME]), &pem_of(&root), &["certificate 1"]);
}

#[test]
fn fault_14_a_ca_in_another_spelling_is_found_beside_one_with_another_key_in_the_exact_spelling() {
    let named = |text: &str| {
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, text);
        name
    };
    let root = Authority::new("An Authority of Two Keys");
    let renewed = Authority::new("AN AUTHORITY OF TWO KEYS");
    let trust = format!("{}{}", pem_of(&renewed), pem_of(&root));
    believed(root.called(named("AN AUTHORITY OF TWO KEYS")).server(&[NAME]), &trust);
    believed(renewed.server(&[NAME]), &trust);
    let forger = Authority::new("AN AUTHORITY OF TWO KEYS");
    refused(forger.server(&[NAME]), &trust, &["made again with a new key"]);
}

/// The server omits its intermediate certificate and sends a certificate that issued nothing.
#[test]
fn fault_14_a_fault_of_a_certificate_that_issued_nothing_is_not_called_the_reason() {
    let middle = Authority::shared().intermediate("middle");
    let missing = ["certificate 1 (CN=a server of the tests", "was issued by CN=middle"];
    let leaf = || {
        let mut params = server_params(&[NAME]);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        middle.issue(&params).without_intermediates()
    };
    let twice = leaf();
    let same = twice.leaf().clone();
    refused(twice.and(&same), &shared_trust(), &missing);
    refused(leaf().and(leaf().leaf()), &shared_trust(), &missing);
    let mut policy = server_params(&[NAME]);
    policy.custom_extensions.push(critical_policy());
    refused(leaf().and(middle.issue(&policy).leaf()), &shared_trust(), &missing);
    let mut named_like_the_middle = authority_params("middle");
    named_like_the_middle.is_ca = rcgen::IsCa::ExplicitNoCa;
    let stray = Authority::shared().issue(&named_like_the_middle);
    refused(leaf().and(stray.leaf()), &shared_trust(), &missing);
    believed(leaf().and(&same).and(middle.certificate()), &shared_trust());
}

#[test]
fn fault_14_an_intermediate_that_is_named_in_another_spelling_is_told_with_the_remedy() {
    let middle = Authority::shared().intermediate("The Middle");
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "THE MIDDLE");
    let mut chain = middle.called(name).server(&[NAME]);
    chain.chain[1] = middle.certificate().clone();
    let says =
        ["certificate 1 (CN=", "certificate 2 (CN=The Middle", "put certificate 2 into tls.trust"];
    refused(chain.again(), &shared_trust(), &says);
    believed(chain, &pem_of(&middle));
}

#[test]
fn fault_14_a_ca_whose_key_usage_does_not_let_it_sign_is_refused() {
    for usages in [vec![KeyUsagePurpose::CrlSign], vec![KeyUsagePurpose::DigitalSignature]] {
        let middle = middle_with(|params| params.key_usages = usages);
        let says = ["certificate 2 (CN=middle", "keyUsage lacks keyCertSign"];
        refused(middle.server(&[NAME]), &shared_trust(), &says);
    }
    believed(middle_with(|params| params.key_usages.clear()).server(&[NAME]), &shared_trust());
}

#[test]
fn fault_14_a_critical_policy_is_named_with_its_certificate_and_trusting_that_one_helps() {
    let middle = middle_with(|params| params.custom_extensions.push(critical_policy()));
    let says = [
        "certificate 2 (CN=middle",
        "certificatePolicies",
        "put this very certificate into tls.trust",
    ];
    refused(middle.server(&[NAME]), &shared_trust(), &says);
    believed(middle.server(&[NAME]), &pem_of(&middle));
    let mut params = server_params(&[NAME]);
    params.custom_extensions.push(critical_policy());
    refused(
        Authority::shared().issue(&params),
        &shared_trust(),
        &["certificate 1 (CN=", "not critical"],
    );
}

#[test]
fn fault_14_constraints_of_a_kind_that_is_not_checked_are_told_and_trusting_the_leaf_helps() {
    let mut tests = DistinguishedName::new();
    tests.push(DnType::CommonName, "a server of the tests");
    let middle = middle_with(|params| {
        let permitted_subtrees = vec![GeneralSubtree::DirectoryName(tests)];
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
    });
    let says = [
        "certificate 2 (CN=middle",
        "directory names",
        "put the server's own certificate into tls.trust",
    ];
    refused(middle.server(&[NAME]), &shared_trust(), &says);
    let leaf = middle.server(&[NAME]);
    let pem = certificates_pem(&[leaf.leaf().clone()]);
    believed(leaf, &pem);
    let middle = middle_with(|params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("other.test".into())];
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
    });
    refused(
        middle.server(&[NAME]),
        &shared_trust(),
        &["certificate 2 (CN=middle", "carries one outside"],
    );
}

#[test]
fn fault_14_a_server_certificate_that_is_marked_as_a_ca_is_believed_where_it_is_trusted_itself() {
    let mut params = server_params(&[NAME]);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let says = [
        "certificate 1 (CN=a server of the tests",
        "CA:TRUE",
        "put this very certificate into tls.trust",
    ];
    let chain = Authority::shared().issue(&params);
    let pem = certificates_pem(&[chain.leaf().clone()]);
    refused(chain.again(), &shared_trust(), &says);
    believed(chain, &pem);
}

#[test]
fn fault_14_each_refusal_says_which_certificate_and_what_is_wrong() {
    let old = middle_with(|params| *params = authority::expired(params.clone()));
    refused(
        old.server(&[NAME]),
        &shared_trust(),
        &["certificate 2 (CN=middle", "expired on 2020-01-01"],
    );
    let early = middle_with(|params| *params = authority::not_yet_valid(params.clone()));
    refused(
        early.server(&[NAME]),
        &shared_trust(),
        &["certificate 2 (CN=middle", "not valid before 2200"],
    );
    let no_ca = middle_with(|params| params.is_ca = rcgen::IsCa::ExplicitNoCa);
    refused(
        no_ca.server(&[NAME]),
        &shared_trust(),
        &["certificate 2 (CN=middle", "not marked as a CA"],
    );
    let narrow = middle_with(|params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    });
    let deep = narrow.intermediate("deep").server(&[NAME]);
    refused(deep, &shared_trust(), &["certificate 3 (CN=middle", "pathLenConstraint"]);
    let clients = middle_with(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    refused(
        clients.server(&[NAME]),
        &shared_trust(),
        &["certificate 2 (CN=middle", "lacks serverAuth"],
    );
    let missing =
        Authority::shared().intermediate("middle").server(&[NAME]).without_intermediates();
    refused(
        missing,
        &shared_trust(),
        &["certificate 1 (CN=a server of the tests", "was issued by CN=middle"],
    );
    let alone = Identity::self_signed(&[NAME], false);
    refused(alone, &shared_trust(), &["signed itself", "put this very certificate into tls.trust"]);
    let mut same = DistinguishedName::new();
    same.push(DnType::CommonName, "Warmline tests");
    let again = Authority::new("another").called(same).server(&[NAME]);
    refused(again, &shared_trust(), &["made again with a new key"]);
}

#[test]
fn fault_19_a_server_with_a_spiffe_id_alone_is_told_what_helps() {
    let uri = SanType::URI("spiffe://example.org/api".try_into().unwrap());
    let chain = Authority::shared().issue(&only_name(uri.clone()));
    let says = [
        "the URI spiffe://example.org/api alone",
        "no SPIFFE IDs",
        "have it issued with a DNS name too",
    ];
    refused(chain, &shared_trust(), &says);
    let mut params = only_name(uri);
    params.subject_alt_names.push(authority::dns_name("api.internal.test"));
    let chain = || Authority::shared().issue(&params);
    refused(
        chain(),
        &shared_trust(),
        &["it is for api.internal.test; set tls.verifyName to one of these"],
    );
    let origin = Origin::serving().identity(chain()).start();
    let warmline = Setup::before(&origin).set("tls.verifyName", "api.internal.test").start();
    assert_eq!(warmline.one_shot("/any").status, 200, "the advice works");
    let wildcard = Authority::shared().issue(&only_name(authority::dns_name("*.internal.test")));
    refused(wildcard, &shared_trust(), &["*.internal.test", "one label in place of the asterisk"]);
}

#[test]
fn fault_14_an_expired_ca_in_trust_is_told_on_the_page_and_in_the_log_and_believed() {
    log_lines::catch();
    let old = Authority::made_of(authority::expired(authority_params("an authority of old")));
    let origin = Origin::serving().start();
    let trust = format!("{}{}", shared_trust(), pem_of(&old));
    let warmline = Setup::before(&origin).trust_pem(&trust).start();
    assert_eq!(warmline.one_shot("/any").status, 200);
    for page in ["/certificates", "/"] {
        let page = warmline.admin(page).text();
        assert_eq!(page.matches("believed all the same").count(), 1, "{page}");
    }
    let told = "certificate 2 (CN=an authority of old) expired on 2020-01-01 00:00:00 UTC; it is believed all the same";
    assert_eq!(log_lines::with_reason(told), 1);
    let origin = Origin::serving().identity(old.server(&[NAME])).start();
    assert_eq!(Setup::before(&origin).trust_pem(&trust).start().one_shot("/any").status, 200);
}

#[test]
fn fault_14_an_expired_server_certificate_in_trust_is_not_called_believed() {
    log_lines::catch();
    let params = authority::expired(authority::common_name_only("a server of old"));
    let old = Identity::self_signed_from(&params, authority::key());
    let trust = format!("{}{}", shared_trust(), certificates_pem(&[old.leaf().clone()]));
    refused(old.again(), &trust, &["certificate 1 (CN=a server of old", "expired on 2020-01-01"]);
    let told = "certificate 2 (CN=a server of old) expired on 2020-01-01 00:00:00 UTC; a server that shows it is refused";
    assert_eq!(log_lines::with_reason(told), 1);
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).trust_pem(&trust).start();
    for page in ["/certificates", "/"] {
        let page = warmline.admin(page).text();
        assert_eq!(page.matches("and a server that shows it is refused").count(), 1, "{page}");
        assert!(!page.contains("believed all the same"), "{page}");
    }
}

#[test]
fn fault_14_a_critical_extension_is_told_by_its_name() {
    for (oid, name) in [
        (&[1, 3, 6, 1, 5, 5, 7, 1, 24][..], "must staple"),
        (&[1, 3, 6, 1, 4, 1, 11129, 2, 4, 3], "the poison of a precertificate"),
        (&[2, 5, 29, 46], "freshestCRL"),
        (&[2, 5, 29, 54], "inhibitAnyPolicy"),
        (&[1, 2, 3, 4], "1.2.3.4"),
    ] {
        let mut extension = CustomExtension::from_oid_content(oid, vec![5, 0]);
        extension.set_criticality(true);
        let mut params = server_params(&[NAME]);
        params.custom_extensions.push(extension);
        refused(Authority::shared().issue(&params), &shared_trust(), &[name, "certificate 1"]);
    }
}

/// Returns the text of the answer to a request, from an origin that asks for client certificates in this way; `set` may
/// give Warmline an identity or take it away.
fn asked(clients: ClientCertificates, tls12: bool, set: impl FnOnce(Setup) -> Setup) -> String {
    let origin = Origin::serving().clients(clients);
    let origin = if tls12 { origin.tls12() } else { origin }.start();
    let warmline = set(Setup::before(&origin)).start();
    let answer = warmline.one_shot("/any");
    let text = answer.text();
    assert_eq!((answer.status, origin.record().request_count), (502, 0), "{text}");
    assert_plain(&text);
    text
}

#[test]
fn fault_15_a_certificate_that_was_not_sent_is_not_called_refused() {
    let shared = || Authority::shared().certificate().clone();
    for tls12 in [true, false] {
        let text = asked(ClientCertificates::RequiredEd25519(shared()), tls12, |setup| setup);
        assert!(text.contains("asked for a client certificate and got none"), "{text}");
        assert!(text.contains("no signature that our key (tls.identity) can make"), "{text}");
        assert!(!text.contains("refused our client certificate"), "{text}");
        let text =
            asked(ClientCertificates::Required(shared()), tls12, |s| s.unset("tls.identity"));
        assert!(text.contains("as none is configured (set tls.identity)"), "{text}");
        assert!(!text.contains("refused our"), "{text}");
    }
}

#[test]
fn fault_15_a_certificate_that_was_sent_and_refused_is_told_with_the_name_of_the_alert() {
    let foreign = Authority::new("foreign").certificate().clone();
    for tls12 in [true, false] {
        let text = asked(ClientCertificates::Required(foreign.clone()), tls12, |setup| setup);
        assert!(
            text.contains(
                "refused our client certificate (tls.identity) with the alert unknown_ca: "
            ),
            "{text}"
        );
    }
}

#[test]
fn fault_15_the_page_says_which_certificates_were_really_shown() {
    let says = |clients: ClientCertificates| {
        let origin = Origin::serving().clients(clients).start();
        let warmline = Setup::before(&origin).start();
        warmline.one_shot("/any");
        warmline.admin("/certificates").text()
    };
    let shared = || Authority::shared().certificate().clone();
    let page = says(ClientCertificates::Required(shared()));
    assert!(page.contains("shown to origin"), "{page}");
    let page = says(ClientCertificates::NotAsked);
    assert!(page.contains("not asked for so far by origin"), "{page}");
    let page = says(ClientCertificates::RequiredEd25519(shared()));
    assert!(
        page.contains(
            "asked for and not shown, as its key can make no signature that is taken, by origin"
        ),
        "{page}"
    );
}

#[test]
fn fault_05_of_two_certificates_in_one_file_the_valid_one_is_shown() {
    let key = KeyPair::generate().unwrap();
    let same = || KeyPair::try_from(key.serialize_der()).unwrap();
    let good = Authority::shared().intermediate("clients");
    let valid = good.client_for("valid", same());
    let mut old = client_params("old");
    old = authority::expired(old);
    let old = Authority::shared().issue_for(&old, same());
    let origin = Origin::serving().start();
    let mut setup = Setup::before(&origin).unset("tls.identity");
    let text = format!(
        "{}{}{}",
        certificates_pem(&old.chain),
        certificates_pem(&[valid.chain[1].clone(), valid.chain[0].clone()]),
        key.serialize_pem()
    );
    let bundle = setup.file("bundle.pem", &text);
    let warmline = setup.set("tls.identity.bundle", bundle).start();
    assert_eq!(warmline.one_shot("/any").status, 200);
    let shown = origin.record().connections[0].handshake.clone().unwrap().client_certificate;
    assert_eq!(shown.as_deref(), Some(&valid.chain[0][..]));
}
