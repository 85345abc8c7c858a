//! What `/readyz` and `/startupz` say.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

/// Whether the start is over: true to the end of the process, once it is.
#[derive(Debug, Default)]
pub struct Readiness(AtomicBool);

/// What one of the paths answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// 200, else 503.
    pub good: bool,
    /// Each check on a line, then the verdict.
    pub text: String,
}

struct Check {
    name: &'static str,
    passed: bool,
    /// Why it has not.
    reason: &'static str,
}

impl Readiness {
    /// Every port for traffic is open: the start is over.
    pub fn set_started(&self) {
        self.0.store(true, SeqCst);
    }

    /// `/startupz`: whether the start is over.
    pub(super) fn startup(&self) -> Report {
        report("startupz", &self.start())
    }

    /// `/readyz`: whether traffic may come.
    pub(super) fn ready(&self, draining: bool) -> Report {
        let drain = Check { name: "drain", passed: !draining, reason: "Warmline is ending" };
        let [configuration, credentials, listeners] = self.start();
        report("readyz", &[configuration, credentials, listeners, drain])
    }

    /// Whoever asks is answered out of a configuration and the certificates that it names: they are
    /// loaded.
    fn start(&self) -> [Check; 3] {
        let loaded = |name| Check { name, passed: true, reason: "" };
        let open = self.0.load(SeqCst);
        let listeners = Check { name: "listeners", passed: open, reason: "not open yet" };
        [loaded("configuration"), loaded("credentials"), listeners]
    }
}

fn report(path: &str, checks: &[Check]) -> Report {
    let mut text = String::new();
    for Check { name, passed, reason } in checks {
        let _ = if *passed {
            writeln!(text, "[+]{name} ok")
        } else {
            writeln!(text, "[-]{name} failed: {reason}")
        };
    }
    let good = checks.iter().all(|check| check.passed);
    let _ = writeln!(text, "{path} check {}", if good { "passed" } else { "failed" });
    Report { good, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_comes_with_the_listeners_and_goes_with_the_drain() {
        let readiness = Readiness::default();
        let waiting = readiness.ready(false);
        assert!(!waiting.good && !readiness.startup().good);
        assert_eq!(
            waiting.text,
            "[+]configuration ok\n[+]credentials ok\n[-]listeners failed: not open yet\n[+]drain ok\nreadyz check failed\n"
        );
        readiness.set_started();
        assert!(readiness.ready(false).good);
        let draining = readiness.ready(true);
        assert!(!draining.good, "{}", draining.text);
        assert!(draining.text.contains("[-]drain failed: Warmline is ending\n"));
        assert!(readiness.startup().good, "a drain does not undo the start");
    }
}
