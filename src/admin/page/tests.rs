//! The text of the page, and the proof that no text from others becomes markup.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::super::{State, acts::Act, snapshot::Snapshot, tests::state};
use crate::{
    config::UnusableFiles,
    pool::{EndReason, Reuse},
    upstream::{Code, Failed, Party, Stage, Upstream},
};

const HOSTILE: &str = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>";

fn page(state: &State) -> String {
    super::render(&Snapshot::take(state, Instant::now()))
}

fn failed(by: Party, text: &str) -> Failed {
    Failed::new(Some(502), by, Stage::Connect, text.into())
}

fn fail(state: &State, failure: Failed, ago: u64) {
    let at = SystemTime::now() - Duration::from_secs(ago);
    upstream(state).counters().exchanges.failures.note(failure, at);
}

fn upstream(state: &State) -> Arc<Upstream> {
    Arc::clone(&state.upstreams.share()[0].upstream)
}

#[test]
fn the_page_explains_reasons_in_words_that_need_no_document() {
    let state = state(&["payments"]);
    state.readiness.set_started();
    let upstream = upstream(&state);
    let counters = upstream.pool().counters();
    counters.checkouts.increment(Reuse::Stale);
    counters.closed.increment(EndReason::PeerClosed);
    upstream.counters().exchanges.requests.increment(Code::ServerError);
    fail(&state, failed(Party::Upstream, "no TCP connection to 192.0.2.1:443"), 3);
    let page = page(&state);
    for told in [
        "<b>stale</b> <span class=\"muted\">the last one was found dead, when used or while idle</span>",
        "<b>peer-closed</b> <span class=\"muted\">the upstream closed it while it was idle</span>",
        "no TCP connection to 192.0.2.1:443",
        "<span class=\"pill bad\">502, 3s ago</span>",
        "5a5e35f84ff0525a",
        "payments.example:443",
        "made by the program itself",
        ">ready<",
    ] {
        assert!(page.contains(told), "{told}: {page}");
    }
    assert!(!page.contains("<b>busy</b>"), "what never was is not listed");
}

#[test]
fn nothing_that_others_wrote_becomes_markup() {
    let state = state(&["payments"]);
    fail(&state, failed(Party::Upstream, HOSTILE), 1);
    state.proxy.unrouted.failures.note(failed(Party::Client, HOSTILE), SystemTime::now());
    state.proxy.unrouted.requests.increment(Code::ClientError);
    let act = Act { what: HOSTILE.into(), outcome: HOSTILE.into() };
    state.acts.note(act, SystemTime::now());
    state.configuration.rejected(None, HOSTILE, SystemTime::now());
    let credentials = UnusableFiles { files: Vec::new(), reason: HOSTILE.into() };
    state.configuration.stale(&[credentials], SystemTime::now());
    let page = page(&state);
    assert_eq!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count(), 6, "{page}");
    assert!(!page.contains("<script>") && !page.contains("<img"), "{page}");
}

#[test]
fn the_page_has_nothing_inline_and_loads_nothing_from_elsewhere() {
    let page = page(&state(&["payments", "orders"]));
    for forbidden in ["style=", "javascript:", "//", "<style"] {
        assert!(!page.contains(forbidden), "{forbidden}: {page}");
    }
    for (at, _) in page.match_indices(" on") {
        let after = page[at + 1..].trim_start_matches(|c: char| c.is_ascii_alphabetic());
        assert!(!after.starts_with('='), "no attribute is a handler: {}", &page[at..]);
    }
    assert_eq!(page.matches("<script").count(), 1);
    assert!(page.contains("<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>"));
}

#[test]
fn an_upstream_that_nobody_called_in_the_last_minute_is_not_called_fine() {
    let state = state(&["payments", "orders"]);
    let rows = || {
        let page = page(&state);
        ["<span class=\"pill good\">fine</span>", "<span class=\"pill\">not called</span>"]
            .map(|standing| page.matches(standing).count())
    };
    assert_eq!(rows(), [0, 2]);
    upstream(&state).counters().exchanges.request_seconds.observe(Duration::from_millis(42));
    assert_eq!(rows(), [1, 1]);
}

#[test]
fn an_upstream_fails_as_long_as_its_last_failure_is_young_and_not_the_applications() {
    let state = state(&["payments"]);
    fail(&state, failed(Party::Client, "the target's scheme is not http"), 1);
    fail(&state, failed(Party::Upstream, "long ago"), 600);
    let good = page(&state);
    assert!(good.contains("no failure in the last minute"), "{good}");
    let later = SystemTime::now() + Duration::from_secs(9);
    let during = failed(Party::Warmline, "while the snapshot was taken");
    upstream(&state).counters().exchanges.failures.note(during, later);
    let bad = page(&state);
    assert!(bad.contains("<title>1 failing · Warmline</title>"), "{bad}");
    assert!(!bad.contains("no failure in the last minute"), "{bad}");
}

#[test]
fn a_certificate_s_end_is_told_in_days() {
    let page = page(&super::super::tests::example());
    assert!(page.contains("CN=&lt;b&gt;a.example&lt;/b&gt;"), "{page}");
    assert!(
        page.contains("2031-02-03 00:00:00 UTC") && page.contains("d ") && page.contains(" left")
    );
    assert!(
        page.contains("/etc/warmline/identity/tls.crt, /etc/warmline/identity/tls.key"),
        "{page}"
    );
    assert!(page.contains("purgeDelay: 30s"), "the plan: {page}");
}
