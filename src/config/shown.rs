//! The form in which a plan is shown: the document that users write, with every default. The declarations in `spec` show
//! all settings that they set; here are the others.

use std::{path::PathBuf, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    credentials::{Credentials, IdentityFiles},
    name::{
        BindAddress, EndpointAddress, FilePath, Host, ServerNameKind, UpstreamName, VerifyName,
    },
    plan::{self, Bind, Plan},
    section::Keys,
    spec,
    written::Kind,
};
use crate::{tls, upstream};

/// A plan in the form of the document.
pub(crate) struct ShownPlan<'a>(pub(crate) &'a Plan);

impl Serialize for ShownPlan<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(plan) = *self;
        let upstreams = plan.upstreams.iter().map(|settings| Upstream(settings, &plan.credentials));
        let mut map = serializer.serialize_map(None)?;
        spec::Document::show_keys(plan, &mut map, &mut |key, map| match key {
            "metrics" => map.serialize_entry(key, &Edge { bind: binds(&plan.metrics) }),
            "admin" => map.serialize_entry(key, &Edge { bind: binds(&plan.admin) }),
            "readiness" => map.serialize_entry(key, &Readiness::of(plan)),
            "listeners" => {
                map.serialize_entry(key, &plan.listeners.iter().map(Listener).collect::<Vec<_>>())
            }
            "upstreams" => map.serialize_entry(key, &upstreams.clone().collect::<Vec<_>>()),
            _ => Ok(()),
        })?;
        map.end()
    }
}

#[derive(Serialize)]
struct Edge<B> {
    bind: B,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Readiness<N> {
    require_upstreams: N,
}

impl Readiness<()> {
    fn of(plan: &Plan) -> Readiness<impl Serialize> {
        Readiness { require_upstreams: all::<UpstreamName>(&plan.required_upstreams) }
    }
}

/// A listener of a plan in the form of the document.
struct Listener<'a>(&'a plan::Listener);

impl Serialize for Listener<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(listener) = *self;
        let is_open = |bind: &Bind| !bind.address.ip().is_loopback();
        let mut map = serializer.serialize_map(None)?;
        spec::Listener::show_keys(listener, &mut map, &mut |key, map| match key {
            "bind" => map.serialize_entry(key, &binds(&listener.binds)),
            "allowNonLoopback" => map.serialize_entry(key, &listener.binds.iter().any(is_open)),
            _ => Ok(()),
        })?;
        map.end()
    }
}

/// An upstream of a plan, with the plan's credentials, in the form of the document.
struct Upstream<'a>(&'a upstream::Settings, &'a Credentials);

impl Serialize for Upstream<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(settings, credentials) = *self;
        let mut map = serializer.serialize_map(None)?;
        spec::Upstream::show_keys(settings, &mut map, &mut |key, map| match key {
            "name" => map.serialize_entry(key, &UpstreamName::show(&settings.name)),
            "hosts" => map.serialize_entry(key, &all::<Host>(&settings.hosts)),
            "port" => present(map, key, settings.port),
            "endpoints" => map.serialize_entry(key, &[EndpointAddress::show(&settings.endpoint)]),
            "tls" => map.serialize_entry(key, &Tls(&settings.tls, credentials)),
            _ => Ok(()),
        })?;
        map.end()
    }
}

/// The TLS settings of an upstream, with the plan's credentials, in the form of the document.
struct Tls<'a>(&'a tls::Settings, &'a Credentials);

impl Serialize for Tls<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(settings, credentials) = *self;
        let trust = trust_file(credentials, settings);
        let identity = identity_files(credentials, settings);
        let mut map = serializer.serialize_map(None)?;
        spec::Tls::show_keys(settings, &mut map, &mut |key, map| match key {
            "serverName" => map.serialize_entry(key, &ServerNameKind::show(&settings.server_name)),
            "verifyName" => map.serialize_entry(key, &VerifyName::show(&settings.verify_name)),
            "trust" => present(map, key, trust.map(FilePath::show)),
            "identity" => present(map, key, identity.map(Identity::of)),
            _ => Ok(()),
        })?;
        map.end()
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Identity<F> {
    Pair { certificate: F, key: F },
    Bundle { bundle: F },
}

impl Identity<()> {
    /// Returns the paths of an identity's files in the form of the document.
    fn of(files: &IdentityFiles) -> Identity<impl Serialize> {
        match files {
            IdentityFiles::Pair { certificate, key } => Identity::Pair {
                certificate: FilePath::show(certificate),
                key: FilePath::show(key),
            },
            IdentityFiles::Bundle(bundle) => Identity::Bundle { bundle: FilePath::show(bundle) },
        }
    }
}

/// Returns the file that an upstream's trust was read from; `None` for the system's roots.
fn trust_file<'a>(credentials: &'a Credentials, settings: &tls::Settings) -> Option<&'a PathBuf> {
    let mut trusts = credentials.trusts.iter();
    trusts.find(|(_, trust)| Arc::ptr_eq(trust, &settings.trust))?.0.as_ref()
}

/// Returns the files that an upstream's identity was read from; `None` if the upstream has none.
fn identity_files<'a>(
    credentials: &'a Credentials,
    settings: &tls::Settings,
) -> Option<&'a IdentityFiles> {
    let mut identities = credentials.identities.iter();
    let used = settings.identity.as_ref()?;
    let (files, _) = identities.find(|(_, identity)| Arc::ptr_eq(identity, used))?;
    Some(files)
}

/// Writes the entry if there is a value; users leave such a key out.
fn present<M: SerializeMap>(
    map: &mut M,
    key: &str,
    value: Option<impl Serialize>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(key, &value))
}

fn all<K: Kind>(values: &[K::Value]) -> impl Serialize {
    values.iter().map(K::show).collect::<Vec<_>>()
}

fn binds(binds: &[Bind]) -> impl Serialize {
    binds.iter().map(|bind| BindAddress::show(&bind.address)).collect::<Vec<_>>()
}
