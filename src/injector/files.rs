//! A serving certificate that somebody else makes (such as cert-manager): its files are read from a folder.
//!
//! The two files are small and are read every second, so that changes are seen on every file system, also where the
//! kernel does not report them.

use std::{
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::sleep;

use super::{
    Error,
    certificate::{Serving, Unusable},
    readiness::{CaBundleState, Readiness},
};

const EVERY: Duration = Duration::from_secs(1);

/// The reason that the files cannot be used.
#[derive(Debug, thiserror::Error)]
enum FilesError {
    #[error("{path}: {error}", path = path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// Follows `tls.crt` and `tls.key` in this folder for as long as the future is polled, and puts each new pair in use. A
/// pair that cannot be used is logged once, and the pair before stays in use; so this never fails.
pub(super) async fn follow(folder: &Path, readiness: Arc<Readiness>) -> Result<Infallible, Error> {
    readiness.set_trust(CaBundleState::NotOurs);
    let (mut known, mut told) = (None, String::new());
    loop {
        match look(folder, &mut known) {
            Ok(None) => told.clear(),
            Ok(Some(serving)) => {
                readiness.current.replace(serving);
                tracing::info!(folder = %folder.display(), "the serving certificate is in use");
                told.clear();
            }
            // The log has this failure already, and the files are read again in a second.
            Err(failed) if told == failed.to_string() => {}
            Err(failed) => {
                told = failed.to_string();
                tracing::error!(reason = %failed, "the serving certificate's files cannot be used; what was in use before stays so");
            }
        }
        sleep(EVERY).await;
    }
}

/// The certificate and the key, as bytes.
type PemFiles = (Vec<u8>, Vec<u8>);

/// Reads the files, and returns the certificate if they changed since the last successful call, else `None`. `known` is
/// the pair of that call, and becomes the new pair. Fails if a file cannot be read, or the pair cannot be used.
fn look(folder: &Path, known: &mut Option<PemFiles>) -> Result<Option<Serving>, FilesError> {
    // Both files must be of the same write: the kubelet updates a mounted volume by swapping the link `..data`.
    let folder = folder.join("..data").canonicalize().unwrap_or_else(|_| folder.to_owned());
    let pair = (read(folder.join("tls.crt"))?, read(folder.join("tls.key"))?);
    if known.as_ref() == Some(&pair) {
        return Ok(None);
    }
    let serving = Serving::from_pem(&pair.0, &pair.1, SystemTime::now())?;
    *known = Some(pair);
    Ok(Some(serving))
}

fn read(path: PathBuf) -> Result<Vec<u8>, FilesError> {
    fs::read(&path).map_err(|error| FilesError::Read { path, error })
}
