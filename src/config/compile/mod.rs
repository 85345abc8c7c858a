//! Compiles the document into the plan: meaning is checked here, and all errors are reported together.

mod claim;
mod credentials;
mod edge;
mod tls;
mod upstream;

use std::sync::Arc;

use super::{
    Context, Credentials,
    document::START,
    errors::{Finding, Findings},
    kind::quote,
    plan::Plan,
    section::Keys as _,
    spec::{Document, Readiness},
};
use crate::{connect::EndpointHost, telemetry::log, upstream::Settings};

/// Compiles the plan; `None` comes with at least one finding. The plan may be used only if there is no finding.
pub(super) fn plan(
    document: &Document,
    context: &Context<'_>,
    findings: &mut Findings,
) -> Option<Plan> {
    let (mut ports, confined) = (claim::ClaimedPorts::default(), context.confined);
    let metrics = edge::metrics(document.metrics.as_ref(), confined, &mut ports, findings);
    let admin = edge::admin(document.admin.as_ref(), confined, &mut ports, findings);
    let listeners = edge::listeners(document.listeners.as_ref(), confined, &mut ports, findings);
    let upstreams = upstreams(document, context, &mut ports, findings);
    let mut plan = upstreams.map(|(upstreams, credentials)| Plan {
        required_upstreams: required(document.readiness.as_ref(), &upstreams, findings),
        unnamed_upstreams: unnamed(document, &upstreams),
        listeners,
        upstreams,
        credentials,
        ..Plan::new(metrics, admin, log::Settings::by_default(context.terminal))
    });
    document.set_keys(plan.as_mut(), &mut findings.section(""));
    plan
}

/// Returns the names of the upstreams that readiness waits for. A name that no upstream has, or whose `minIdle` is 0,
/// is left out and added to the findings.
fn required(
    readiness: Option<&Readiness>,
    upstreams: &[Arc<Settings>],
    findings: &mut Findings,
) -> Vec<String> {
    let list = readiness.and_then(|readiness| readiness.requireUpstreams.as_ref());
    let Some(list) = list else { return Vec::new() };
    let mut section = findings.section("readiness");
    let mut names = Vec::new();
    for (name, path, at) in section.list("requireUpstreams", &list.value) {
        let settings = upstreams.iter().find(|settings| settings.name == name);
        let wrong = match settings.map(|settings| settings.pool.min_idle) {
            None => format!("no upstream is called {}; write one that is", quote(&name)),
            Some(0) => format!(
                "{} keeps no connection warm; set its `pool.minIdle` to 1 or more, or take it out here",
                quote(&name)
            ),
            Some(_) => {
                names.push(name);
                continue;
            }
        };
        section.push(Finding { path, at: Some(at), message: wrong });
    }
    names
}

/// Returns the names of the upstreams whose endpoint is an address and whose `serverName` was left out, so that no
/// server name goes up.
fn unnamed(document: &Document, upstreams: &[Arc<Settings>]) -> Vec<String> {
    let written = document.upstreams.iter().flat_map(|list| &list.value);
    let names = written.zip(upstreams).filter_map(|(placed, settings)| {
        let tls = placed.value.tls.as_ref();
        let says_nothing = tls.is_none_or(|tls| tls.serverName.is_none());
        let at_address = matches!(settings.endpoint.host, EndpointHost::Address(_));
        (says_nothing && at_address).then(|| settings.name.clone())
    });
    names.collect()
}

/// The end of the error for a configuration without upstreams: the smallest one that works.
const MINIMAL: &str = "write at least one, such as:\n  upstreams:\n    - name: payments\n      \
                       endpoints: [\"api.payments.example:443\"]";

/// Compiles all upstreams and reads their certificates and keys; `None`, with at least one finding, if there is no
/// upstream or one has failed.
fn upstreams(
    document: &Document,
    context: &Context<'_>,
    ports: &mut claim::ClaimedPorts,
    findings: &mut Findings,
) -> Option<(Vec<Arc<Settings>>, Credentials)> {
    let Some(written) = document.upstreams.as_ref().filter(|list| !list.value.is_empty()) else {
        let at = document.upstreams.as_ref().map_or(START, |list| list.at);
        findings.add("upstreams", at, format!("no upstream is configured; {MINIMAL}"));
        return None;
    };
    let mut compiler = upstream::Compiler::new(context, ports, findings);
    // Every upstream is compiled, so that all errors are found, though one failure fails the whole.
    let all: Vec<_> = written
        .value
        .iter()
        .enumerate()
        .map(|(index, spec)| compiler.compile(index, spec).map(Arc::new))
        .collect();
    let all: Option<_> = all.into_iter().collect();
    Some((all?, compiler.into_credentials()))
}
