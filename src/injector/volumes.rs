//! The names of the volumes that the sidecar mounts.

/// The sidecar's volume for files that it keeps; no pod may bring a volume of this name.
pub(super) const RUN_VOLUME: &str = "warmline-run";
/// All volumes that the sidecar mounts.
pub(super) const VOLUMES: [&str; 4] = [CONFIG_VOLUME, IDENTITY_VOLUME, TRUST_VOLUME, RUN_VOLUME];
/// The volumes that the sidecar only reads; a pod may bring volumes of these names itself.
pub(super) const READ_VOLUMES: [&str; 3] = [CONFIG_VOLUME, IDENTITY_VOLUME, TRUST_VOLUME];
/// The volume with the sidecar's configuration.
pub(super) const CONFIG_VOLUME: &str = "warmline-config";
/// The volume with the sidecar's certificate and key, and the Secret of the same name.
pub(super) const IDENTITY_VOLUME: &str = "warmline-identity";
/// The volume with the certificates that the sidecar trusts, and the `ConfigMap` of the same name.
pub(super) const TRUST_VOLUME: &str = "warmline-trust";
