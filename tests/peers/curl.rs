//! curl, the client in these tests, because it is the one that most people use.

use std::process::Command;

use crate::process::{WATCHDOG, program};

/// The status and body of a response.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code; 0 if no response came.
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Gets a path from a loopback port with a new curl process, so over a new connection.
pub(crate) fn get(port: u16, path: &str) -> Answer {
    ask(port, path, &[])
}

/// Posts a body from a new curl process, after waiting for `100 Continue`.
pub(crate) fn post_when_asked(port: u16, path: &str, body: &str) -> Answer {
    let patience = WATCHDOG.as_secs().to_string();
    let expecting = ["--header", "Expect: 100-continue", "--expect100-timeout", &patience];
    ask(port, path, &[&expecting[..], &["--data", body]].concat())
}

fn ask(port: u16, path: &str, options: &[&str]) -> Answer {
    let output = Command::new(program("curl"))
        .args(["--silent", "--noproxy", "*", "--write-out", "\n%{http_code}"])
        .args(["--max-time", &WATCHDOG.as_secs().to_string()])
        .args(options)
        .arg(format!("http://127.0.0.1:{port}{path}"))
        .output()
        .expect("curl can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').expect("curl writes the status last");
    Answer { status: status.parse().expect("a status is a number"), body: body.to_owned() }
}
