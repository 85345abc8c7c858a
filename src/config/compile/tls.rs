//! An upstream's TLS: names, trust, identity. Reads the files.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::{DnsName, ServerName};

use crate::{
    config::{
        Context, defaults,
        errors::Section,
        name::{FilePath, dns_name},
        spec,
        written::{Placed, Position, Written},
    },
    connect::EndpointHost,
    tls::{
        Identity, Settings, Trust,
        identity::{Concern, IdentityError},
    },
};

/// Reads certificates and keys. A trust bundle that several upstreams name is read once and held
/// once.
pub(super) struct Credentials<'a> {
    context: &'a Context<'a>,
    /// `None` are the system's roots.
    trusts: HashMap<Option<PathBuf>, Arc<Trust>>,
}

impl<'a> Credentials<'a> {
    pub(super) fn new(context: &'a Context<'a>) -> Self {
        Self { context, trusts: HashMap::new() }
    }

    /// The settings, or `None` with at least one finding, here or about the endpoint.
    pub(super) fn settings(
        &mut self,
        written: Option<&spec::Tls>,
        at: Position,
        endpoint: Option<&EndpointHost>,
        section: &mut Section<'_>,
    ) -> Option<Settings> {
        let left_out = spec::Tls::default();
        let tls = written.unwrap_or(&left_out);
        let server_name = server_name(tls, endpoint, section);
        let verify_name = verify_name(tls, server_name.as_ref(), endpoint, section);
        let trust = self.trust(tls.trust.as_ref(), at, section);
        let identity = self.identity(tls.identity.as_ref(), section);
        let min_version =
            section.value("minVersion", tls.min_version.as_ref(), defaults::MIN_VERSION);
        Some(Settings {
            server_name,
            verify_name: verify_name?,
            trust: trust?,
            identity: identity.ok()?,
            min_version,
        })
    }

    fn trust(
        &mut self,
        written: Option<&Written<FilePath>>,
        at: Position,
        section: &mut Section<'_>,
    ) -> Option<Arc<Trust>> {
        let path = match written {
            Some(written) => Some(section.written("trust", Some(written))?),
            None => None,
        };
        if let Some(trust) = self.trusts.get(&path) {
            return Some(trust.clone());
        }
        let read = match &path {
            Some(path) => self.read(path).and_then(|pem| about(path, Trust::from_pem(&pem))),
            None => self.context.files.system_trust().map_err(|error| error.to_string()),
        };
        match read {
            Ok(trust) => Some(self.trusts.entry(path).or_insert(Arc::new(trust)).clone()),
            Err(message) => {
                section.add("trust", written.map_or(at, |written| written.at), message);
                None
            }
        }
    }

    /// The identity, `None` for one-way TLS; an error was reported.
    fn identity(
        &self,
        written: Option<&Placed<spec::Identity>>,
        section: &mut Section<'_>,
    ) -> Result<Option<Arc<Identity>>, ()> {
        let Some(Placed { value: spec, at }) = written else { return Ok(None) };
        let mut section = section.section("identity");
        let read = match (&spec.certificate, &spec.key, &spec.bundle) {
            (Some(certificate), Some(key), None) => self.pair(certificate, key, &mut section),
            (None, None, Some(bundle)) => self.bundle(bundle, &mut section),
            (certificate, key, bundle) => {
                let wrong = wrong_parts(certificate.is_some(), key.is_some(), bundle.is_some());
                section.add(
                    "",
                    *at,
                    format!("{wrong}; write `certificate` and `key`, or `bundle` alone"),
                );
                None
            }
        };
        read.map(|identity| Some(Arc::new(identity))).ok_or(())
    }

    fn pair(
        &self,
        certificate: &Written<FilePath>,
        key: &Written<FilePath>,
        section: &mut Section<'_>,
    ) -> Option<Identity> {
        let chain = self.content("certificate", certificate, section);
        let secret = self.content("key", key, section);
        let ((chain_path, chain), (key_path, secret)) = (chain?, secret?);
        let identity = Identity::from_pem(&chain, &secret);
        let error = match identity.and_then(|identity| self.valid_now(identity)) {
            Ok(identity) => return Some(identity),
            Err(error) => error,
        };
        let (chain_path, key_path) = (chain_path.display(), key_path.display());
        let (name, at, files) = match error.concern() {
            Concern::Certificate => ("certificate", certificate.at, chain_path.to_string()),
            Concern::Key => ("key", key.at, key_path.to_string()),
            Concern::Both => ("key", key.at, format!("{key_path} with {chain_path}")),
        };
        section.add(name, at, format!("{files}: {error}"));
        None
    }

    fn bundle(&self, bundle: &Written<FilePath>, section: &mut Section<'_>) -> Option<Identity> {
        let (path, pem) = self.content("bundle", bundle, section)?;
        match about(
            &path,
            Identity::from_bundle(&pem).and_then(|identity| self.valid_now(identity)),
        ) {
            Ok(identity) => Some(identity),
            Err(message) => {
                section.add("bundle", bundle.at, message);
                None
            }
        }
    }

    fn valid_now(&self, identity: Identity) -> Result<Identity, IdentityError> {
        identity.check_validity(self.context.now).map(|()| identity)
    }

    /// The file that a key names.
    fn content(
        &self,
        key: &str,
        written: &Written<FilePath>,
        section: &mut Section<'_>,
    ) -> Option<(PathBuf, Vec<u8>)> {
        let path = section.written(key, Some(written))?;
        match self.read(&path) {
            Ok(content) => Some((path, content)),
            Err(message) => {
                section.add(key, written.at, message);
                None
            }
        }
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.context.files.read(path).map_err(|error| {
            let relative =
                if path.is_relative() { " (relative to the working directory)" } else { "" };
            let path = path.display();
            format!(
                "{path}{relative}: cannot be read: {error}; name a PEM file that this process may \
                 read"
            )
        })
    }
}

/// Puts the file's name before what is wrong with it.
fn about<T, E: std::fmt::Display>(path: &Path, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{}: {error}", path.display()))
}

fn wrong_parts(certificate: bool, key: bool, bundle: bool) -> &'static str {
    match (certificate, key, bundle) {
        (true, false, false) => "`key` is missing",
        (false, true, false) => "`certificate` is missing",
        (false, false, false) => "an identity is nothing without files",
        _ => "`bundle` holds key and chain already, and stands beside `certificate` or `key`",
    }
}

/// The SNI: as written, else the endpoint's host, if that is a name.
fn server_name(
    tls: &spec::Tls,
    endpoint: Option<&EndpointHost>,
    section: &mut Section<'_>,
) -> Option<DnsName<'static>> {
    match &tls.server_name {
        Some(written) => section.written("serverName", Some(written)).flatten(),
        None => match endpoint? {
            EndpointHost::Name(name) => dns_name(name),
            EndpointHost::Address(_) => None,
        },
    }
}

/// What the certificate must carry: as written, else the SNI, else the endpoint's host. There is
/// always one.
fn verify_name(
    tls: &spec::Tls,
    server_name: Option<&DnsName<'static>>,
    endpoint: Option<&EndpointHost>,
    section: &mut Section<'_>,
) -> Option<ServerName<'static>> {
    if let Some(written) = &tls.verify_name {
        return section.written("verifyName", Some(written));
    }
    match (server_name, endpoint?) {
        (Some(name), _) => Some(ServerName::DnsName(name.clone())),
        (None, EndpointHost::Name(name)) => dns_name(name).map(ServerName::DnsName),
        (None, EndpointHost::Address(address)) => Some(ServerName::from(*address)),
    }
}
