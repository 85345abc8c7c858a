//! The page for people: all of one snapshot, rendered here, so that the page is whole without scripts. The page's
//! script fetches the page again and replaces the parts that differ.
//!
//! `maud` escapes all inserted text; nothing here uses `PreEscaped`.

mod certificates;
mod figures;
mod header;
mod numbers;
mod upstream;
mod words;

use maud::{DOCTYPE, Markup, html};

use super::snapshot::Snapshot;

/// The page's style sheet.
pub(super) const STYLE: &str = include_str!("page.css");
/// The page's script, which refreshes the page.
pub(super) const SCRIPT: &str = include_str!("page.js");
/// The icon of the page's tab.
pub(super) const ICON: &str = include_str!("icon.svg");

/// The Content-Security-Policy of the page: nothing is loaded from other origins, nothing is inline, and no other page
/// frames this one.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Renders the whole page as HTML. A browser without scripts loads the page again every 5 s.
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

/// Renders the visible part of the page, which the script replaces: header, refused changes, each upstream,
/// certificates, configuration, acts and footer. The table of all upstreams is left out if there is only one.
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
