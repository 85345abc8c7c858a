//! The connection settings for Kubernetes' API server: from a kubeconfig, or from the `ServiceAccount` of this
//! process's pod.

use std::{
    env::{self, VarError},
    fs, io,
    path::{Path, PathBuf},
};

use kube::{
    Config,
    config::{InClusterError, KubeConfigOptions, KubeconfigError},
};

use crate::tls::words;

/// The reason that this process cannot reach the API server.
#[derive(Debug, thiserror::Error)]
pub enum NoWay {
    /// The pod was made without a token.
    #[error("this pod has no token for the API server (automountServiceAccountToken: false?)")]
    NoToken,
    /// A file that the kubelet mounts is missing or cannot be read by this process.
    #[error("{path} cannot be read: {error}; the API server cannot be reached without it", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The file system's answer.
        error: io::Error,
    },
    /// A file that the kubelet mounts has content that cannot be used.
    #[error("{path} cannot be used: {reason}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The fault in the file's content.
        reason: String,
    },
    /// An environment variable that the kubelet sets in every container is missing or malformed.
    #[error("the environment variable {name} {reason}; kubelet sets it in every container")]
    Variable {
        /// The variable's name.
        name: &'static str,
        /// The fault, as the rest of a sentence about the variable.
        reason: String,
    },
    /// The process is not in a pod, and there is no kubeconfig.
    #[error("this process is not in a pod ({HOST} is not set), and there is no kubeconfig")]
    Nowhere,
    /// There is a kubeconfig that cannot be used.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(KubeconfigError),
}

/// The variables that give the API server's address. The kubelet sets them in every container of a pod.
const HOST: &str = "KUBERNETES_SERVICE_HOST";
const PORT: &str = "KUBERNETES_SERVICE_PORT";
/// The folder in which the kubelet mounts a pod's credentials.
const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Returns the connection settings. A kubeconfig comes first, because somebody put it there on purpose; without any,
/// the service account of the pod is used. Fails if there is neither, or if the first that there is cannot be used.
pub(crate) async fn config() -> Result<Config, NoWay> {
    let missing = match Config::from_kubeconfig(&KubeConfigOptions::default()).await {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    if env::var_os(HOST).is_none() {
        return Err(without_a_pod(missing));
    }
    has_token(fs::read(file("token")).map(drop))?;
    Config::incluster().map_err(in_a_pod)
}

/// Returns an error's text with its causes, since the outermost error alone says too little. An error answer of the API
/// server is given by its message alone.
pub(crate) fn reason(error: &kube::Error) -> String {
    let outermost: &dyn std::error::Error = match error {
        kube::Error::Api(status) => return status.message.clone(),
        kube::Error::Service(service) => service.as_ref(),
        error => error,
    };
    let causes = std::iter::successors(outermost.source(), |cause| cause.source());
    causes.fold(in_words(outermost), |text, cause| {
        let cause = in_words(cause);
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// Returns the text of one error in a chain, with errors of rustls in words: their own texts are in the notation of its
/// source.
fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match error.downcast_ref::<rustls::Error>().or(inner) {
        Some(tls) => words(tls),
        None => error.to_string(),
    }
}

/// Returns the error of a process outside of pods: `Nowhere` if there is no kubeconfig file, `Kubeconfig` if there is
/// one that cannot be used.
fn without_a_pod(error: KubeconfigError) -> NoWay {
    match error {
        KubeconfigError::FindPath => NoWay::Nowhere,
        KubeconfigError::ReadConfig(error, _) if error.kind() == io::ErrorKind::NotFound => {
            NoWay::Nowhere
        }
        error => NoWay::Kubeconfig(error),
    }
}

/// Fails if the pod's token could not be read, with different errors for a missing and an unreadable file.
fn has_token(read: io::Result<()>) -> Result<(), NoWay> {
    read.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NoWay::NoToken,
        _ => NoWay::Unreadable { path: file("token"), error },
    })
}

/// Returns the error of a process in a pod, with the file or the environment variable that is at fault.
fn in_a_pod(error: InClusterError) -> NoWay {
    let variable = |name, reason: String| NoWay::Variable { name, reason };
    match error {
        InClusterError::ReadDefaultNamespace(error) => {
            NoWay::Unreadable { path: file("namespace"), error }
        }
        InClusterError::ReadCertificateBundle(error) => {
            NoWay::Unreadable { path: file("ca.crt"), error }
        }
        InClusterError::ParseCertificates(error) => {
            NoWay::Unusable { path: file("ca.crt"), reason: error.to_string() }
        }
        InClusterError::ReadEnvironmentVariable(VarError::NotPresent) => {
            variable(PORT, "is not set".into())
        }
        InClusterError::ReadEnvironmentVariable(VarError::NotUnicode(_)) => {
            variable(PORT, "is not UTF-8".into())
        }
        InClusterError::ParseClusterPort(error) => {
            variable(PORT, format!("is not a port: {error}"))
        }
        InClusterError::ParseClusterUrl(error) => variable(HOST, format!("is not a host: {error}")),
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_24_each_failure_to_find_the_clusters_credentials_is_called_what_it_is() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let no_token =
            "this pod has no token for the API server (automountServiceAccountToken: false?)";
        let token = |read| has_token(read).unwrap_err().to_string();
        assert_eq!(token(Err(gone())), no_token);
        assert!(has_token(Ok(())).is_ok());
        let folder = "/var/run/secrets/kubernetes.io/serviceaccount";
        let without = "the API server cannot be reached without it";
        assert_eq!(
            token(Err(denied())),
            format!("{folder}/token cannot be read: permission denied; {without}")
        );

        let not_a_port = "x".parse::<u16>().unwrap_err();
        let not_a_host = "a b".parse::<http::Uri>().unwrap_err();
        let kubelet = "kubelet sets it in every container";
        for (error, told) in [
            (
                InClusterError::ReadDefaultNamespace(gone()),
                format!("{folder}/namespace cannot be read: entity not found; {without}"),
            ),
            (
                InClusterError::ReadCertificateBundle(denied()),
                format!("{folder}/ca.crt cannot be read: permission denied; {without}"),
            ),
            (
                InClusterError::ReadEnvironmentVariable(VarError::NotPresent),
                format!("the environment variable KUBERNETES_SERVICE_PORT is not set; {kubelet}"),
            ),
            (
                InClusterError::ParseClusterPort(not_a_port),
                format!(
                    "the environment variable KUBERNETES_SERVICE_PORT is not a port: invalid digit found in string; {kubelet}"
                ),
            ),
            (
                InClusterError::ParseClusterUrl(not_a_host),
                format!(
                    "the environment variable KUBERNETES_SERVICE_HOST is not a host: invalid uri character; {kubelet}"
                ),
            ),
        ] {
            assert_eq!(in_a_pod(error).to_string(), told);
        }

        let path = PathBuf::from("/root/.kube/config");
        let nowhere = "this process is not in a pod (KUBERNETES_SERVICE_HOST is not set), and there is no kubeconfig";
        for error in [KubeconfigError::FindPath, KubeconfigError::ReadConfig(gone(), path)] {
            assert_eq!(without_a_pod(error).to_string(), nowhere);
        }
        let wrong = without_a_pod(KubeconfigError::LoadContext("shop".into())).to_string();
        assert_eq!(wrong, "the kubeconfig cannot be used: failed to load current context: shop");
    }

    #[test]
    fn fault_14_a_refused_certificate_of_the_api_server_is_told_in_plain_words() {
        let tls = rustls::Error::from(rustls::CertificateError::UnknownIssuer);
        let error = kube::Error::Service(Box::new(io::Error::new(io::ErrorKind::InvalidData, tls)));
        assert_eq!(
            reason(&error),
            "its certificate was refused: it was issued by a CA that is not trusted here"
        );
    }
}
