//! The page's parts about the process: the head with its readiness, refused changes, the configuration, acts, the
//! footer.

use maud::{Markup, html};

use super::{
    super::{
        moment::{Ago, Moment, Span},
        plan,
        snapshot::Snapshot,
    },
    numbers::{Count, plural},
    upstream::{Health, health},
};
use crate::{
    config::Outcome,
    telemetry::{Counts, log::HumanDuration},
};

/// Returns the title for the browser's tab: a drain or the number of failing upstreams first.
pub(super) fn title(snapshot: &Snapshot) -> String {
    let bad = |upstream: &_| matches!(health(upstream, snapshot.at), Health::Failing(_));
    let failing = snapshot.upstreams.iter().filter(|upstream| bad(upstream)).count();
    match (snapshot.draining, failing) {
        (true, _) => "draining · Warmline".into(),
        (false, 0) => "Warmline".into(),
        (false, failing) => format!("{failing} failing · Warmline"),
    }
}

/// Renders the head of the page: name, version, readiness and uptime.
pub(super) fn bar(snapshot: &Snapshot) -> Markup {
    html! {
        header {
            h1 { "Warmline " small { (env!("CARGO_PKG_VERSION")) } }
            (readiness(snapshot))
            p.what { "HTTP on localhost in, pooled mutual TLS out" }
            p.facts {
                "up " b { (Span(snapshot.uptime)) }
                " · configuration " b { code { (snapshot.configuration.hash()) } }
                " · " time #at { (Moment(snapshot.at)) }
            }
        }
    }
}

/// Renders the state of the process as one label: draining, or the first failed check of `/readyz`, or ready.
fn readiness(snapshot: &Snapshot) -> Markup {
    let failed = snapshot.ready.text.lines().find_map(|line| line.strip_prefix("[-]"));
    html! {
        @if snapshot.draining {
            span.pill.warn { "draining: Warmline is ending" }
        } @else if let Some(failed) = failed {
            span.pill.bad { "not ready: " (failed) }
        } @else {
            span.pill.good { "ready" }
        }
    }
}

/// Renders an alarm for each configuration, certificate, key or trust that was refused and not replaced since; nothing
/// if there is none.
pub(super) fn refusals(snapshot: &Snapshot) -> Markup {
    let refused = &snapshot.configuration.refused;
    html! {
        @if let Some(refusal) = &refused.configuration {
            section.alarm #refused role="alert" {
                h2 { "The changed configuration cannot be used. The old one stays in force." }
                pre { (refusal.reason) }
                (since(refusal.since, snapshot))
            }
        }
        @for (stale, at) in &refused.credentials {
            section.alarm role="alert" {
                h2 { "A changed certificate, key or trust cannot be used. The old one stays in force." }
                pre { (stale.reason) }
                (since(*at, snapshot))
            }
        }
    }
}

fn since(at: std::time::SystemTime, snapshot: &Snapshot) -> Markup {
    html! { p.muted { "since " (Moment(at)) ", for " (Span::between(at, snapshot.at)) } }
}

/// Renders the section of the configuration in force: its hash, source, age and changes, a lost watch, and the whole as
/// YAML. A button to reload is there if a source is followed.
pub(super) fn configuration(snapshot: &Snapshot) -> Markup {
    let configuration = &snapshot.configuration;
    let since = configuration.in_force.since;
    html! {
        section #configuration {
            div.title {
                h2 { "Configuration in force" }
                @if configuration.place.is_some() {
                    form.verbs method="post" action="/reload" {
                        button title="Look at the files now, and put what is found in force" { "Reload" }
                    }
                }
            }
            dl.facts {
                div { dt { "hash" } dd { code { (configuration.hash()) } } }
                div { dt { "source" } dd { (plan::source(snapshot)) } }
                @if let Some(Err(away)) = &configuration.watch {
                    div { dt { "watch" } dd.bad { "away: " (away.reason) } }
                }
                div { dt { "since" } dd { (Moment(since)) " (" (Span::between(since, snapshot.at)) ")" } }
                div { dt { "configuration changes" } dd { (outcomes(&configuration.reloads)) } }
                div { dt { "certificate changes" } dd { (outcomes(&configuration.credentials)) } }
            }
            details #plan { summary { "The whole, defaults included" } pre { (plan::yaml(snapshot)) } }
        }
    }
}

fn outcomes(counts: &Counts<Outcome>) -> String {
    let each = counts.iter();
    let each = each.map(|(outcome, count)| format!("{} {}", Count(*count), outcome.as_str()));
    each.collect::<Vec<_>>().join(", ")
}

/// Renders the last acts of operators, the newest first; nothing if there are none.
pub(super) fn acts(snapshot: &Snapshot) -> Markup {
    html! {
        @if !snapshot.acts.is_empty() {
            section #acts {
                h2 { "What operators did since the start" }
                table {
                    @for act in &snapshot.acts {
                        tr {
                            td.when { (Ago(act.last, snapshot.at)) }
                            td { b { (act.what.what) } @if act.times > 1 { " ×" (act.times) } }
                            td.wide { (act.what.outcome) }
                        }
                    }
                }
            }
        }
    }
}

/// Renders the footer: the process's resources, and links to the same content for programs.
pub(super) fn footer(snapshot: &Snapshot) -> Markup {
    let process = &snapshot.process;
    html! {
        footer {
            p {
                @if let Some(bytes) = process.resident_memory {
                    "memory " b { (format!("{:.1} MiB", bytes as f64 / 1_048_576.0)) } " · "
                }
                @if let Some(seconds) = process.cpu_seconds {
                    "CPU " b { (HumanDuration(std::time::Duration::from_secs_f64(seconds))) } " · "
                }
                @if let Some(open) = process.open_fds { b { (plural(open, "descriptor")) } }
                @if let Some(max) = process.max_fds { " of " (Count(max)) }
            }
            @let ended = ended(snapshot);
            @if !ended.is_empty() { p { "connections ended: " (ended) } }
            p {
                "As text: " a href="/pools" { "/pools" } " " a href="/certificates" { "/certificates" }
                " " a href="/plan" { "/plan" } "; as JSON: "
                a href="/pools?format=json" { "pools" } " "
                a href="/certificates?format=json" { "certificates" } " "
                a href="/plan?format=json" { "plan" }
            }
        }
    }
}

/// Returns the numbers of ended connections, by side and manner, as text; empty if none has ended.
fn ended(snapshot: &Snapshot) -> String {
    let ended = snapshot.ends.iter().filter(|(_, count)| *count > 0);
    let ended = ended.map(|((side, how), count)| {
        format!("{} {}, {}", side.as_str(), how.as_str(), Count(*count))
    });
    ended.collect::<Vec<_>>().join("; ")
}
