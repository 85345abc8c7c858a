//! The page for people: everything of one snapshot, rendered here, so that it is whole without scripts. A script of ours
//! fetches it again and replaces what differs.
//!
//! `maud` escapes whatever is put in; nothing here uses its way around that.

mod certificates;
mod figures;
mod header;
mod numbers;
mod upstream;
mod words;

use maud::{DOCTYPE, Markup, html};

use super::snapshot::Snapshot;

/// What the page looks like.
pub(super) const STYLE: &str = include_str!("page.css");
/// What refreshes it.
pub(super) const SCRIPT: &str = include_str!("page.js");
/// What stands in its tab.
pub(super) const ICON: &str = include_str!("icon.svg");

/// What a browser may do with it: nothing comes from elsewhere, nothing is inline, and nobody frames it.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The page.
pub(super) fn render(snapshot: &Snapshot) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (header::title(snapshot)) }
                link rel="stylesheet" href="/page.css";
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                script src="/page.js" defer {}
                noscript { meta http-equiv="refresh" content="5"; }
            }
            body {
                p #stale role="status" hidden {}
                div #page { (content(snapshot)) }
            }
        }
    };
    page.into_string()
}

fn content(snapshot: &Snapshot) -> Markup {
    html! {
        (header::bar(snapshot))
        main {
            (header::refusals(snapshot))
            @if snapshot.upstreams.len() > 1 { (upstream::overview(snapshot)) }
            @for upstream in &snapshot.upstreams { (upstream::section(upstream, snapshot.at)) }
            (upstream::unrouted(snapshot))
            (certificates::section(snapshot))
            (header::configuration(snapshot))
            (header::acts(snapshot))
        }
        (header::footer(snapshot))
    }
}

#[cfg(test)]
mod tests;
