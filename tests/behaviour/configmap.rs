//! A configuration that comes from a watched `ConfigMap`, with or without a mounted copy, and from the state kept over
//! a restart.
//!
//! The tests feed the API server's side by hand; `tests/cluster` has a real API server.

use std::{fs, path::PathBuf, sync::Arc, time::Instant};

use serde_json::json;
use warmline::config::{
    CommandLineOverrides, KeptConfiguration, Source,
    configmap::{ConfigMap, ConfigMapState, Feed, LostContact, Reference},
};

use crate::support::{
    origin::Origin,
    setup::{Following, Setup},
    wait_for,
};

struct Cluster {
    configmap: ConfigMap,
    feed: Feed,
}

impl Cluster {
    fn new() -> Self {
        let reference = Reference::parse("warmline", "config.yaml").unwrap();
        let (configmap, feed) = ConfigMap::new(reference);
        Self { configmap, feed }
    }

    fn source(&self, copy: Option<PathBuf>) -> Source {
        Source::of_configmap(self.configmap.clone(), copy, CommandLineOverrides::default())
    }

    fn holds(&self, text: &str) {
        self.says(Ok(text.into()));
    }

    fn says(&self, content: Result<Arc<str>, String>) {
        self.feed
            .known
            .send_replace(ConfigMapState { content: Some(content), ..ConfigMapState::default() });
    }

    fn is_away(&self) {
        let away = LostContact { since: Instant::now(), reason: "connection refused".into() };
        self.feed.known.send_modify(|known| known.away = Some(away));
    }

    fn told(&self) -> Option<String> {
        self.feed.rejected.borrow().as_ref().map(|rejected| rejected.reason.clone())
    }
}

/// Writes the configuration into the mounted copy and starts Warmline on the `ConfigMap` with that copy.
fn with_copy(setup: Setup, cluster: &Cluster, kept: Option<KeptConfiguration>) -> Following {
    let path = setup.folder().join("config.yaml");
    fs::write(&path, setup.text()).unwrap();
    setup.start_from(cluster.source(Some(path.clone())), path, kept)
}

fn leads(warmline: &Following, source: &str) -> bool {
    let metrics = warmline.health("/metrics").text();
    let info = metrics.lines().find(|line| line.starts_with("warmline_config_info{"));
    info.expect("config_info").contains(&format!("source=\"{source}\""))
}

#[test]
fn the_watchs_content_is_put_in_force_and_named_as_the_source() {
    let origin = Origin::serving().start();
    let (cluster, setup) = (Cluster::new(), Setup::before(&origin));
    cluster.holds(&setup.text());
    let path = setup.folder().join("none");
    let mut warmline = setup.start_from(cluster.source(None), path, None);
    assert!(leads(&warmline, "watch"));
    assert_eq!(warmline.metric("warmline_config_watch_connected", &[]), 1);
    warmline.set("upstreams.0.hosts", json!(["edited.test"]));
    cluster.holds(&warmline.document.to_string());
    wait_for("the change is in force", || warmline.reloads("applied") == 1);
    assert_eq!(warmline.connect().get("edited.test", "/any").status, 200);
    cluster.is_away();
    wait_for("the watch counts as away", || {
        warmline.metric("warmline_config_watch_connected", &[]) == 0
    });
    assert_eq!(warmline.connect().get("edited.test", "/any").status, 200);
}

#[test]
fn the_mounted_copy_leads_until_the_watch_is_in_sync_and_never_takes_it_back_at_once() {
    let origin = Origin::serving().start();
    let cluster = Cluster::new();
    let mut warmline = with_copy(Setup::before(&origin), &cluster, None);
    assert!(leads(&warmline, "file"));
    assert_eq!(warmline.metric("warmline_config_watch_connected", &[]), 0);
    cluster.holds(&warmline.document.to_string());
    wait_for("the watch leads", || leads(&warmline, "watch"));
    assert_eq!(warmline.reloads("applied"), 0, "the same text is no change");
    warmline.set("upstreams.0.hosts", json!(["late.test"])).write();
    cluster.is_away();
    wait_for("the watch counts as away", || {
        warmline.metric("warmline_config_watch_connected", &[]) == 0
    });
    assert!(leads(&warmline, "watch"));
    assert_eq!(warmline.reloads("applied"), 0, "the copy does not lead though it changed");
}

#[test]
fn a_config_map_deleted_emptied_or_invalid_leaves_the_last_good_in_force_and_is_told_to_the_cluster()
 {
    let origin = Origin::serving().start();
    let (cluster, setup) = (Cluster::new(), Setup::before(&origin));
    let good = setup.text();
    cluster.holds(&good);
    let path = setup.folder().join("none");
    let warmline = setup.start_from(cluster.source(None), path, None);
    let gone = "there is no ConfigMap warmline; create it, with a key config.yaml";
    for (rejected, content, reason) in [
        (1, Err(gone.to_owned()), gone),
        (2, Ok(Arc::from("")), "no upstream is configured"),
        (3, Ok(Arc::from("upstreams: 7\n")), "configmap/warmline/config.yaml:1:12: upstreams:"),
    ] {
        cluster.says(content);
        wait_for("it is refused", || warmline.reloads("rejected") == rejected);
        assert!(cluster.told().is_some_and(|told| told.contains(reason)), "{:?}", cluster.told());
        assert_eq!(warmline.metric("warmline_config_last_reload_successful", &[]), 0);
        assert_eq!(warmline.one_shot("/any").status, 200);
    }
    cluster.holds(&good);
    wait_for("it is good again", || cluster.told().is_none());
    assert_eq!(warmline.metric("warmline_config_last_reload_successful", &[]), 1);
    assert_eq!(warmline.reloads("applied"), 0, "nothing was half applied");
}

#[test]
fn the_configuration_in_force_is_kept_and_a_restart_begins_with_it_if_the_current_one_is_invalid() {
    let origin = Origin::serving().start();
    let folder = tempfile::tempdir().unwrap();
    let kept = KeptConfiguration::new(folder.path());
    let cluster = Cluster::new();
    let mut warmline = with_copy(Setup::before(&origin), &cluster, Some(kept.clone()));
    warmline.set("upstreams.0.hosts", json!(["kept.test"])).apply();
    let good = warmline.document.to_string();
    wait_for("it is kept", || kept.read().unwrap().as_deref() == Some(&*good));
    warmline.set("upstreams.0.hosts", json!(7)).be_refused();
    assert_eq!(kept.read().unwrap().as_deref(), Some(&*good), "what was refused is not kept");

    let next = Cluster::new();
    next.holds("upstreams: 7\n");
    let path = warmline.path.clone();
    let restarted = Setup::before(&origin).start_from(next.source(None), path, Some(kept.clone()));
    assert!(leads(&restarted, "kept"));
    assert_eq!(restarted.connect().get("kept.test", "/any").status, 200);
    wait_for("the current one is told", || next.told().is_some());
    assert_eq!(restarted.metric("warmline_config_last_reload_successful", &[]), 0);
    next.holds(&good);
    wait_for("the watch leads again", || leads(&restarted, "watch"));
    assert_eq!(restarted.metric("warmline_config_last_reload_successful", &[]), 1);
}
