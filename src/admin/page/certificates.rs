//! The page's table of certificates with their expiry.

use maud::{Markup, html};

use super::super::{
    certificates::{Certificate, Group, Nearness, groups},
    snapshot::Snapshot,
};

/// The number of certificates of one group that the page lists; `/certificates` lists all.
const LISTED: usize = 12;
/// The number of digits that the page shows of a fingerprint: enough to tell two certificates apart.
const DIGITS: usize = 16;

/// Renders the section of all certificates, grouped by role and file.
pub(super) fn section(snapshot: &Snapshot) -> Markup {
    html! {
        section #certificates {
            h2 { "Certificates" }
            div.scroll {
                table {
                    thead {
                        tr { th { "expires" } th { "subject" } th { "issuer" } th { "SHA-256" } th { "role and file" } }
                    }
                    @for group in groups(snapshot) { (rows(&group, snapshot)) }
                }
            }
        }
    }
}

/// Renders the rows of one group: its first certificates and the number of the others; or one row without a certificate
/// if none is listed, as of the system's roots.
fn rows(group: &Group, snapshot: &Snapshot) -> Markup {
    html! {
        tbody {
            @if group.certificates.is_empty() {
                tr { td colspan="4" { (group.place()) } td { (group.title()) } }
            }
            @for certificate in group.certificates.iter().take(LISTED) {
                tr {
                    (expiry(group, certificate, snapshot))
                    td.name { bdi { (certificate.subject) } }
                    td.name.issuer { bdi { (certificate.issuer) } }
                    td { code title=(certificate.fingerprint) { (certificate.fingerprint.get(..DIGITS).unwrap_or_default()) "…" } }
                    td.wide { (group.title()) " " span.muted { (group.place()) } }
                }
            }
            @if let Some(more) = group.certificates.len().checked_sub(LISTED).filter(|more| *more > 0) {
                tr { td colspan="5" { a href="/certificates" { "and " (more) " more" } } }
            }
        }
    }
}

/// Renders the cell of a certificate's end, marked as a warning from 14 days before the end on and as bad from 3 days
/// on.
fn expiry(group: &Group, certificate: &Certificate, snapshot: &Snapshot) -> Markup {
    let class = match certificate.nearness(snapshot.at) {
        Nearness::Far => "",
        Nearness::Near => "warn",
        Nearness::VeryNear => "bad",
    };
    html! {
        td.when title=(certificate.not_after) {
            span class=(class) { (certificate.left(snapshot.at)) }
            (group.note(certificate, snapshot.at))
        }
    }
}
