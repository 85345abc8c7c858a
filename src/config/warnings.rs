//! Warnings: settings that are accepted but are likely to be mistakes. `warmline check` prints all of them; the log has
//! those about certificates.

use std::{path::Path, sync::Arc, time::SystemTime};

use super::{Credentials, Loaded, Plan, document, name::ServerNameKind, written::Kind as _};
use crate::{
    connect::EndpointHost,
    pool::Sharing,
    tls::{Term, Trust},
    upstream::Settings,
};

/// Returns a warning for each setting that is likely to be a mistake; `source` is the name of the text in messages.
#[must_use]
pub fn warnings(loaded: &Loaded, source: &str, now: SystemTime) -> Vec<String> {
    let plan = &loaded.plan;
    let upstreams = plan.upstreams.iter().enumerate();
    let names = upstreams.flat_map(|(index, upstream)| {
        let path = format!("upstreams[{index}]");
        let warnings = [
            no_server_name(&path, upstream, plan),
            other_hosts(&path, upstream, plan),
            every_host_of_an_address(&path, upstream),
            warm_and_unshared(&path, upstream),
            urgency_for_a_field(&path, upstream),
        ];
        warnings.into_iter().flatten()
    });
    let names: Vec<_> = names.collect();
    let credentials = &plan.credentials;
    placed(names, source, &loaded.text)
        .into_iter()
        .chain(stray_keys(credentials))
        .chain(lone_leaves(credentials))
        .chain(unread_roots(credentials))
        .chain(expired_trust(credentials, now))
        .chain(ending_identities(credentials, now))
        .collect()
}

/// A warning about a key of the configuration, with the key's path.
struct OfKey {
    path: String,
    message: String,
}

/// Returns each warning with its key's place before it, as errors have it: `FILE:LINE:COLUMN: PATH: warning`.
fn placed(warnings: Vec<OfKey>, source: &str, text: &str) -> Vec<String> {
    let places =
        if warnings.is_empty() { document::Positions::default() } else { document::places(text) };
    let with_place = |OfKey { path, message }: OfKey| {
        let at = places.nearest(&path);
        format!("{source}:{}:{}: {path}: {message}", at.line, at.column)
    };
    warnings.into_iter().map(with_place).collect()
}

/// Returns a warning for each trust file that contains a private key: many processes read such files.
fn stray_keys(credentials: &Credentials) -> impl Iterator<Item = String> {
    credentials.trusts.iter().filter_map(|(file, trust)| {
        let (file, line) = (file.as_deref()?.display(), trust.stray_key()?);
        Some(format!(
            "{file}: line {line}: a private key, which is of no use in `trust`; take it out"
        ))
    })
}

/// Returns a warning for each trusted certificate that is a server's own and was issued by a CA: with its renewal the
/// server is refused.
fn lone_leaves(credentials: &Credentials) -> impl Iterator<Item = String> {
    let files =
        credentials.trusts.iter().filter_map(|(file, trust)| Some((file.as_deref()?, trust)));
    files.flat_map(|(file, trust)| {
        let warning = |leaf| {
            format!(
                "{}: {leaf} is a server's own, and a CA issued it: once the server renews it, it is refused; put the CA's \
                 certificate in its place",
                file.display()
            )
        };
        trust.issued_leaves().into_iter().map(warning)
    })
}

/// Returns a warning if the system's roots are in use and some of them cannot be read.
#[must_use]
pub fn unread_roots(credentials: &Credentials) -> Option<String> {
    let left_out = credentials.trusts.get(&None)?.left_out()?;
    Some(format!("the system's roots: {left_out}"))
}

/// Returns a sentence for each trusted certificate that has expired, with the consequence.
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

/// Returns a warning for each client certificate whose end is near.
fn ending_identities(credentials: &Credentials, now: SystemTime) -> impl Iterator<Item = String> {
    let ending = credentials.identities.iter();
    ending.filter(move |(_, identity)| Term::of(identity, now) > Term::Far).map(
        |(files, identity)| {
            let (file, end) = (files.certificate().display(), identity.not_after_text());
            format!("{file}: the client certificate ends on {end}; renew it before")
        },
    )
}

/// Returns a warning if the endpoint is an address and no server name was written, else `None`: many servers choose
/// their certificate by the server name (SNI), which carries no addresses.
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

/// Returns a warning if the server name (SNI) is not among the upstream's hosts, else `None`: the application's Host
/// goes up unchanged, and many servers compare the two.
fn other_hosts(path: &str, upstream: &Settings, plan: &Plan) -> Option<OfKey> {
    let name = upstream.tls.server_name.as_ref()?.as_ref().trim_end_matches('.');
    let has_name = |hosts: &[String]| hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
    let first = upstream.hosts.iter().find(|host| *host != "*")?;
    if has_name(&upstream.hosts) {
        return None;
    }
    let is_free = !plan.upstreams.iter().any(|other| has_name(&other.hosts));
    let add = is_free.then(|| format!("add `{name}` to `hosts`, as the first"));
    // An address is not suggested as a server name, because SNI carries no addresses.
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

/// Returns a warning if every host leads to an endpoint that is an address, else `None`: the upstream then has no name
/// that could go up as the Host of its own port.
fn every_host_of_an_address(path: &str, upstream: &Settings) -> Option<OfKey> {
    let EndpointHost::Address(address) = upstream.endpoint.host else { return None };
    upstream.hosts.iter().all(|host| host == "*").then(|| OfKey {
        path: format!("{path}.hosts"),
        message: format!(
            "requests to the upstream's own port go up with the Host `{address}`, as `*` is no name and the endpoint an \
             address; add the name that the server serves, before `*`"
        ),
    })
}

/// Returns a warning if connections are kept ready for everybody and belong to one client each, else `None`.
fn warm_and_unshared(path: &str, upstream: &Settings) -> Option<OfKey> {
    let (floor, sharing) = (upstream.pool.min_idle, upstream.pool.sharing);
    (floor > 0 && sharing == Sharing::Never).then(|| OfKey {
        path: format!("{path}.pool.minIdle"),
        message: format!(
            "{floor} idle connections are to be ready for any client, and with `reuse: never` one that was used is for its \
             own client alone; leave one of the two out"
        ),
    })
}

/// Returns a warning if the field that states a request's urgency is called like an urgency, else `None`.
fn urgency_for_a_field(path: &str, upstream: &Settings) -> Option<OfKey> {
    const URGENCIES: [&str; 7] = ["high", "highest", "low", "lowest", "medium", "normal", "urgent"];
    let field = upstream.priority.as_ref()?.as_str();
    URGENCIES.contains(&field).then(|| OfKey {
        path: format!("{path}.pool.priority"),
        message: format!(
            "requests are ordered by a field of the name `{field}`, which none may have; write the name of the field that \
             states each request's urgency, such as Priority, or off"
        ),
    })
}
