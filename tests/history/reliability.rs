//! The same load and the same judge over Warmline, `HAProxy` and nginx: `make reliability`.

use std::env;

use crate::{
    controls,
    faults::{IDLE_CLOSES, RUNS, Run},
    load::Load,
    proxy::{self, Start},
    runs::{Play, play},
    verdict::{Figures, Verdict},
};

/// A row of the table: a proxy and how to start it.
struct Peer {
    name: &'static str,
    start: Start,
    /// True if the proxy's cap limits connections, so that more are a breach.
    strict_cap: bool,
}

const PEERS: [Peer; 4] = [
    Peer { name: "Warmline", start: proxy::warmline, strict_cap: true },
    Peer { name: "HAProxy", start: controls::haproxy, strict_cap: false },
    Peer { name: "HAProxy, retrying", start: controls::haproxy_retrying, strict_cap: false },
    Peer { name: "nginx", start: controls::nginx, strict_cap: false },
];

/// Returns the number of requests for each proxy and run: `RELIABILITY_REQUESTS`, or enough for rare losses to show.
fn requests() -> usize {
    let asked = env::var("RELIABILITY_REQUESTS").ok();
    asked.map_or(20_000, |number| number.parse().expect("RELIABILITY_REQUESTS is a number"))
}

fn measure(peer: &Peer, run: &Run) -> Verdict {
    let through = Play { start: peer.start, threads: 1, strict_cap: peer.strict_cap };
    play(run, &through, Load { requests: requests(), seed: 1 })
}

fn row(peer: &Peer, run: &Run, verdict: &Verdict) -> String {
    let Figures { gets, lost_gets, posts, lost_posts, lost_after_delivery, .. } = verdict.figures;
    let Figures { broken, duplicates, wrong, connections, most, above_cap, .. } = verdict.figures;
    format!(
        "| {} | {} | {lost_gets} of {gets} | {lost_posts} of {posts} | {lost_after_delivery} | \
         {duplicates} | {wrong} | {above_cap} (most {most} of {}) | {broken} | {connections} |",
        run.name, peer.name, run.cap
    )
}

#[test]
#[ignore = "minutes: `make reliability` runs it and prints the table"]
fn warmline_loses_no_get_and_a_fifth_of_the_posts_that_nginx_loses() {
    println!(
        "| run | proxy | lost GETs | lost POSTs | of these delivered | POSTs delivered twice | \
         wrong answers | above the cap | broken by the origin | connections |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    );
    let mut failures = Vec::new();
    for run in &RUNS {
        let verdicts = PEERS.each_ref().map(|peer| {
            let verdict = measure(peer, run);
            println!("{}", row(peer, run, &verdict));
            verdict
        });
        let [warmline, .., nginx] = &verdicts;
        let (ours, theirs) = (warmline.figures.lost_posts, nginx.figures.lost_posts);
        if !warmline.breaches.is_empty() || warmline.figures.lost_gets > 0 {
            failures.push(format!("{}: {warmline:?}", run.name));
        }
        if run.name == IDLE_CLOSES.name && ours * 5 > theirs {
            failures.push(format!("{}: {ours} POSTs lost, nginx {theirs}", run.name));
        }
        for (peer, verdict) in PEERS.iter().zip(&verdicts).skip(1) {
            let first = &verdict.breaches[..verdict.breaches.len().min(5)];
            let count = verdict.breaches.len();
            println!("<!-- {}: {count} breaches {first:?} -->", peer.name);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
