//! A serving certificate that somebody else makes (cert-manager, say): followed in its folder.
//!
//! The two files are small and are read every second: that needs no sign from the kernel, on no file system.

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
    standing::{Standing, Trust},
};

const EVERY: Duration = Duration::from_secs(1);

/// Why the files are not in use.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{path}: {error}", path = path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// Follows `tls.crt` and `tls.key` in this folder for as long as it is polled.
pub(super) async fn follow(folder: &Path, standing: Arc<Standing>) -> Result<Infallible, Error> {
    standing.set_trust(Trust::NotOurs);
    let (mut known, mut told) = (None, String::new());
    loop {
        match look(folder, &mut known) {
            Ok(None) => told.clear(),
            Ok(Some(serving)) => {
                standing.current.replace(serving);
                tracing::info!(folder = %folder.display(), "the serving certificate is in use");
                told.clear();
            }
            // Said once: it is looked at again in a second.
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
type Pair = (Vec<u8>, Vec<u8>);

/// What the files hold, where it is not what is in use.
fn look(folder: &Path, known: &mut Option<Pair>) -> Result<Option<Serving>, Failed> {
    // Both of one generation: a mounted volume changes by a swap of this link.
    let folder = folder.join("..data").canonicalize().unwrap_or_else(|_| folder.to_owned());
    let pair = (read(folder.join("tls.crt"))?, read(folder.join("tls.key"))?);
    if known.as_ref() == Some(&pair) {
        return Ok(None);
    }
    let serving = Serving::from_pem(&pair.0, &pair.1, SystemTime::now())?;
    *known = Some(pair);
    Ok(Some(serving))
}

fn read(path: PathBuf) -> Result<Vec<u8>, Failed> {
    fs::read(&path).map_err(|error| Failed::Read { path, error })
}
