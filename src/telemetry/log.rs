//! The log: text or JSON lines on standard error.

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// `key=value` pairs after a message.
    Text,
}

/// The least severe event that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Failures that need somebody.
    Error,
    /// What may become one.
    Warn,
    /// Starts, ends, transitions.
    Info,
    /// Each connection's end.
    Debug,
    /// Everything, the libraries' too.
    Trace,
}

/// Which requests get an access line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// None.
    Off,
    /// Those that Warmline answered itself, or that broke.
    Errors,
    /// Every one.
    All,
}

/// What the log is to be; see the design's section 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// JSON or text.
    pub format: Format,
    /// The least severe event that is logged.
    pub level: Level,
    /// Which requests get a line.
    pub access: Access,
}

/// stub
pub fn init(_: &Settings) {
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).try_init();
}
