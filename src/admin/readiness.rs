//! The answers of `/readyz` and `/startupz`.

use std::{
    fmt::Write as _,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

/// The time that the start waits for warm connections to upstreams that `readiness.requireUpstreams` does not name.
const WARMING_TIME: Duration = Duration::from_secs(5);

/// The progress of the start.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    /// The time at which every port for traffic was open.
    opened: OnceLock<Instant>,
    /// True once every check of the start has passed. From then on `/readyz` does not depend on upstreams.
    over: AtomicBool,
}

/// The warm connections of an upstream, as the start sees them.
pub(super) struct WarmStart {
    pub name: String,
    /// The warm floor (`pool.minIdle`); 0 if there is nothing to wait for.
    pub wanted: usize,
    pub idle: usize,
    /// True if at some time all wanted connections were there, idle or in use.
    pub reached: bool,
    /// True if `readiness.requireUpstreams` names the upstream.
    pub required: bool,
    /// The text of the upstream's newest failure, if there was one.
    pub failure: Option<String>,
}

/// The remarks beside checks that pass although there is something to do; `None` where nothing is.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    pub configuration: Option<String>,
    pub credentials: Option<String>,
}

/// The answer of one of the paths.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// True for status 200, false for 503.
    pub good: bool,
    /// The text: each check on a line, then the verdict.
    pub text: String,
}

struct Check {
    name: String,
    passed: bool,
    /// The reason that the check failed.
    reason: String,
    /// A remark that stands beside the check if it passed.
    remark: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, passed: bool, reason: impl Into<String>) -> Self {
        Self { name: name.into(), passed, reason: reason.into(), remark: None }
    }
}

impl Readiness {
    /// Records that every port for traffic is open.
    pub(crate) fn set_started(&self) {
        self.opened.get_or_init(Instant::now);
    }

    /// Returns the answer of both paths (`path` is the name in the text) while there is no configuration, for this
    /// reason.
    pub(super) fn waiting(path: &str, reason: &str) -> Report {
        report(path, &[Check::new("configuration", false, reason)])
    }

    /// Returns the answer of `/startupz`: good if the ports for traffic are open.
    pub(super) fn startup(&self) -> Report {
        report("startupz", &self.start(&Remarks::default()))
    }

    /// Returns the answer of `/readyz`: good if the ports for traffic are open, no drain has begun, and the start need
    /// not wait for a warm floor (at most [`WARMING_TIME`], without limit for a required one). Once all checks but the
    /// drain's have passed, the start is over for good: `floors` is no longer evaluated, and upstreams no longer count.
    pub(super) fn ready(
        &self,
        remarks: &Remarks,
        floors: impl IntoIterator<Item = WarmStart>,
        draining: bool,
        now: Instant,
    ) -> Report {
        let mut checks = self.start(remarks);
        if !self.over.load(SeqCst) {
            let wanted = floors.into_iter().filter(|floor| floor.wanted > 0);
            checks.extend(wanted.map(|floor| self.warm(&floor, now)));
            if checks.iter().all(|check| check.passed) {
                self.over.store(true, SeqCst);
            }
        }
        checks.push(Check::new("drain", !draining, "Warmline is ending"));
        report("readyz", &checks)
    }

    /// Makes the check of one upstream's warm floor. It passes once the floor was reached at some time; for an upstream
    /// that is not required, also from 5 s after the ports opened. Its reason names the upstream's newest failure.
    fn warm(&self, floor: &WarmStart, now: Instant) -> Check {
        let WarmStart { name, wanted, idle, reached, required, failure } = floor;
        let waited = self.opened.get().map(|at| now.saturating_duration_since(*at));
        let long_enough = waited.is_some_and(|waited| waited >= WARMING_TIME);
        let mut reason = format!("{idle} of {wanted} connections are there (pool.minIdle)");
        if let Some(failure) = failure {
            let _ = write!(reason, "; {failure}");
        }
        Check::new(format!("upstream {name}"), *reached || (long_enough && !required), reason)
    }

    /// Returns the checks of the start. Configuration and credentials always pass: these checks are served only after
    /// both were loaded, and the answer of [`Readiness::waiting`] before.
    fn start(&self, remarks: &Remarks) -> Vec<Check> {
        let loaded = |name, remark: &Option<String>| Check {
            remark: remark.clone(),
            ..Check::new(name, true, "")
        };
        let open = self.opened.get().is_some();
        let listeners = Check::new("listeners", open, "not open yet");
        let configuration = loaded("configuration", &remarks.configuration);
        vec![configuration, loaded("credentials", &remarks.credentials), listeners]
    }
}

/// Makes the answer of checks: a line for each, then the verdict, which is good if all passed. `path` is the name in
/// the verdict.
fn report(path: &str, checks: &[Check]) -> Report {
    let mut text = String::new();
    for Check { name, passed, reason, remark } in checks {
        let _ = match (passed, remark) {
            (true, None) => writeln!(text, "[+]{name} ok"),
            (true, Some(remark)) => writeln!(text, "[+]{name} ok ({remark})"),
            (false, _) => writeln!(text, "[-]{name} failed: {reason}"),
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
        let waiting = readiness.ready(&Remarks::default(), [], false, Instant::now());
        assert!(!waiting.good && !readiness.startup().good);
        assert_eq!(
            waiting.text,
            "[+]configuration ok\n[+]credentials ok\n[-]listeners failed: not open yet\n[+]drain ok\nreadyz check failed\n"
        );
        readiness.set_started();
        assert!(readiness.ready(&Remarks::default(), [], false, Instant::now()).good);
        let draining = readiness.ready(&Remarks::default(), [], true, Instant::now());
        assert!(!draining.good, "{}", draining.text);
        assert!(draining.text.contains("[-]drain failed: Warmline is ending\n"));
        assert!(readiness.startup().good, "a drain does not undo the start");
    }

    fn floor(reached: bool, required: bool) -> WarmStart {
        let idle = if reached { 2 } else { 1 };
        WarmStart { name: "payments".into(), wanted: 2, idle, reached, required, failure: None }
    }

    #[test]
    fn warm_connections_are_waited_for_a_while_and_required_ones_for_as_long_as_it_takes() {
        let opened = || {
            let readiness = Readiness::default();
            readiness.set_started();
            readiness
        };
        let (now, later) = (Instant::now(), Instant::now() + 2 * WARMING_TIME);
        for required in [false, true] {
            let readiness = opened();
            let cold = readiness.ready(&Remarks::default(), [floor(false, required)], false, now);
            let told = "[-]upstream payments failed: 1 of 2 connections are there (pool.minIdle)\n";
            assert!(!cold.good && cold.text.contains(told), "{}", cold.text);
            let patient =
                readiness.ready(&Remarks::default(), [floor(false, required)], false, later);
            assert_eq!(patient.good, !required, "{}", patient.text);
            assert!(
                readiness.ready(&Remarks::default(), [floor(true, required)], false, later).good
            );
            let after =
                readiness.ready(&Remarks::default(), [floor(false, required)], false, later);
            assert!(after.good, "what an upstream does later is no matter of the start");
        }
    }
}
