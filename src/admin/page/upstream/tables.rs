//! The tables of an upstream: counts with their meaning, the last failures, and each connection.

use std::{cmp::Reverse, time::SystemTime};

use maud::{Markup, html};

use super::super::{
    super::{
        moment::{Ago, Moment},
        pools::phase,
        snapshot::UpstreamSnapshot,
    },
    numbers::{Count, PerSecond, plural},
    words,
};
use crate::{
    pool::{ConnectionView, EndReason, Rejection, Reuse},
    telemetry::{Counts, log::HumanDuration},
    tls::{Handshake, VerifyFailure},
    upstream::{Code, ExchangesSnapshot, RetryReason, RetryRefusal},
};

/// The number of connections that the page lists; `/pools` lists all.
const LISTED: usize = 200;

/// A label, its meaning, and its count.
type Row<'a> = (&'a str, String, u64);

/// Renders a table of the rows with a count above 0, the largest count first; `none` if there are no such rows.
fn table(title: &str, mut rows: Vec<Row<'_>>, none: &str) -> Markup {
    rows.retain(|(_, _, count)| *count > 0);
    rows.sort_by_key(|(_, _, count)| Reverse(*count));
    html! {
        div.panel {
            h3 { (title) }
            @if rows.is_empty() { p.muted { (none) } }
            @else {
                table {
                    @for (word, meaning, count) in rows {
                        tr { td.number { (Count(count)) } td { b { (word) } " " span.muted { (meaning) } } }
                    }
                }
            }
        }
    }
}

/// Makes a row of each count, zeros included, with the label's word and its meaning.
fn rows<L: Copy>(
    counts: &Counts<L>,
    word: impl Fn(L) -> &'static str,
    meaning: impl Fn(L) -> String,
) -> Vec<Row<'static>> {
    counts.iter().map(|(label, count)| (word(*label), meaning(*label), *count)).collect()
}

/// Renders the reasons for which requests got new connections.
pub(super) fn reasons(upstream: &UpstreamSnapshot) -> Markup {
    let mut new = upstream.pool.counters.checkouts.clone();
    new.retain(|(reuse, _)| *reuse != Reuse::Reused);
    let rows = rows(&new, Reuse::as_str, |reuse| reuse.meaning().into());
    table("Why requests got a new connection", rows, "none did yet")
}

/// Renders the reasons for which connections ended.
pub(super) fn ends(upstream: &UpstreamSnapshot) -> Markup {
    let rows =
        rows(&upstream.pool.counters.closed, EndReason::as_str, |reason| reason.meaning().into());
    table("Why connections ended", rows, "none did yet")
}

/// Renders the numbers of requests by class, of retries, made and refused, of rejections by the pool, and of refused
/// certificates.
pub(super) fn answers(exchanges: &ExchangesSnapshot, upstream: &UpstreamSnapshot) -> Markup {
    let meaning = |code| match code {
        Code::ServerError => "the upstream's, or our own: see the failures below".into(),
        Code::Aborted => "broken off before the end, by either side".into(),
        _ => String::new(),
    };
    let mut all = rows(&exchanges.requests, Code::as_str, meaning);
    all.extend(rows(&exchanges.retries, RetryReason::as_str, |reason| reason.meaning().into()));
    all.extend(rows(&exchanges.retries_refused, RetryRefusal::as_str, |reason| {
        reason.meaning().into()
    }));
    all.extend(rows(&upstream.pool.counters.rejections, Rejection::as_str, |reason| {
        reason.meaning().into()
    }));
    all.extend(rows(&upstream.counters.verify_failures, VerifyFailure::as_str, words::verify));
    table("Answers, retries, refusals", all, "no request yet")
}

/// Renders the handshakes by result: their number since the start, and their present and highest rates.
pub(super) fn handshakes(upstream: &UpstreamSnapshot) -> Markup {
    let rates = Handshake::ALL.iter().zip(&upstream.activity.by_result);
    html! {
        div.panel {
            h3 { "TLS handshakes" }
            table {
                thead { tr { th {} th.number { "all" } th.number { "now/s" } th.number { "peak/s" } } }
                @for ((result, rate), (_, count)) in rates.zip(upstream.handshakes_by_result()) {
                    tr {
                        td { b { (result.as_str()) } " " span.muted { (result.meaning()) } }
                        td.number { (Count(count)) }
                        td.number { (PerSecond(rate.now)) }
                        td.number { (PerSecond(rate.most)) }
                    }
                }
            }
        }
    }
}

/// Renders the last requests that did not get a whole response, and failed dials for the warm floor, the newest first;
/// nothing if there are none.
pub(super) fn failures(exchanges: &ExchangesSnapshot, now: SystemTime) -> Markup {
    html! {
        @if !exchanges.failures.is_empty() {
            div.failures {
                h3 { "Last failures" }
                div.scroll {
                    table {
                        thead { tr { th { "last" } th.number { "times" } th { "status" } th { "by, in stage" } th { "what happened" } } }
                        tbody {
                            @for failure in &exchanges.failures {
                                tr {
                                    td.when title={ (Moment(failure.last)) ", first " (Moment(failure.first)) } {
                                        (Ago(failure.last, now))
                                    }
                                    td.number { (Count(failure.times)) }
                                    td { b.bad { (failure.what.outcome()) } }
                                    td { (failure.what.by) ", " (failure.what.stage) }
                                    td.wide { bdi { (failure.what.text) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Renders the list of connections, at most [`LISTED`] of them, folded until a click.
pub(super) fn connections(upstream: &UpstreamSnapshot) -> Markup {
    let all = &upstream.pool.now.connections;
    html! {
        details #{ "connections-" (upstream.name) } {
            summary { "Each connection (" (plural(all.len() as u64, "connection")) ")" }
            @if all.is_empty() { p.muted { "none" } }
            @else {
                div.scroll {
                    table {
                        thead { tr {
                            th.number { "conn" } th { "state" } th.number { "age" } th.number { "requests" }
                            th { "last checkout" } th { "address" } th.number { "generation" }
                        } }
                        tbody { @for connection in all.iter().take(LISTED) { (row(connection)) } }
                    }
                }
                @if let Some(more) = all.len().checked_sub(LISTED).filter(|more| *more > 0) {
                    p { a href="/pools" { "and " (more) " more" } }
                }
            }
        }
    }
}

/// Renders a connection's row; dashes for an address or a checkout that it does not have yet.
fn row(connection: &ConnectionView) -> Markup {
    html! {
        tr {
            td.number { (connection.id) }
            td { (phase(connection.phase)) }
            td.number { (HumanDuration(connection.age)) }
            td.number { (Count(connection.uses)) }
            td { (connection.last_reuse.map_or("–", Reuse::as_str)) }
            td { @if let Some(peer) = connection.peer { (peer) } @else { "–" } }
            td.number { (connection.generation) }
        }
    }
}
