//! `warmline get`, through the program: failures are told in Warmline's words.

use std::process::Command;

use crate::support::{
    authority::{Authority, certificates_pem, write},
    origin::{Connection, NAME, Origin},
    setup::Setup,
};

/// Words of the underlying libraries, none of which may reach a user.
const FOREIGN: [&str; 7] =
    ["client error", "SendRequest", "hyper", "parsed", "handshake eof", "dns error", "unknown"];

/// Runs `warmline get` for this URL, where it has to fail, and returns the error text without the URL. The machine's
/// trusted roots are replaced by one authority of the test.
fn failed(url: &str) -> String {
    let setup = Setup::new();
    let own = Authority::new("the machine's own");
    let roots = certificates_pem(&[own.certificate().clone()]);
    let output = Command::new(env!("CARGO_BIN_EXE_warmline"))
        .args(["get", url])
        .env("SSL_CERT_FILE", write(setup.folder(), "roots.pem", &roots))
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!FOREIGN.iter().any(|foreign| said.contains(foreign)), "{said}");
    said.replace(url, "URL").trim_end().to_owned()
}

fn plain(bytes: &'static [u8]) -> Origin {
    let script = move |mut peer: Connection| async move {
        if peer.fill().await.is_ok() && peer.write(bytes).await {
            peer.close().await;
        }
    };
    Origin::scripted(script).plain().start()
}

#[test]
fn fault_38_failures_of_get_are_reported_in_warmlines_words() {
    let begun = "warmline get URL: ";
    let closed = "the connection was closed before the answer was complete";
    let cut = "the answer broke off: the connection was closed in the middle of it";
    let no_http = "the answer cannot be read: it is not HTTP/1.1: does that port speak HTTP/1.1, and with the scheme of this URL?";
    for (scheme, bytes, told) in [
        ("http", &b""[..], closed),
        ("http", b"HTTP/1.1 200 OK\r\ncontent-len", closed),
        ("http", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", cut),
        ("http", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", cut),
        ("http", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", no_http),
        (
            "http",
            b"HTTP/1.1 000 None\r\n\r\n",
            "the answer cannot be read: its status is not a number from 100 to 999",
        ),
        (
            "http",
            b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
            "the answer cannot be read: a field of its header is malformed",
        ),
        (
            "http",
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "the answer cannot be read: Content-Length is not a decimal number below 2^64, or two of them differ",
        ),
        ("https", b"", "the connection was closed during the TLS handshake"),
        (
            "https",
            &[21, 3, 3, 0, 2, 2, 40],
            "the TLS handshake failed: the alert handshake_failure",
        ),
        (
            "https",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "the TLS handshake failed: what it sent is not TLS: does that port speak TLS at all?",
        ),
    ] {
        let origin = plain(bytes);
        let url = format!("{scheme}://127.0.0.1:{}/any", origin.port());
        assert_eq!(failed(&url), format!("{begun}{told}"), "{}", bytes.escape_ascii());
    }
    let foreign = Origin::serving().start();
    let refused = "the TLS handshake failed: its certificate was refused: it was issued by a CA that is not trusted here";
    let url = format!("https://127.0.0.1:{}/", foreign.port());
    assert_eq!(failed(&url), format!("{begun}{refused}"));
    let told = failed("http://nowhere.invalid/");
    assert!(
        told.starts_with(&format!("{begun}the name \"nowhere.invalid\" cannot be resolved: ")),
        "{told}"
    );
    assert!(failed("http://127.0.0.1:1/").starts_with(&format!("{begun}no connection: ")));
}

#[test]
fn fault_38_a_status_is_told_by_its_number_and_a_phrase_that_we_know() {
    for (status, told) in [("404 Gone Fishing", "404 Not Found"), ("599 Own", "599")] {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        let origin = plain(answer.leak().as_bytes());
        let url = format!("http://127.0.0.1:{}/", origin.port());
        assert_eq!(failed(&url), format!("warmline get: {told}"));
    }
}

#[test]
fn fault_38_get_says_in_words_that_its_address_space_does_not_suffice() {
    let origin = Origin::serving().plain().start();
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 100000 && exec \"$0\" get \"$1\""])
        .arg(env!("CARGO_BIN_EXE_warmline"))
        .arg(format!("http://localhost:{}/{NAME}", origin.port()))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let told = "warmline: the limit on address space (ulimit -v, LimitAS) is 97 MiB, and 2 threads reserve up to 128 MiB";
    assert!(said.starts_with(told), "{said}");
}
