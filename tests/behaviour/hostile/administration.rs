//! Administration against hostile pages and neighbours: reading changes nothing, requests from foreign pages are
//! refused, and no page shows a key.

use warmline::tls::fingerprint;

use crate::support::{
    client::{Client, Response},
    key_format::KeyFormat,
    origin::Origin,
    running::Running,
    setup::{Setup, compile, identity, serving},
};

const CHANGES: [&str; 3] = ["/upstreams/origin/flush", "/upstreams/origin/drain", "/reload"];

/// Sends a request with this line and these fields on a new connection and returns the answer.
fn ask(warmline: &Running, line: &str, fields: &str) -> Response {
    let mut client = Client::connect(warmline.administration());
    client.send(format!("{line} HTTP/1.1\r\n{fields}Content-Length: 0\r\n\r\n"));
    let method = line.split(' ').next().unwrap();
    client.response_to(method).unwrap_or_else(|broken| panic!("{line}: {broken:#?}"))
}

/// Asserts that the origin's one connection is still open and used, and that no reload took place.
fn assert_untouched(origin: &Origin, warmline: &Running) {
    assert_eq!(warmline.one_shot("/after").status, 200);
    assert_eq!(origin.record().connections.len(), 1, "a connection was closed");
    assert_eq!(warmline.metric("warmline_config_reloads_total", &[]), 0);
}

#[test]
fn case_35_acts_are_refused_to_every_method_but_post() {
    let (origin, warmline) = serving();
    assert_eq!(warmline.one_shot("/any").status, 200);
    for path in CHANGES {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let answer = ask(&warmline, &format!("{method} {path}"), "Host: localhost\r\n");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.head.field("allow"), Some("POST"), "{method} {path}");
        }
    }
    assert_untouched(&origin, &warmline);
}

#[test]
fn case_35_a_foreign_host_or_origin_changes_nothing() {
    let (origin, warmline) = serving();
    assert_eq!(warmline.one_shot("/any").status, 200);
    let port = warmline.administration().port();
    for path in CHANGES {
        for fields in [
            "Host: rebound.example\r\n".to_owned(),
            format!("Host: rebound.example:{port}\r\nOrigin: http://rebound.example:{port}\r\n"),
            format!("Host: localhost:{port}\r\nOrigin: http://evil.example\r\n"),
            format!("Host: localhost:{port}\r\nOrigin: https://localhost:{port}\r\n"),
            format!("Host: localhost:{port}\r\nOrigin: null\r\n"),
            format!("Host: localhost:{port}\r\nSec-Fetch-Site: cross-site\r\n"),
        ] {
            let answer = ask(&warmline, &format!("POST {path}"), &fields);
            assert_eq!(answer.status, 403, "{path} {fields}");
        }
    }
    assert_untouched(&origin, &warmline);
}

/// Returns texts that would betray the key: lines of its PEM, and its bytes as `Debug` writes them and in hexadecimal.
fn traces() -> Vec<String> {
    let pem = identity().key_pem(KeyFormat::Pkcs8);
    let mut traces: Vec<String> =
        pem.lines().filter(|line| !line.starts_with('-')).map(|line| line[..16].into()).collect();
    let key = identity().private_key();
    // The middle of the DER is the secret itself.
    let middle = &key.secret_der()[key.secret_der().len() / 2..][..8];
    traces.push(format!("{middle:?}").trim_matches(['[', ']']).to_owned());
    traces.push(middle.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")));
    traces.push("PRIVATE KEY".into());
    traces
}

#[test]
fn case_35_no_page_and_no_debug_output_shows_a_key() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin);
    let plan = compile(&setup.text()).unwrap_or_else(|errors| panic!("{errors}"));
    let warmline = setup.start();
    assert_eq!(warmline.one_shot("/any").status, 200);
    let mut texts = vec![("Debug of the plan", format!("{plan:?} {plan:#?}"))];
    for page in ["/", "/pools", "/certificates", "/plan"] {
        texts.push((page, warmline.admin(page).text()));
    }
    for page in ["/pools", "/certificates", "/plan"] {
        texts.push((page, warmline.admin(&format!("{page}?format=json")).text()));
    }
    texts.push(("/metrics", warmline.health("/metrics").text()));
    let shown = fingerprint(identity().leaf());
    assert!(texts.iter().any(|(_, text)| text.contains(&shown)), "not even the certificate shows");
    for (what, text) in texts {
        let text_in_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for trace in traces() {
            assert!(!text.contains(&trace) && !text_in_line.contains(&trace), "{what}: {trace}");
        }
    }
}
