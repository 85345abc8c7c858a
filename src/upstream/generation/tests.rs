//! The parts that a generation shares with the one before.

use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::*;
use crate::{
    connect::{EndpointHost, HostPort},
    tls::{self, MinVersion},
    upstream::{Upstream, fixture},
};

fn trust() -> Arc<Trust> {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["a.example".into()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    Arc::new(Trust::from_pem(certificate.as_bytes()).unwrap())
}

fn endpoint(name: &str) -> HostPort {
    HostPort { host: EndpointHost::Name(name.into()), port: 443 }
}

fn settings() -> Settings {
    let name = ServerName::try_from("a.example").unwrap();
    fixture::settings("a", tls::Settings::new(None, name, trust(), None))
}

/// The parts of a generation that the next one may share.
#[derive(Debug, PartialEq, Eq)]
enum Shares {
    /// The generation is the same.
    All,
    Target,
    Endpoint,
    Nothing,
}

/// Changes an upstream's settings, and returns what the generation after the change shares with the one before.
fn shares_after(change: impl FnOnce(&mut Settings)) -> Shares {
    let old = settings();
    let mut new = old.clone();
    change(&mut new);
    let upstream = Upstream::new(Arc::new(old), 1, None, Arc::default()).unwrap();
    let before = upstream.generation.share();
    let change = upstream.prepare(Arc::new(new)).unwrap();
    upstream.apply(change, std::time::Instant::now());
    shared(&before, &upstream.generation.share())
}

fn shared(before: &Arc<Generation>, after: &Arc<Generation>) -> Shares {
    if Arc::ptr_eq(before, after) {
        return Shares::All;
    }
    assert_eq!(after.number, before.number + 1);
    if Arc::ptr_eq(&before.target, &after.target) {
        Shares::Target
    } else if Arc::ptr_eq(&before.target.endpoint, &after.target.endpoint) {
        Shares::Endpoint
    } else {
        Shares::Nothing
    }
}

#[test]
fn a_pool_number_begins_no_generation() {
    assert_eq!(shares_after(|new| new.pool.max_connections = 2), Shares::All);
}

#[test]
fn another_case_of_field_names_keeps_the_target() {
    assert_eq!(shares_after(|new| new.header_case = HeaderCase::Kept), Shares::Target);
}

#[test]
fn other_tls_settings_keep_the_endpoint_alone() {
    assert_eq!(shares_after(|new| new.tls.trust = trust()), Shares::Endpoint);
    assert_eq!(shares_after(|new| new.tls.min_version = MinVersion::Tls13), Shares::Endpoint);
    let other = ServerName::try_from("b.example").unwrap();
    assert_eq!(shares_after(|new| new.tls.verify_name = other), Shares::Endpoint);
}

#[test]
fn another_endpoint_begins_a_generation_that_shares_nothing() {
    assert_eq!(shares_after(|new| new.endpoint = endpoint("b.example")), Shares::Nothing);
}

#[test]
fn a_drain_keeps_the_target() {
    let upstream = Upstream::new(Arc::new(settings()), 1, None, Arc::default()).unwrap();
    let before = upstream.generation.share();
    upstream.replace_connections(std::time::Instant::now());
    assert_eq!(shared(&before, &upstream.generation.share()), Shares::Target);
}
