//! The page's section for one upstream: its health, numbers, reasons why connections came and went, last failures,
//! and each connection.

mod tables;

use std::time::{Duration, SystemTime};

use maud::{Markup, html};

use super::{
    super::{
        moment::{Ago, Span},
        snapshot::{Snapshot, UpstreamSnapshot},
    },
    figures,
    numbers::{Count, PerSecond, Percent, plural, quantile, time},
    words,
};
use crate::{
    telemetry::{log::HumanDuration, recent::Noted},
    upstream::{Failed, Party},
};

/// The time for which a failure counts in an upstream's health.
const LATELY: Duration = Duration::from_mins(1);

/// An upstream's health at a glance.
pub(super) enum Health<'a> {
    Good,
    /// Requests wait, because the cap is reached.
    Full,
    /// Requests failed lately; this is the newest such failure.
    Failing(&'a Noted<Failed>),
}

/// Returns the upstream's present health. Failures by the fault of applications do not count.
pub(super) fn health(upstream: &UpstreamSnapshot, now: SystemTime) -> Health<'_> {
    let lately = |failure: &&Noted<Failed>| {
        // A failure may be later than `now`, if it happened while the snapshot was taken.
        failure.what.by != Party::Client && Span::between(failure.last, now).0 < LATELY
    };
    match upstream.counters.exchanges.failures.iter().find(lately) {
        Some(failure) => Health::Failing(failure),
        None if upstream.pool.now.queued > 0 => Health::Full,
        None => Health::Good,
    }
}

/// Renders an upstream's health as one label: `good` if it is good, else a warning that requests wait, or the newest
/// failure of the last minute.
fn pill(upstream: &UpstreamSnapshot, now: SystemTime, good: &Markup) -> Markup {
    html! {
        @match health(upstream, now) {
            Health::Good => { (good) }
            Health::Full => { span.pill.warn { "all connections taken, requests wait" } }
            Health::Failing(failure) => {
                span.pill.bad { (failure.what.outcome()) ", " (Ago(failure.last, now)) }
            }
        }
    }
}

/// Renders a table with a line for each upstream.
pub(super) fn overview(snapshot: &Snapshot) -> Markup {
    html! {
        section #overview {
            div.scroll {
                table {
                    thead { tr {
                        th { "upstream" } th { "lately" } th.number { "requests/s" } th.number { "median" } th.number { "p99" }
                        th.number { "in use" } th.number { "idle" } th.number { "queue" } th.number { "reuse" }
                    } }
                    tbody {
                        @for upstream in &snapshot.upstreams { (overview_row(upstream, snapshot.at)) }
                    }
                }
            }
        }
    }
}

/// Renders the label of an upstream in good health: `fine` if a request ended in the last minute or is in flight, else
/// `not called`, since nothing is known of it.
fn calm(upstream: &UpstreamSnapshot) -> Markup {
    let is_called = upstream.times.request.count() > 0 || upstream.pool.now.census.active > 0;
    html! {
        @if is_called { span.pill.good { "fine" } } @else { span.pill { "not called" } }
    }
}

/// Renders an upstream's row in the table of all upstreams: health, rate, median and p99 of the last minute,
/// connections, queue and reuse.
fn overview_row(upstream: &UpstreamSnapshot, now: SystemTime) -> Markup {
    let census = upstream.pool.now.census;
    let request = &upstream.times.request;
    html! {
        tr {
            td { a href={ "#upstream-" (upstream.name) } { (upstream.name) } }
            td { (pill(upstream, now, &calm(upstream))) }
            td.number { (PerSecond(upstream.activity.requests.now)) }
            td.number { (quantile(request.quantile(0.5))) }
            td.number { (quantile(request.quantile(0.99))) }
            td.number { (census.active) }
            td.number { (census.idle) }
            td.number { (upstream.pool.now.queued) }
            td.number { (reuse_rate(upstream)) }
        }
    }
}

/// Renders the whole section of one upstream: health, buttons, tiles, tables, last failures, and each connection.
pub(super) fn section(upstream: &UpstreamSnapshot, now: SystemTime) -> Markup {
    html! {
        section.upstream #{ "upstream-" (upstream.name) } {
            div.title {
                h2 { (upstream.name) }
                code { (upstream.endpoint) }
                (pill(upstream, now, &html! { span.pill.good { "no failure in the last minute" } }))
                (verbs(upstream))
            }
            div.tiles {
                (connections_tile(upstream)) (requests_tile(upstream)) (latency_tile(upstream))
                (reuse_tile(upstream)) (handshakes_tile(upstream))
            }
            div.panels {
                (tables::reasons(upstream)) (tables::handshakes(upstream))
                (tables::answers(&upstream.counters.exchanges, upstream)) (tables::ends(upstream))
            }
            (tables::failures(&upstream.counters.exchanges, now))
            (tables::connections(upstream))
        }
    }
}

/// Renders the buttons that close idle connections and replace all of them.
fn verbs(upstream: &UpstreamSnapshot) -> Markup {
    html! {
        div.verbs {
            form method="post" action={ "/upstreams/" (upstream.name) "/flush" } {
                button title="Close the connections that nobody uses" { "Close idle" }
            }
            form method="post" action={ "/upstreams/" (upstream.name) "/drain" } {
                button title="Replace every connection: idle ones now, the others after their exchange. No request is lost." {
                    "Renew all"
                }
            }
        }
    }
}

fn tile(name: &str, value: &Markup, rest: &Markup) -> Markup {
    html! { div.tile { h3 { (name) } p.value { (value) } (rest) } }
}

/// Renders the tile of connections: those in use and the cap, the other states, the queue, the generation, and what the
/// pool learned of the upstream's idle timeout.
fn connections_tile(upstream: &UpstreamSnapshot) -> Markup {
    let (pool, census) = (&upstream.pool, upstream.pool.now.census);
    let old = upstream.old_generation_connections;
    tile(
        "connections",
        &html! { (census.active) small { " in use of " (Count(pool.max as u64)) } },
        &html! {
            (figures::bar(census, pool.max))
            p { (census.idle) " idle · " (census.connecting) " connecting · " (census.closing) " closing" }
            p {
                @if pool.now.queued > 0 { b.warn { (plural(pool.now.queued as u64, "request")) " in the queue" } }
                @else { "queue empty" }
                " · generation " (pool.now.generation)
                @if old > 0 { ", " b.warn { (old) " of older ones" } }
            }
            @if let Some(learned) = pool.learned { p { (words::learned(learned)) } }
            @if pool.closes_at_any_time { p { (words::CLOSES_AT_ANY_TIME) } }
        },
    )
}

/// Renders the tile of the request rate: now, over the last samples, its peak, and the number of requests since the
/// start.
fn requests_tile(upstream: &UpstreamSnapshot) -> Markup {
    let rate = &upstream.activity.requests;
    let total = upstream.counters.exchanges.requests.iter().map(|(_, count)| count).sum();
    tile(
        "requests a second",
        &html! { (PerSecond(rate.now)) small { " now" } },
        &html! {
            (figures::line(&rate.lately))
            p { "peak " (PerSecond(rate.most)) "/s since the start · " (Count(total)) " in all" }
        },
    )
}

/// Renders the tile of the durations of the last minute's requests: median, p99, and the mean with the upstream's and
/// Warmline's parts.
fn latency_tile(upstream: &UpstreamSnapshot) -> Markup {
    let times = &upstream.times;
    tile(
        "latency, last minute",
        &html! { (quantile(times.request.quantile(0.5))) small { " median" } },
        &html! {
            p { b { (quantile(times.request.quantile(0.99))) } " p99" }
            @if let Some(cost) = times.cost() {
                p { "mean " (time(times.request.mean())) ", of it upstream " (time(times.upstream())) }
                p { "Warmline adds " b { (HumanDuration(cost)) } ", queue and connecting included" }
            }
        },
    )
}

fn reuse_rate(upstream: &UpstreamSnapshot) -> String {
    upstream.pool.reuse_rate().map_or_else(|| "–".into(), |rate| Percent(rate).to_string())
}

/// Renders the tile of reuse since the start: the share of checkouts that reused a connection, the numbers of reused
/// and new ones, and that of opened connections.
fn reuse_tile(upstream: &UpstreamSnapshot) -> Markup {
    let pool = &upstream.pool;
    let new: u64 = pool.new_by_reason().map(|(_, count)| count).sum();
    tile(
        "reuse",
        &html! { (reuse_rate(upstream)) },
        &html! {
            p { (Count(pool.reused())) " on a warm connection" }
            p { (Count(new)) " on a new one" }
            p { (Count(pool.counters.opened)) " opened since the start" }
        },
    )
}

/// Renders the tile of handshakes: their rate now, over the last samples and at its peak, and the median and p99 of
/// their durations once there are any.
fn handshakes_tile(upstream: &UpstreamSnapshot) -> Markup {
    let rate = &upstream.activity.handshakes;
    let times = &upstream.counters.handshake_seconds;
    tile(
        "handshakes a second",
        &html! { (PerSecond(rate.now)) small { " now" } },
        &html! {
            (figures::line(&rate.lately))
            p { "peak " (PerSecond(rate.most)) "/s since the start" }
            @if times.count() > 0 {
                p { "took " (quantile(times.quantile(0.5))) " median, " (quantile(times.quantile(0.99))) " p99" }
            }
        },
    )
}

/// Renders the requests for which no upstream was found, with their last failures; nothing if there were none.
pub(super) fn unrouted(snapshot: &Snapshot) -> Markup {
    let total: u64 = snapshot.unrouted.requests.iter().map(|(_, count)| count).sum();
    html! {
        @if total > 0 {
            section #unrouted {
                h2 { "Requests that found no upstream" }
                p { (plural(total, "request")) " since the start: their Host is not configured, or they are malformed" }
                (tables::failures(&snapshot.unrouted, snapshot.at))
            }
        }
    }
}
