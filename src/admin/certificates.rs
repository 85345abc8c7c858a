//! `/certificates`: the certificates that verify upstreams, those that Warmline shows to upstreams, and those that
//! upstreams showed.

use std::{
    fmt::Write as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    moment::{Moment, Span},
    on_one_line, refused,
    snapshot::Snapshot,
};
use crate::{
    config::Plan,
    tls::{self, CertificateUse, Trust},
};

/// A certificate's end is near from this time before its end on.
const NEAR: Duration = Duration::from_hours(14 * 24);
const VERY_NEAR: Duration = Duration::from_hours(3 * 24);

/// The use of a group of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    /// Warmline shows the certificate to upstreams.
    Identity,
    /// The certificate is trusted: upstreams are verified by it.
    Trust,
    /// The certificate is of the chain that the upstream showed last.
    Upstream,
}

/// Certificates from the same files, or shown by the same upstream.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    pub role: Role,
    /// The files that the certificates were read from; empty for a chain that an upstream showed, and for the system's
    /// roots.
    pub files: Vec<PathBuf>,
    /// True for the system's roots, which are not listed one by one.
    pub system: bool,
    pub upstreams: Vec<String>,
    pub certificates: Vec<Certificate>,
    /// The outcome of the last question for Warmline's certificate, for each of `upstreams` in their order. Empty
    /// unless the role is `Identity`.
    #[serde(skip)]
    pub shown: Vec<CertificateUse>,
}

/// A certificate, as pages show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// The SHA-256 of the whole certificate, in hexadecimal.
    pub fingerprint: String,
    pub not_before: String,
    pub not_after: String,
    #[serde(skip)]
    pub ends: SystemTime,
    /// True if the certificate is marked as a CA.
    #[serde(skip)]
    pub is_ca: bool,
    pub seconds_left: i64,
}

/// The nearness of a certificate's end, in three grades.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Nearness {
    Far,
    Near,
    /// The end is at most 3 days away, or past.
    VeryNear,
}

impl Certificate {
    /// Returns the nearness of the certificate's end: `VeryNear` from 3 days before the end on and after it, `Near`
    /// from 14 days before it on.
    pub(super) fn nearness(&self, now: SystemTime) -> Nearness {
        let left = self.ends.duration_since(now).unwrap_or_default();
        match left {
            left if left <= VERY_NEAR => Nearness::VeryNear,
            left if left <= NEAR => Nearness::Near,
            _ => Nearness::Far,
        }
    }

    /// Returns the time until the end, or since, for people: `412d 3h left`, `over since 3h 12m`.
    pub(super) fn left(&self, now: SystemTime) -> String {
        match self.ends.duration_since(now) {
            Ok(left) => format!("{} left", Span(left)),
            Err(_) => format!("over since {}", Span::between(self.ends, now)),
        }
    }

    /// Parses a certificate for the page; `None` if it is not well-formed DER. `seconds_left` counts from `now`, and is
    /// negative for an expired certificate.
    fn of(der: &CertificateDer<'_>, now: SystemTime) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        let (begins, ends) = (Moment::from(validity.not_before), Moment::from(validity.not_after));
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Some(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            fingerprint: tls::fingerprint(der),
            not_before: begins.to_string(),
            not_after: ends.to_string(),
            ends: ends.0,
            is_ca: certificate.is_ca(),
            seconds_left: seconds(ends.0).cast_signed() - seconds(now).cast_signed(),
        })
    }
}

/// Returns all certificates that matter now: Warmline's own first, then the trusted ones, then those that upstreams
/// showed.
pub(super) fn groups(snapshot: &Snapshot) -> Vec<Group> {
    let plan = &snapshot.configuration.in_force.plan;
    let mut groups = Vec::new();
    for (files, identity) in &plan.credentials.identities {
        let used = |tls: &tls::Settings| {
            tls.identity.as_ref().is_some_and(|used| Arc::ptr_eq(used, identity))
        };
        let mut group = Group::new(Role::Identity, files.paths(), users(plan, used));
        group.shown = group.upstreams.iter().map(|name| identity_shown(snapshot, name)).collect();
        groups.push(group.of(identity.chain(), snapshot.at));
    }
    for (file, trust) in &plan.credentials.trusts {
        let used = |tls: &tls::Settings| Arc::ptr_eq(&tls.trust, trust);
        let files = file.iter().cloned().collect();
        let group = Group::new(Role::Trust, files, users(plan, used));
        groups.push(group.of_trust(trust, snapshot.at));
    }
    for upstream in &snapshot.upstreams {
        let Some(shown) = &upstream.shown else { continue };
        let group = Group::new(Role::Upstream, Vec::new(), vec![upstream.name.clone()]);
        groups.push(group.of(shown, snapshot.at));
    }
    groups
}

/// Returns the outcome of the last question for Warmline's certificate by the upstream of this name.
fn identity_shown(snapshot: &Snapshot, name: &str) -> CertificateUse {
    let upstream = snapshot.upstreams.iter().find(|upstream| upstream.name == name);
    upstream.map(|upstream| upstream.identity_shown).unwrap_or_default()
}

/// Returns the names of the upstreams whose TLS settings pass the test `used`.
fn users(plan: &Plan, used: impl Fn(&tls::Settings) -> bool) -> Vec<String> {
    let users = plan.upstreams.iter().filter(|upstream| used(&upstream.tls));
    users.map(|upstream| upstream.name.clone()).collect()
}

impl Group {
    fn new(role: Role, files: Vec<PathBuf>, upstreams: Vec<String>) -> Self {
        Self { role, files, system: false, upstreams, certificates: Vec::new(), shown: Vec::new() }
    }

    fn of(self, chain: &[CertificateDer<'_>], now: SystemTime) -> Self {
        let certificates = chain.iter().filter_map(|der| Certificate::of(der, now)).collect();
        Self { certificates, ..self }
    }

    /// Returns the group with these trusted certificates; of the machine's own roots, it only says that they are in
    /// use.
    fn of_trust(self, trust: &Trust, now: SystemTime) -> Self {
        if trust.is_system() {
            return Self { system: true, ..self };
        }
        self.of(trust.certificates(), now)
    }

    /// Returns the files that the certificates were read from, for people; empty for a chain that an upstream showed.
    pub(super) fn place(&self) -> String {
        if self.system {
            return "the system's roots".into();
        }
        let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        files.join(", ")
    }

    /// Returns a remark about the end of a certificate where the effect of that end is not plain; else an empty text.
    /// An expired CA goes on verifying others, but a server that shows a trusted, expired certificate itself is
    /// refused.
    pub(super) fn note(&self, certificate: &Certificate, now: SystemTime) -> &'static str {
        match self.role {
            Role::Trust if certificate.ends >= now => "",
            Role::Trust if certificate.is_ca => {
                ", believed all the same until it is taken out of `trust`, but not as a server's own"
            }
            Role::Trust => ", and a server that shows it is refused",
            Role::Identity | Role::Upstream => "",
        }
    }

    /// Returns the upstreams by the outcome of the question for Warmline's certificate: shown, not asked for, or asked
    /// for and not shown.
    fn shown_to(&self) -> String {
        const WORDS: [(CertificateUse, &str); 3] = [
            (CertificateUse::Sent, "shown to"),
            (CertificateUse::NotAsked, "not asked for so far by"),
            (
                CertificateUse::NoSignature,
                "asked for and not shown, as its key can make no signature that is taken, by",
            ),
        ];
        let of = |(what, words): (CertificateUse, &str)| {
            let shown = self.upstreams.iter().zip(&self.shown);
            let names: Vec<_> =
                shown.filter(|(_, shown)| **shown == what).map(|(n, _)| &n[..]).collect();
            (!names.is_empty()).then(|| format!("{words} {}", names.join(", ")))
        };
        WORDS.into_iter().filter_map(of).collect::<Vec<_>>().join("; ")
    }

    /// Returns the use of the certificates with the upstreams concerned, for people: those that did or did not ask for
    /// them, those that they are trusted for, or the one that showed them.
    pub(super) fn title(&self) -> String {
        let upstreams = self.upstreams.join(", ");
        match self.role {
            Role::Identity => self.shown_to(),
            Role::Trust => format!("trusted for {upstreams}"),
            Role::Upstream => format!("shown by {upstreams}"),
        }
    }
}

/// Renders the page as JSON, for programs: one object, with all groups under `certificates`, and the changes that were
/// refused under `refused`.
pub(super) fn json(snapshot: &Snapshot) -> String {
    let page =
        serde_json::json!({ "certificates": groups(snapshot), "refused": refused::json(snapshot) });
    format!("{page:#}\n")
}

/// Renders the page as text, for people: the changes that were refused, then each group with its files, and four lines
/// for each certificate.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let mut page = refused::text(snapshot);
    if !page.is_empty() {
        page.push('\n');
    }
    for group in groups(snapshot) {
        let place = group.place();
        let place = if place.is_empty() { place } else { format!("  ({place})") };
        let _ = writeln!(page, "{}{place}", group.title());
        for certificate in &group.certificates {
            let Certificate { subject, issuer, fingerprint, not_after, .. } = certificate;
            let left = certificate.left(snapshot.at);
            let note = group.note(certificate, snapshot.at);
            let (subject, issuer) = (on_one_line(subject), on_one_line(issuer));
            let _ = writeln!(page, "  subject      {subject}\n  issuer       {issuer}");
            let _ = writeln!(page, "  expires      {not_after} ({left}{note})");
            let _ = writeln!(page, "  fingerprint  {fingerprint}\n");
        }
    }
    page
}
