//! The demo's configuration: a document as users write them, with certificates and keys that are only in memory.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use super::{
    Error, ORIGIN, UPSTREAM,
    authority::{Authority, Credentials},
};
use crate::{
    config::{self, Context, Files, Plan},
    connect::Resolver,
    tls::trust::{Trust, TrustError},
};

/// The ports of 127.0.0.1 that the demo's Warmline listens on; 0 means any free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The port for traffic.
    pub traffic: u16,
    /// The port for metrics and health.
    pub metrics: u16,
    /// The port for administration.
    pub admin: u16,
}

impl Ports {
    /// The default ports of Warmline.
    pub const USUAL: Self = Self { traffic: 13301, metrics: 13320, admin: 13321 };

    /// Replaces a port that is taken with 0 (any free one); false if it is not one of these.
    pub fn replace(&mut self, taken: u16) -> bool {
        let all = [&mut self.traffic, &mut self.metrics, &mut self.admin];
        match all.into_iter().find(|port| taken != 0 && **port == taken) {
            Some(port) => {
                *port = 0;
                true
            }
            None => false,
        }
    }
}

/// The files that the configuration names, in memory.
pub struct Memory {
    trust: String,
    certificate: String,
    key: String,
}

impl Memory {
    /// Holds the certificate of the authority to trust, and the client certificate and key to show.
    pub fn new(authority: &Authority, client: &Credentials) -> Self {
        Self {
            trust: authority.certificate_pem(),
            certificate: client.certificate_pem(),
            key: client.key_pem(),
        }
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("ca.crt") => Ok(self.trust.clone().into_bytes()),
            Some("tls.crt") => Ok(self.certificate.clone().into_bytes()),
            Some("tls.key") => Ok(self.key.clone().into_bytes()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn system_trust(&self) -> Result<Trust, TrustError> {
        Trust::system()
    }
}

/// Returns the configuration's text. Keys that it leaves out have the defaults of `warmline run`.
pub fn document(ports: Ports, origin: SocketAddr) -> String {
    let Ports { traffic, metrics, admin } = ports;
    let port = origin.port();
    format!(
        r#"log: {{ format: text, level: info, access: all }}
drain: 2s
listeners: [{{ bind: ["127.0.0.1:{traffic}"] }}]
metrics: {{ bind: ["127.0.0.1:{metrics}"] }}
admin: {{ bind: ["127.0.0.1:{admin}"] }}
upstreams:
  - name: {UPSTREAM}
    hosts: [{ORIGIN}, "*"]
    endpoints: ["{ORIGIN}:{port}"]
    tls:
      trust: ca.crt
      identity: {{ certificate: tls.crt, key: tls.key }}
"#
    )
}

/// Compiles the configuration's text with the files in memory. Fails if the text is refused, which would be a fault of
/// the demo.
pub fn compile(document: &str, memory: &Memory) -> Result<Plan, Error> {
    let context = Context {
        terminal: true,
        ..Context::new("the demo's configuration", memory, SystemTime::now())
    };
    Ok(config::compile(document, &context)?)
}

/// Returns a resolver that maps every name to 127.0.0.1, because no DNS server knows the origin's name.
pub fn resolver() -> Resolver {
    Resolver::Fixed(Arc::new(|_| vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_replaced_once_and_a_foreign_one_is_not() {
        let mut ports = Ports::USUAL;
        assert!(ports.replace(13320));
        assert_eq!(ports, Ports { metrics: 0, ..Ports::USUAL });
        assert!(!ports.replace(13320), "it is replaced already");
        assert!(!ports.replace(0), "a free port cannot be taken");
        assert!(!ports.replace(80), "none of ours");
    }
}
