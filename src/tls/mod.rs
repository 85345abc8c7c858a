//! stub

pub mod identity;
pub mod trust;

use std::sync::Arc;

use rustls::pki_types::{DnsName, ServerName};

pub use identity::Identity;
pub use trust::Trust;

/// Everything about TLS that makes two connections exchangeable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name sent as SNI; `None` sends none.
    pub server_name: Option<DnsName<'static>>,
    /// The name (or IP address) that the certificate must carry. There is always one.
    pub verify_name: ServerName<'static>,
    /// Which certificates are believed.
    pub trust: Arc<Trust>,
    /// Our certificate and key; `None` is one-way TLS.
    pub identity: Option<Arc<Identity>>,
    /// The lowest version that is spoken.
    pub min_version: MinVersion,
}

/// The lowest TLS version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}
