//! Tells clusters that know native sidecars from older ones. An older API server drops the field that makes a container
//! a native sidecar, and then pods hang in their start.

use k8s_openapi::apimachinery::pkg::version::Info;

/// The first version (major, minor) whose API server keeps `restartPolicy` of init containers by default.
const FIRST: (u32, u32) = (1, 29);

/// The cluster is too old; the text is its version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "this cluster is Kubernetes {0}, and 1.29 is the first that runs native sidecars: an older API server drops \
     restartPolicy of init containers, and every pod with a sidecar would hang in Init (upgrade the cluster)"
)]
pub(crate) struct TooOld(String);

/// Fails if the API server that gave this version is older than 1.29. A version that cannot be parsed counts as new
/// enough.
pub(super) fn check(info: &Info) -> Result<(), TooOld> {
    // Some distributions give the minor version as `29+`.
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse::<u32>().ok()
    };
    match (number(&info.major), number(&info.minor)) {
        (Some(major), Some(minor)) if (major, minor) < FIRST => {
            Err(TooOld(format!("{major}.{minor}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_1_29_it_is_too_old() {
        for (major, minor, old) in [
            ("1", "28", true),
            ("1", "28+", true),
            ("1", "9", true),
            ("0", "99", true),
            ("1", "29", false),
            ("1", "29+", false),
            ("1", "36", false),
            ("2", "0", false),
            ("", "", false),
        ] {
            let info = Info { major: major.into(), minor: minor.into(), ..Info::default() };
            assert_eq!(check(&info).is_err(), old, "{major}.{minor}");
        }
    }
}
