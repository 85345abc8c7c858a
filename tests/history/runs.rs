//! The runs through Warmline: no history breaks a rule, and no GET is lost.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::{
    check::check,
    controls,
    faults::{self, Run},
    history::{History, Rules},
    load::{self, Load},
    origin::Upstream,
    proxy::{self, ATTEMPTS, Proxy, Start},
    support::soaking,
    verdict::{Breach, Figures, Verdict},
};

/// The names of the two upstreams behind one listener, each with its own client certificate.
const NAMES: [&str; 2] = ["one.test", "two.test"];
/// The interval between two samples of the pools.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// The interval between two changes.
const CHANGE_EVERY: Duration = Duration::from_millis(100);

/// The proxy to start for a run, and how to judge it.
pub struct Play {
    /// The function that starts the proxy.
    pub start: Start,
    /// The number of the proxy's worker threads.
    pub threads: usize,
    /// True if more connections than the cap are a breach.
    pub strict_cap: bool,
}

/// Plays a run to its end and returns the judge's verdict on its history.
pub fn play(run: &Run, play: &Play, load: Load) -> Verdict {
    let names = NAMES.iter().enumerate();
    let start = |(number, name)| Upstream::start(number, name, run.faults, load.seed);
    let upstreams: Vec<Upstream> = names.map(|(number, name)| start((number, *name))).collect();
    let proxy = (play.start)(run, &upstreams, play.threads);
    let send = || load::send(load, run, proxy.address(), &NAMES);
    let (looked, changed) = (&*proxy, upstreams.as_slice());
    let change = run.changes.map(|change| move || looked.change(change, changed));
    let mut history = watched(looked, change, send);
    history.account = proxy.finish();
    for upstream in &upstreams {
        let (deliveries, connections) = upstream.finish();
        history.deliveries.extend(deliveries);
        history.connections.push(connections);
    }
    check(&history, &rules(run, play, &upstreams))
}

/// Runs the work; meanwhile samples the proxy's connections and makes the run's changes.
fn watched(
    proxy: &dyn Proxy,
    change: Option<impl Fn() + Send>,
    work: impl FnOnce() -> History,
) -> History {
    /// A guard that ends the watch when dropped, also by a panic.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let until_done = |every: Duration, act: &dyn Fn()| {
            while !done.load(Relaxed) {
                act();
                thread::sleep(every);
            }
        };
        scope.spawn(move || until_done(LOOK_EVERY, &|| proxy.look()));
        if let Some(change) = change {
            scope.spawn(move || until_done(CHANGE_EVERY, &change));
        }
        let _over = Over(&done);
        work()
    })
}

fn rules(run: &Run, play: &Play, upstreams: &[Upstream]) -> Rules {
    let upstreams = upstreams.iter().map(|upstream| crate::history::Upstream {
        name: upstream.name.to_owned(),
        hosts: vec![
            upstream.name.to_owned(),
            format!("{}:{}", upstream.name, upstream.origin.port()),
        ],
        identities: upstream.identities.iter().map(|one| one.leaf().to_vec()).collect(),
    });
    Rules {
        upstreams: upstreams.collect(),
        cap: run.cap,
        strict_cap: play.strict_cap,
        attempts: ATTEMPTS,
    }
}

/// Returns the number of requests of one run; each run is played with one worker thread and with two.
fn requests() -> usize {
    if soaking() { 128_000 } else { 4_000 }
}

fn no_rule_is_broken_and_no_get_is_lost(run: &Run, threads: usize) -> Figures {
    let through = Play { start: proxy::warmline, threads, strict_cap: true };
    let load = Load { requests: requests(), seed: threads as u64 };
    let Verdict { breaches, figures } = play(run, &through, load);
    println!("{}, {threads} threads: {figures:?}", run.name);
    let first = &breaches[..breaches.len().min(10)];
    assert!(breaches.is_empty(), "{}: {} breaches: {first:?}", run.name, breaches.len());
    assert_eq!(figures.lost_gets, 0, "{}: {figures:?}", run.name);
    assert!(figures.gets > load.requests / 3 && figures.posts > load.requests / 3);
    figures
}

/// 60 of 1000 exchanges are reset, each by the origin's random choice; no other connection may be closed because of
/// that.
fn a_reset_costs_one_connection(figures: &Figures) {
    assert!(figures.broken > 0 && figures.lost_posts == 0, "{figures:?}");
    let one_in_eight = (figures.gets + figures.posts) / 8;
    assert!(figures.connections < one_in_eight, "connections without need: {figures:?}");
}

#[test]
fn under_idle_closes_no_rule_is_broken_and_no_get_is_lost_on_one_thread() {
    let figures = no_rule_is_broken_and_no_get_is_lost(&faults::IDLE_CLOSES, 1);
    assert!(figures.connections > load::CLIENTS * 2, "nothing was closed: {figures:?}");
}

#[test]
fn under_idle_closes_no_rule_is_broken_and_no_get_is_lost_on_two_threads() {
    let figures = no_rule_is_broken_and_no_get_is_lost(&faults::IDLE_CLOSES, 2);
    assert!(figures.connections > load::CLIENTS * 2, "nothing was closed: {figures:?}");
}

#[test]
fn under_resets_no_rule_is_broken_and_no_get_is_lost_on_one_thread() {
    let figures = no_rule_is_broken_and_no_get_is_lost(&faults::RESETS, 1);
    a_reset_costs_one_connection(&figures);
}

#[test]
fn under_resets_no_rule_is_broken_and_no_get_is_lost_on_two_threads() {
    let figures = no_rule_is_broken_and_no_get_is_lost(&faults::RESETS, 2);
    a_reset_costs_one_connection(&figures);
}

#[test]
fn under_dribbles_nothing_at_all_is_lost_on_one_thread() {
    let figures = no_rule_is_broken_and_no_get_is_lost(&faults::DRIBBLES, 1);
    assert_eq!((figures.lost_posts, figures.broken), (0, 0), "{figures:?}");
}

#[test]
fn under_dribbles_nothing_at_all_is_lost_on_two_threads() {
    let figures = no_rule_is_broken_and_no_get_is_lost(&faults::DRIBBLES, 2);
    assert_eq!((figures.lost_posts, figures.broken), (0, 0), "{figures:?}");
}

#[test]
fn under_everything_at_once_at_the_cap_no_rule_is_broken_on_one_thread() {
    let figures = no_rule_is_broken_and_no_get_is_lost(&faults::EVERYTHING, 1);
    assert_eq!(figures.most, faults::EVERYTHING.cap, "the cap was never reached: {figures:?}");
}

#[test]
fn under_everything_at_once_at_the_cap_no_rule_is_broken_on_two_threads() {
    let figures = no_rule_is_broken_and_no_get_is_lost(&faults::EVERYTHING, 2);
    assert_eq!(figures.most, faults::EVERYTHING.cap, "the cap was never reached: {figures:?}");
}

/// Origins break no exchange in these runs, so that every loss would be caused by the change.
fn nothing_at_all_is_lost_meanwhile(run: &Run, threads: usize) {
    let figures = no_rule_is_broken_and_no_get_is_lost(run, threads);
    assert_eq!((figures.lost_posts, figures.broken), (0, 0), "{figures:?}");
    assert!(figures.changes >= 2, "nothing changed: {figures:?}");
}

#[test]
fn while_certificates_rotate_ten_times_a_second_nothing_is_lost_on_one_thread() {
    nothing_at_all_is_lost_meanwhile(&faults::ROTATIONS, 1);
}

#[test]
fn while_certificates_rotate_ten_times_a_second_nothing_is_lost_on_two_threads() {
    nothing_at_all_is_lost_meanwhile(&faults::ROTATIONS, 2);
}

#[test]
fn while_the_configuration_flips_ten_times_a_second_nothing_is_lost_on_one_thread() {
    nothing_at_all_is_lost_meanwhile(&faults::FLIPS, 1);
}

#[test]
fn while_the_configuration_flips_ten_times_a_second_nothing_is_lost_on_two_threads() {
    nothing_at_all_is_lost_meanwhile(&faults::FLIPS, 2);
}

/// Idle connections are closed in this run, so that new handshakes see what the origins show.
fn no_get_is_lost_while_the_origins_certificates_rotate(threads: usize) {
    let figures = no_rule_is_broken_and_no_get_is_lost(&faults::SERVER_ROTATIONS, threads);
    assert!(figures.changes >= 4, "too few were seen: {figures:?}");
}

#[test]
fn while_the_origins_certificates_rotate_no_get_is_lost_on_one_thread() {
    no_get_is_lost_while_the_origins_certificates_rotate(1);
}

#[test]
fn while_the_origins_certificates_rotate_no_get_is_lost_on_two_threads() {
    no_get_is_lost_while_the_origins_certificates_rotate(2);
}

/// The judge does not favour Warmline: apart from the strict cap, the controls obey the same rules.
#[test]
fn under_idle_closes_the_same_judge_finds_no_breach_in_haproxy_and_nginx() {
    for (name, start) in [("HAProxy", controls::haproxy as Start), ("nginx", controls::nginx)] {
        let through = Play { start, threads: 1, strict_cap: false };
        let verdict = play(&faults::IDLE_CLOSES, &through, Load { requests: 1_600, seed: 5 });
        println!("{name}: {:?}", verdict.figures);
        assert_eq!(verdict.breaches, [], "{name}");
    }
}

#[test]
fn the_same_judge_finds_the_posts_that_haproxy_sends_twice_when_it_is_told_to_repeat_everything() {
    let through = Play { start: controls::haproxy_repeating, threads: 1, strict_cap: false };
    let Verdict { breaches, figures } =
        play(&faults::RESETS, &through, Load { requests: 1_600, seed: 6 });
    let twice = breaches.iter().filter(|breach| matches!(breach, Breach::Duplicate(_)));
    assert!(figures.duplicates > 0 && twice.count() == figures.duplicates, "{figures:?}");
}
