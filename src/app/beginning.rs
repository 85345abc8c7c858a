//! The first configuration: the source's, else the one kept from before the last restart. If there is neither, and
//! other programs are to bring the configuration or its certificates, the process waits, alive and not ready, and logs
//! that.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use super::{StartError, current_thread_runtime, sockets::bind};
use crate::{
    admin,
    config::{
        Bind, Errors, KeptConfiguration, Loaded, Source, SourceKind, Unusable,
        configmap::{self, ConfigMap, LostContact, Reference},
    },
    drain::Drain,
    latest::Latest,
    telemetry::log,
};

/// The time that the API server has for its first answer before the kept configuration is used, or the errors are
/// reported.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// The period at which the source is read again while the process waits.
const LOOK: Duration = Duration::from_secs(1);
/// The time over which the first requests of sidecars that start together are spread, if each has a mounted copy
/// meanwhile.
const JITTER: Duration = Duration::from_secs(2);

/// Follows a `ConfigMap` on a thread of its own, until the process ends. Without access to the API server this fails
/// only if there is no mounted copy; otherwise the copy leads.
pub fn follow_configmap(reference: Reference, has_copy: bool) -> Result<ConfigMap, StartError> {
    let (configmap, feed) = ConfigMap::new(reference.clone());
    let runtime = current_thread_runtime()?;
    let client = runtime.block_on(configmap::connect());
    let client = match client {
        Ok(client) => client,
        Err(error) if !has_copy => return Err(StartError::NotFollowed(error)),
        Err(error) => {
            let away = LostContact { since: Instant::now(), reason: error.to_string() };
            feed.known.send_modify(|known| known.away = Some(away));
            return Ok(configmap);
        }
    };
    let jitter = if has_copy { JITTER } else { Duration::ZERO };
    thread::Builder::new()
        .name("configmap".into())
        .spawn(move || runtime.block_on(configmap::follow(client, reference, feed, jitter)))
        .map_err(StartError::Thread)?;
    Ok(configmap)
}

/// Returns the first configuration: the source's, else the kept one. If neither can be used but one may still appear,
/// sets up the log, waits for it, and meanwhile serves metrics and health on the addresses in `metrics`; `None` if the
/// drain has begun before.
pub fn begin(
    source: &mut Source,
    kept: Option<&KeptConfiguration>,
    drain: &Drain,
    metrics: &[Bind],
) -> Result<Option<Loaded>, StartError> {
    let unusable = match source.load(None) {
        Ok(loaded) => return Ok(Some(loaded)),
        Err(unusable) => unusable,
    };
    if !source.may_come() {
        let kept = from_kept(source, kept, &unusable.errors);
        return kept.map(Some).ok_or(StartError::NoConfiguration(unusable.errors));
    }
    log::init(&source.log());
    let runtime = current_thread_runtime()?;
    runtime.block_on(wait(source, kept, drain, metrics, unusable))
}

/// Serves metrics and health, not ready, and reads the source again on each change and each second, until it has a
/// configuration that can be used; `None` if the drain begins before. Takes the kept configuration, if there is one,
/// once the first try to reach the API server has ended, at the latest after 5 s, and at once if no `ConfigMap` is
/// followed. Without a kept one, fails at the same time if the text itself is wrong; also fails if an address in
/// `metrics` cannot be bound. Logs each new reason for the wait.
async fn wait(
    source: &mut Source,
    kept: Option<&KeptConfiguration>,
    drain: &Drain,
    metrics: &[Bind],
    mut unusable: Unusable,
) -> Result<Option<Loaded>, StartError> {
    let reason = Arc::new(Latest::new(unusable.errors.to_string()));
    let mut serving = JoinSet::new();
    for bound in bind("metrics", metrics)? {
        serving.spawn(admin::serve_waiting(bound.listener, Arc::clone(&reason)));
    }
    let patience = Instant::now() + FIRST_WORD;
    let mut told = None;
    loop {
        let word = source.configmap().is_none_or(ConfigMap::has_spoken);
        if word || Instant::now() >= patience {
            if let Some(loaded) = from_kept(source, kept, &unusable.errors) {
                return Ok(Some(loaded));
            }
            // A text with errors of its own stays wrong until somebody writes another one.
            if unusable.hash.is_some() && !unusable.errors.only_files() {
                return Err(StartError::NoConfiguration(unusable.errors));
            }
            let text = unusable.errors.to_string();
            if told.as_ref() != Some(&text) {
                tracing::warn!(reason = text, "waiting for a configuration");
                told = Some(text);
            }
        }
        tokio::select! {
            () = drain.begun() => return Ok(None),
            () = source.changed() => {}
            () = sleep(LOOK) => {}
        }
        unusable = match source.load(None) {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(unusable) => unusable,
        };
        reason.replace(unusable.errors.to_string());
    }
}

/// Returns the configuration from before the last restart, if it was kept and can still be used; else `None`. Logs
/// either outcome, unless nothing was kept; `errors`, the current configuration's, are logged as the reason.
fn from_kept(source: &Source, kept: Option<&KeptConfiguration>, errors: &Errors) -> Option<Loaded> {
    let text = match kept?.read() {
        Ok(text) => text?,
        Err(error) => {
            tracing::warn!(%error, "the configuration that was kept cannot be read");
            return None;
        }
    };
    match source.compile(text, SourceKind::Kept, None) {
        Ok(loaded) => {
            tracing::warn!(reason = %errors, "begun with the configuration from before the last restart, because the current one cannot be used");
            Some(loaded)
        }
        Err(unusable) => {
            tracing::warn!(reason = %unusable.errors, "the configuration that was kept cannot be used either");
            None
        }
    }
}
