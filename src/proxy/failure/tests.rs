//! Tests of the table of failures and of the answers that come of it.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::AlertDescription;

use super::*;
use crate::{
    connect::{ConnectError, NameFault, meter::Refusal},
    pool::Rejection,
    tls::{CertificateUse, VerifyFailure},
};

/// The expected rows, a line for each failure: side, stage, status and `Proxy-Status` type of its answer, fields that it
/// has beside those, and the text.
const TABLE: &str = include_str!("table.txt");

#[test]
fn a_failed_connect_has_the_error_type_of_its_kind() {
    for (errno, told) in [
        (111, "connection_refused"),
        (104, "connection_terminated"),
        (110, "connection_timeout"),
        (101, "destination_ip_unroutable"),
        (113, "destination_ip_unroutable"),
        (97, "destination_ip_unroutable"),
        (1, "destination_unavailable"),
        (24, "connection_limit_reached"),
    ] {
        let error = ConnectError::tcp(peer(), io::Error::from_raw_os_error(errno));
        assert_eq!(Row::of(&dial(error)).error_type, told, "{errno}");
    }
}

#[test]
fn every_failure_has_the_answer_that_the_table_lists() {
    let told: Vec<_> = failures().iter().map(told).chain(cuts().iter().map(cut)).collect();
    if std::env::var_os("WARMLINE_WRITE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/proxy/failure/table.txt");
        return std::fs::write(path, told.join("\n") + "\n").expect("the folder of the sources");
    }
    let listed: Vec<_> = TABLE.lines().collect();
    assert_eq!(told, listed, "\n{}", told.join("\n"));
}

fn told(failure: &Failure) -> String {
    let answer = failure.answer(None, "");
    let field = |name| answer.headers().get(name).map(|value| value.to_str().expect("ASCII"));
    let proxy_status = field("proxy-status").expect("each answer has it");
    let (_, error) = proxy_status.split_once("; error=").expect("each answer has a type");
    let (error, _) = error.split_once(';').expect("each answer has details");
    let (by, stage, status) = (failure.by(), failure.stage(), answer.status().as_u16());
    let extra = [field("connection"), field("retry-after"), field("allow").map(|_| "allow")];
    let extra: String = extra.into_iter().flatten().flat_map(|value| [" ", value]).collect();
    format!("{by}-{stage} {status} {error}{extra}: {failure}")
}

fn cut(cut: &Cut) -> String {
    format!("{} cut: {cut}", cut.by())
}

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 443))
}

fn failures() -> Vec<Failure> {
    let second = Duration::from_secs(1);
    let mut all = vec![
        Failure::bad_request("a fault"),
        Failure::HeaderTooLarge { bytes: 32768, fields: 100 },
        Failure::HeaderTimeout,
        Failure::Crowded,
        Failure::UnknownHost { host: "a.test".into(), hosts: Arc::default(), stats: false },
        Failure::Connect,
        Failure::Outdated(second),
        Failure::Unanswered { reason: "its end".into(), sent: 1 },
        Failure::Unanswered { reason: "its end".into(), sent: 2 },
        Failure::Forgotten { limit: second, sent: 1 },
        Failure::NotSent { reason: "its end".into() },
        Failure::LoginLost,
        Failure::LoginLate,
        Failure::malformed("a fault"),
        Failure::ResponseTimeout(second),
        Failure::UploadIdle(second),
        Failure::UploadStalled(second),
        Failure::UploadBroken,
    ];
    for rejection in [Rejection::QueueFull, Rejection::QueueTimeout, Rejection::Shed] {
        all.push(Failure::Queue { rejection, max: 2, limit: second });
    }
    let alert = AlertDescription::AccessDenied;
    for shown in CertificateUse::ALL {
        all.push(Failure::IdentityRefused { peer: peer(), alert, shown: *shown });
    }
    for refusal in [Refusal::Renegotiation, Refusal::Alert(alert), Refusal::Violation] {
        all.push(Failure::Refused { peer: peer(), refusal });
    }
    all.extend(replaced().map(Failure::Replaced));
    all.extend(Stage::ALL.iter().copied().map(Failure::Ending));
    let dials = dials();
    all.extend(dials.into_iter().map(dial));
    let exhausted = dial(ConnectError::NoDescriptor { most: 2 });
    for failure in [Failure::NotSent { reason: "its end".into() }, exhausted] {
        all.push(Failure::BudgetUsedUp(Box::new(failure)));
    }
    all
}

fn replaced() -> impl Iterator<Item = Replaced> {
    [Replaced::Credentials, Replaced::Configuration, Replaced::Removed].into_iter()
}

fn dial(error: ConnectError) -> Failure {
    Failure::Dial(Arc::new(error.into()))
}

fn dials() -> Vec<ConnectError> {
    let (address, limit) = (peer(), Duration::from_secs(1));
    let name = |fault| ConnectError::Name { name: "a.test".into(), fault };
    let (asked, servers) = (vec!["a.test".into()], String::new());
    let silent = NameFault::Silent { limit, name: "a.test".into(), servers: servers.clone() };
    let failed = NameFault::Failed {
        fault: "a fault".into(),
        name: "a.test".into(),
        servers: servers.clone(),
    };
    let none = NameFault::NoServers {
        hosts: "/hosts".into(),
        file: "/resolv".into(),
        reason: Arc::from("a fault"),
    };
    let alert = AlertDescription::HandshakeFailure;
    let mut all = vec![
        name(NameFault::Missing { what: "no such name", asked, servers }),
        name(failed),
        name(silent),
        name(none),
        ConnectError::ConnectTimeout { endpoint: "a.test:443".into(), limit },
        ConnectError::NoDescriptor { most: 2 },
        ConnectError::HandshakeTimeout { address, limit },
        ConnectError::Certificate {
            address,
            kind: VerifyFailure::Name,
            reason: "another name".into(),
        },
        ConnectError::Alert { address, alert, shown: CertificateUse::NotAsked, only_large: false },
        ConnectError::Tls { address, reason: "a fault".into() },
        ConnectError::HandshakeBroken { address, error: io::ErrorKind::UnexpectedEof.into() },
    ];
    let v6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 443));
    for address in [address, v6] {
        for errno in [1, 13, 24, 97, 99, 101, 103, 104, 110, 111, 113] {
            all.push(ConnectError::tcp(address, io::Error::from_raw_os_error(errno)));
        }
    }
    all
}

fn cuts() -> Vec<Cut> {
    let second = Duration::from_secs(1);
    let mut all = vec![
        Cut::UpstreamSilent(second),
        Cut::ClientSilent(second),
        Cut::RequestSilent(second),
        Cut::RequestBroken,
        Cut::ResponseBroken("a fault".into()),
        Cut::Ending,
    ];
    all.extend(replaced().map(Cut::Replaced));
    all
}

#[test]
fn the_answer_for_an_unknown_host_names_some_hosts_and_counts_the_others() {
    let told = |count: usize| {
        let hosts = Arc::new((0..count).map(|number| format!("h{number}.test")).collect());
        Failure::UnknownHost { host: "a.test".into(), hosts, stats: false }.text(None, "")
    };
    assert!(told(2).ends_with("configured hosts: h0.test, h1.test\n"), "{}", told(2));
    assert!(told(HOSTS_TOLD).ends_with(", h19.test\n"), "{}", told(HOSTS_TOLD));
    assert!(told(1000).ends_with(", h19.test and 980 more\n"), "{}", told(1000));
}
