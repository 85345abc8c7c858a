//! The kinds of source that a configuration may come from.

use crate::label;

label! {
    /// The kind of source that a configuration was read from.
    #[derive(Default)]
    pub enum SourceKind {
        /// A file. If a `ConfigMap` is watched, the copy of it that kubelet mounted.
        #[default]
        File = "file",
        /// The watched `ConfigMap`.
        Watch = "watch",
        /// The folder (`--keep`) that holds the configuration from before the last restart.
        Kept = "kept",
    }
}
