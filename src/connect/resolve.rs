//! Names to addresses, at connect time.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolverOpts},
    net::{DnsError, NetError},
    proto::op::ResponseCode,
};

/// Answers kept, each for its TTL.
const CACHE: u64 = 64;

/// A function from names to addresses.
pub type Answers = Arc<dyn Fn(&str) -> Vec<IpAddr> + Send + Sync>;

/// Where addresses come from.
#[derive(Clone)]
pub enum Resolver {
    /// `/etc/resolv.conf` and `/etc/hosts`.
    System(Arc<TokioResolver>),
    /// A function in place of DNS: for tests, which need answers that change.
    Fixed(Answers),
    /// There is no configuration to read; only addresses can be dialled.
    Unavailable(Arc<str>),
}

impl Resolver {
    /// The system's. Without a readable `/etc/resolv.conf` each look-up says so.
    pub fn system() -> Self {
        let built = TokioResolver::builder_tokio().and_then(|mut builder| {
            set_options(builder.options_mut());
            builder.build()
        });
        match built {
            Ok(resolver) => Self::System(Arc::new(resolver)),
            Err(error) => Self::Unavailable(format!("/etc/resolv.conf: {error}").into()),
        }
    }

    /// Every address of a name, in the order of the answer.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let addresses: Vec<IpAddr> = match self {
            Self::System(resolver) => {
                let answer = resolver.lookup_ip(name).await.map_err(|error| reason(&error))?;
                answer.iter().collect()
            }
            Self::Fixed(answer) => answer(name),
            Self::Unavailable(reason) => return Err(reason.to_string()),
        };
        if addresses.is_empty() { Err("it has no address".into()) } else { Ok(addresses) }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System(_) => "System",
            Self::Fixed(_) => "Fixed",
            Self::Unavailable(_) => "Unavailable",
        })
    }
}

/// hickory shows its query, for a reader of its source.
fn reason(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => "there is no such name".into(),
            _ => "it has no address".into(),
        },
        NetError::NoConnections | NetError::Timeout | NetError::Io(_) => {
            "no name server answered; they are those of /etc/resolv.conf, as it was at the start"
                .into()
        }
        other => other.to_string(),
    }
}

/// Both families; a name that is missing now may be there at the next dial.
fn set_options(options: &mut ResolverOpts) {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = CACHE;
    options.negative_max_ttl = Some(Duration::ZERO);
    options.positive_min_ttl = None;
}

#[cfg(test)]
mod tests;
