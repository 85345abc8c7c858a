//! Chromium without a window, with one tab.

use std::{
    cell::RefCell,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{WATCHDOG, program};

/// A domain of which every name resolves to this machine: a foreign site in the browser's view.
pub const FOREIGN: &str = "evil.example";

const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP *.example 127.0.0.1",
];

/// A running Chromium with one tab; it ends when dropped.
pub struct Browser {
    child: Child,
    talk: RefCell<Talk>,
    session: String,
    _profile: TempDir,
}

/// The connection to the browser. Messages are JSON, each followed by a zero byte: written to the browser's descriptor
/// 3, read from its descriptor 4.
struct Talk {
    to: ChildStdin,
    from: Receiver<Value>,
    asked: u64,
    /// The tab's complaints so far: errors, blocked resources, exceptions.
    complaints: Vec<Value>,
}

impl Browser {
    /// Starts a browser with this page open.
    pub fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh"]);
        command.arg(program("chromium")).args(FLAGS).arg("--remote-debugging-pipe");
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, from) = channel();
        thread::spawn(move || {
            for message in BufReader::new(out).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("the browser speaks JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let talk = RefCell::new(Talk { to, from, asked: 0, complaints: Vec::new() });
        let mut browser = Self { child, talk, session: String::new(), _profile: profile };
        let tab = browser.ask("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": tab["targetId"], "flatten": true });
        let session = browser.ask("Target.attachToTarget", &attach)["sessionId"].clone();
        session.as_str().unwrap().clone_into(&mut browser.session);
        browser.ask("Runtime.enable", &json!({}));
        browser.ask("Log.enable", &json!({}));
        browser.go(url);
        browser
    }

    /// Opens another page in the tab, and waits until it is loaded.
    pub fn go(&self, url: &str) {
        self.ask("Page.navigate", &json!({ "url": url }));
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'");
    }

    /// Calls one of the browser's methods and returns the result.
    pub fn ask(&self, method: &str, parameters: &Value) -> Value {
        let mut talk = self.talk.borrow_mut();
        talk.asked += 1;
        let mut message = json!({ "id": talk.asked, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        talk.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let said = talk.from.recv_timeout(WATCHDOG).expect("the browser answers");
            if said["id"] == talk.asked {
                // A page that is just being left has no values; callers that wait for a value ask again.
                let left = said["error"]["message"] == "Inspected target navigated or closed";
                assert!(left || said["error"].is_null(), "{method} {parameters}: {said}");
                return said["result"].clone();
            }
            talk.listen(said);
        }
    }

    /// Returns the value of an expression in the page.
    pub fn value(&self, expression: &str) -> Value {
        let parameters =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.ask("Runtime.evaluate", &parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true; panics with the page's text if it never is.
    pub fn wait_for(&self, expression: &str) {
        let deadline = Instant::now() + WATCHDOG;
        let safely =
            format!("(() => {{ try {{ return !!({expression}) }} catch {{ return false }} }})()");
        while self.value(&safely) != true {
            let page = || self.value("document.body.innerText");
            assert!(Instant::now() < deadline, "never true: {expression}\n{}", page());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the page contains this text.
    pub fn wait_for_text(&self, text: &str) {
        self.wait_for(&format!("document.body.innerText.includes({})", Value::from(text)));
    }

    /// Returns the tab's complaints so far.
    pub fn complaints(&self) -> Vec<Value> {
        // The answer to this question comes after all earlier complaints.
        self.value("0");
        self.talk.borrow().complaints.clone()
    }
}

impl Talk {
    fn listen(&mut self, event: Value) {
        let level = event["params"]["entry"]["level"].as_str();
        if event["method"] == "Runtime.exceptionThrown" || level == Some("error") {
            self.complaints.push(event);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the URL of the page of administration.
pub fn page(address: SocketAddr) -> String {
    format!("http://{address}/")
}
