//! Warnings: settings that are accepted and are likely to be mistakes. `warmline check` prints them; the log has those of certificates.

use std::{path::Path, sync::Arc, time::SystemTime};

use super::{Credentials, Loaded, Plan, document, name::ServerNameKind, written::Kind as _};
use crate::{tls::Trust, upstream::Settings};

/// Everything in a configuration that its writer should look at once more; `source` is what messages call its text.
#[must_use]
pub fn warnings(loaded: &Loaded, source: &str, now: SystemTime) -> Vec<String> {
    let plan = &loaded.plan;
    let upstreams = plan.upstreams.iter().enumerate();
    let names = upstreams.flat_map(|(index, upstream)| {
        let path = format!("upstreams[{index}]");
        [no_server_name(&path, upstream, plan), other_hosts(&path, upstream, plan)]
            .into_iter()
            .flatten()
    });
    let names: Vec<_> = names.collect();
    let credentials = &plan.credentials;
    placed(names, source, &loaded.text)
        .into_iter()
        .chain(stray_keys(credentials))
        .chain(unread_roots(credentials))
        .chain(expired_trust(credentials, now))
        .collect()
}

/// A warning about a key of the configuration, and the key's path.
struct OfKey {
    path: String,
    message: String,
}

/// Puts the place of its key before each warning: `FILE:LINE:COLUMN: PATH: warning`, as errors have it.
fn placed(warnings: Vec<OfKey>, source: &str, text: &str) -> Vec<String> {
    let places =
        if warnings.is_empty() { document::Places::default() } else { document::places(text) };
    let with_place = |OfKey { path, message }: OfKey| {
        let at = places.nearest(&path);
        format!("{source}:{}:{}: {path}: {message}", at.line, at.column)
    };
    warnings.into_iter().map(with_place).collect()
}

/// Private keys in files that are read by all who need to know whom to trust.
fn stray_keys(credentials: &Credentials) -> impl Iterator<Item = String> {
    credentials.trusts.iter().filter_map(|(file, trust)| {
        let (file, line) = (file.as_deref()?.display(), trust.stray_key()?);
        Some(format!(
            "{file}: line {line}: a private key, which is of no use in `trust`; take it out"
        ))
    })
}

/// Words about the machine's own roots, if they are in use and some of them cannot be read.
#[must_use]
pub fn unread_roots(credentials: &Credentials) -> Option<String> {
    let left_out = credentials.trusts.get(&None)?.left_out()?;
    Some(format!("the system's roots: {left_out}"))
}

/// The trusted certificates whose time is over, each with what follows from that.
#[must_use]
pub fn expired_trust(credentials: &Credentials, now: SystemTime) -> Vec<String> {
    let files =
        credentials.trusts.iter().filter_map(|(file, trust)| Some((file.as_deref()?, trust)));
    let expired = |(file, trust): (&Path, &Arc<Trust>)| {
        let expired = trust.expired(now).into_iter();
        let file = file.display().to_string();
        expired.map(move |certificate| format!("{file}: {certificate}"))
    };
    files.flat_map(expired).collect()
}

/// An address has no server name, and many servers choose their certificate by that.
fn no_server_name(path: &str, upstream: &Settings, plan: &Plan) -> Option<OfKey> {
    let verify_name = upstream.tls.verify_name.to_str();
    plan.unnamed_upstreams.contains(&upstream.name).then(|| OfKey {
        path: format!("{path}.tls.serverName"),
        message: format!(
            "the endpoint is an address, so no server name (SNI) is sent, and the certificate must \
             carry {verify_name}; write the name that the server is to choose its certificate by, or none if it needs none"
        ),
    })
}

/// The application's Host goes up as it is, and many servers compare it with the server name.
fn other_hosts(path: &str, upstream: &Settings, plan: &Plan) -> Option<OfKey> {
    let name = upstream.tls.server_name.as_ref()?.as_ref().trim_end_matches('.');
    let has_name = |hosts: &[String]| hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
    let first = upstream.hosts.iter().find(|host| *host != "*")?;
    if has_name(&upstream.hosts) {
        return None;
    }
    let is_free = !plan.upstreams.iter().any(|other| has_name(&other.hosts));
    let add = is_free.then(|| format!("add `{name}` to `hosts`, as the first"));
    // SNI carries no addresses.
    let is_name = matches!(ServerNameKind::read(first), Ok(Some(_)));
    let rename = is_name.then(|| format!("write `tls.serverName: {first}`"));
    let remedies: Vec<_> = [add, rename].into_iter().flatten().collect();
    let remedy = match remedies.join(", or ") {
        none if none.is_empty() => "ask its operator whether it takes both".into(),
        remedies => format!("{remedies}, unless it takes both"),
    };
    let message = format!(
        "requests go up with the Host `{first}` and the server name (SNI) `{name}`; a server that compares \
         them answers 421 or 404: {remedy}"
    );
    Some(OfKey { path: format!("{path}.hosts"), message })
}
