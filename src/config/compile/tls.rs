//! Compiles an upstream's TLS settings: names, trust, identity.

use std::{
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::{DnsName, ServerName};

use super::credentials::{CredentialReader, IdentityFinding};
use crate::{
    config::{
        self, Context, IdentityFiles,
        errors::Section,
        name::{FilePath, dns_name},
        section::Keys as _,
        spec,
        written::{Placed, Position, Written},
    },
    connect::EndpointHost,
    tls::{Identity, Settings, Trust, identity::Concern},
};

/// The compiler of all upstreams' TLS settings; they share one reader of files.
pub(super) struct Credentials<'a> {
    reader: CredentialReader<'a>,
    confined: bool,
}

/// The folder that all files of a confined process must be in.
const OWN_FOLDER: &str = "/etc/warmline";

impl<'a> Credentials<'a> {
    pub(super) fn new(context: &'a Context<'a>) -> Self {
        Self { reader: CredentialReader::new(context), confined: context.confined }
    }

    /// Returns all certificates and keys that were read.
    pub(super) fn into_found(self) -> config::Credentials {
        self.reader.into_found()
    }

    /// Compiles the TLS settings; `None` comes with at least one finding, here or about the endpoint.
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
        let mut settings = match (verify_name, trust, identity) {
            (Some(verify_name), Some(trust), Ok(identity)) => {
                Some(Settings::new(server_name, verify_name, trust, identity))
            }
            _ => None,
        };
        tls.set_keys(settings.as_mut(), section);
        settings
    }

    /// Compiles `trust`: reads the file, or the system's roots if none is written. `None` comes with a finding; `at` is
    /// its place if no file is written.
    fn trust(
        &mut self,
        written: Option<&Written<FilePath>>,
        at: Position,
        section: &mut Section<'_>,
    ) -> Option<Arc<Trust>> {
        let path = match written {
            Some(written) => Some(self.path("trust", written, section)?),
            None => None,
        };
        let trust = self.reader.trust(path);
        let at = written.map_or(at, |written| written.at);
        trust.map_err(|message| section.add_file("trust", at, message)).ok()
    }

    /// Compiles the identity; `None` for one-way TLS. On an error, findings have been added.
    fn identity(
        &mut self,
        written: Option<&Placed<spec::Identity>>,
        section: &mut Section<'_>,
    ) -> Result<Option<Arc<Identity>>, ()> {
        let Some(placed) = written else { return Ok(None) };
        let mut section = section.section("identity");
        let files = self.identity_files(placed, &mut section).ok_or(())?;
        self.reader.identity(files).map_err(|wrong| {
            for IdentityFinding { concern, message } in wrong {
                let (key, at) = concerned(placed, concern);
                section.add_file(key, at, message);
            }
        })
    }

    /// Returns the files that an identity names; `None` comes with a finding.
    fn identity_files(
        &self,
        placed: &Placed<spec::Identity>,
        section: &mut Section<'_>,
    ) -> Option<IdentityFiles> {
        let Placed { value: spec, at } = placed;
        match (&spec.certificate, &spec.key, &spec.bundle) {
            (Some(certificate), Some(key), None) => {
                let certificate = self.path("certificate", certificate, section);
                let key = self.path("key", key, section);
                Some(IdentityFiles::Pair { certificate: certificate?, key: key? })
            }
            (None, None, Some(bundle)) => {
                self.path("bundle", bundle, section).map(IdentityFiles::Bundle)
            }
            (certificate, key, bundle) => {
                let wrong = wrong_parts(certificate.is_some(), key.is_some(), bundle.is_some());
                let message = format!("{wrong}; write `certificate` and `key`, or `bundle` alone");
                section.add("", *at, message);
                None
            }
        }
    }

    /// Reads the path of a file; under `--confined` only one inside `/etc/warmline` is accepted. `None` comes with a
    /// finding.
    fn path(
        &self,
        key: &str,
        written: &Written<FilePath>,
        section: &mut Section<'_>,
    ) -> Option<PathBuf> {
        let path = section.written(key, Some(written))?;
        if self.confined && !is_own(&path) {
            let path = path.display();
            let message = format!(
                "{path} is not under {OWN_FOLDER}/, and this process reads nothing else (`--confined`); mount the file \
                 there and write its path without `..`"
            );
            section.add(key, written.at, message);
            return None;
        }
        Some(path)
    }
}

/// True if a path is inside `/etc/warmline` as it is written. Links there are followed: they are made by the operator
/// who mounts the folder, not by the author of the configuration.
fn is_own(path: &Path) -> bool {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    path.components().all(plain) && path.starts_with(OWN_FOLDER) && path != Path::new(OWN_FOLDER)
}

/// Returns the key that names the file at fault, with its place.
fn concerned(placed: &Placed<spec::Identity>, concern: Concern) -> (&'static str, Position) {
    let Placed { value: spec, at } = placed;
    let (name, written) = match (concern, &spec.bundle) {
        (_, Some(bundle)) => ("bundle", Some(bundle)),
        (Concern::Certificate, None) => ("certificate", spec.certificate.as_ref()),
        (Concern::Key | Concern::Both, None) => ("key", spec.key.as_ref()),
    };
    (name, written.map_or(*at, |written| written.at))
}

/// Returns the words for a wrong combination of an identity's keys; the arguments say which are written.
fn wrong_parts(certificate: bool, key: bool, bundle: bool) -> &'static str {
    match (certificate, key, bundle) {
        (true, false, false) => "`key` is missing",
        (false, true, false) => "`certificate` is missing",
        (false, false, false) => "no file is named",
        _ => "`bundle` cannot be combined with `certificate` or `key`",
    }
}

/// Returns the server name (SNI): the written one, else the endpoint's host if it is a name.
fn server_name(
    tls: &spec::Tls,
    endpoint: Option<&EndpointHost>,
    section: &mut Section<'_>,
) -> Option<DnsName<'static>> {
    match &tls.serverName {
        Some(written) => section.written("serverName", Some(written)).flatten(),
        None => match endpoint? {
            EndpointHost::Name(name) => dns_name(name),
            EndpointHost::Address(_) => None,
        },
    }
}

/// Returns the name or address that the certificate must carry: the written one, else the server name, else the
/// endpoint's host. `None` comes with a finding, here or about the endpoint.
fn verify_name(
    tls: &spec::Tls,
    server_name: Option<&DnsName<'static>>,
    endpoint: Option<&EndpointHost>,
    section: &mut Section<'_>,
) -> Option<ServerName<'static>> {
    if let Some(written) = &tls.verifyName {
        return section.written("verifyName", Some(written));
    }
    match (server_name, endpoint?) {
        (Some(name), _) => Some(ServerName::DnsName(name.clone())),
        (None, EndpointHost::Name(name)) => dns_name(name).map(ServerName::DnsName),
        (None, EndpointHost::Address(address)) => Some(ServerName::from(*address)),
    }
}
