//! The content of `resolv.conf`: the name servers, and the names to ask for in place of a configured name.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use resolv_conf::{Config, ScopedIp};

use super::{file::FileRead, hosts::undotted};

/// The name servers, and the way in which they are to be asked.
#[derive(Debug)]
pub(super) struct Servers {
    addresses: Vec<SocketAddr>,
    /// The index of the server that answered last: it is asked first.
    preferred: AtomicUsize,
    /// The domains that are appended to names, in this order.
    search: Vec<String>,
    /// The option `ndots`. With 0, a name without a dot is asked for before its forms with search domains, not after
    /// them.
    ndots: u32,
    /// True if queries tell the size of the answers that can be read (EDNS).
    pub edns: bool,
    /// True if queries go over TCP alone.
    pub tcp: bool,
    /// True if IPv6 addresses are not to be asked for.
    pub no_ipv6: bool,
}

impl Servers {
    /// Reads a `resolv.conf`; `port` is the port of the name servers. Fails if the text names no server.
    pub(super) fn parse(text: &str, port: u16) -> Result<Self, &'static str> {
        let (config, errors) = Config::parse_with_errors(text.as_bytes());
        if let Some(error) = errors.first() {
            tracing::debug!(%error, "a line of resolv.conf is passed over");
        }
        if config.nameservers.is_empty() {
            return Err("it names no name server that can be read");
        }
        let address = |server: &ScopedIp| SocketAddr::new(IpAddr::from(server), port);
        let search = config.get_last_search_or_domain();
        let search = search.map(|domain| undotted(domain).to_ascii_lowercase());
        Ok(Self {
            addresses: config.nameservers.iter().map(address).collect(),
            preferred: AtomicUsize::new(0),
            search: search.filter(|domain| !domain.is_empty() && domain != "--").collect(),
            ndots: config.ndots,
            edns: config.edns0,
            tcp: config.use_vc,
            no_ipv6: config.no_aaaa,
        })
    }

    /// Returns the meaning of a file that was read just now: the name servers, or the reason why there are none. `None`
    /// keeps the former meaning: a file that is broken or gone leaves the name servers that were known, if there were
    /// any.
    pub(super) fn after(
        read: FileRead,
        known: &Result<Arc<Self>, Arc<str>>,
        port: u16,
    ) -> Option<Result<Arc<Self>, Arc<str>>> {
        let parsed = match read.text {
            Ok(text) => Self::parse(&text, port).map_err(Arc::from),
            Err(error) => Err(error.to_string().into()),
        };
        (parsed.is_ok() || known.is_err()).then(|| parsed.map(Arc::new))
    }

    /// Lists the names to ask for, in this order, without a final dot. A name that ends in a dot is asked for unchanged
    /// and in no other form, a name that holds a dot first unchanged; a name without a dot has the search domains
    /// appended first.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        let plain = undotted(name);
        if plain.len() < name.len() {
            return vec![plain.to_owned()];
        }
        let appended = self.search.iter().map(|domain| format!("{plain}.{domain}"));
        let appended = appended.filter(|candidate| candidate.len() <= 253);
        if plain.contains('.') || self.ndots == 0 {
            [plain.to_owned()].into_iter().chain(appended).collect()
        } else {
            appended.chain([plain.to_owned()]).collect()
        }
    }

    /// Lists the name servers in the order in which they are to be asked.
    pub(super) fn in_turn(&self) -> Vec<SocketAddr> {
        let mut addresses = self.addresses.clone();
        addresses.rotate_left(self.preferred.load(Relaxed) % self.addresses.len());
        addresses
    }

    /// Remembers the server that answered, to be asked first.
    pub(super) fn answered(&self, server: SocketAddr) {
        if let Some(index) = self.addresses.iter().position(|known| *known == server) {
            self.preferred.store(index, Relaxed);
        }
    }

    /// Returns the name servers as text for a message: the first three.
    pub(super) fn told(&self) -> String {
        let told: Vec<_> = self.addresses.iter().take(3).map(|server| told(*server)).collect();
        told.join(", ")
    }
}

/// Returns a name server as text for a message, with its port unless that is 53.
pub(super) fn told(server: SocketAddr) -> String {
    if server.port() == 53 { server.ip().to_string() } else { server.to_string() }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::*;

    fn parsed(text: &str) -> Servers {
        Servers::parse(text, 53).expect("a name server")
    }

    #[test]
    fn fault_04_a_name_with_a_dot_is_asked_as_it_is_first_whatever_ndots_says() {
        let pod = parsed("search a.svc.test svc.test test.\nnameserver 192.0.2.1\noptions ndots:5");
        for (name, candidates) in [
            (
                "api.example",
                "api.example api.example.a.svc.test api.example.svc.test api.example.test",
            ),
            ("api.example.", "api.example"),
            ("api", "api.a.svc.test api.svc.test api.test api"),
            ("my_api", "my_api.a.svc.test my_api.svc.test my_api.test my_api"),
            ("api.", "api"),
        ] {
            assert_eq!(pod.candidates(name).join(" "), candidates, "{name}");
        }
        let without = parsed("nameserver 192.0.2.1");
        assert_eq!(without.candidates("api"), ["api"]);
        let zero = parsed("domain test\nnameserver 192.0.2.1\noptions ndots:0");
        assert_eq!(zero.candidates("api"), ["api", "api.test"]);
        assert_eq!(pod.candidates(&"a.".repeat(125)[..249]).len(), 1, "longer names do not exist");
    }

    #[test]
    fn fault_04_the_name_server_that_answered_is_asked_first() {
        let servers = parsed("nameserver 192.0.2.1\nnameserver 2001:db8::2\nnonsense");
        let first = |servers: &Servers| servers.in_turn()[0].ip().to_string();
        assert_eq!(first(&servers), "192.0.2.1");
        servers.answered("[2001:db8::2]:53".parse().expect("an address"));
        assert_eq!(first(&servers), "2001:db8::2");
        assert_eq!(servers.told(), "192.0.2.1, 2001:db8::2");
    }

    #[test]
    fn fault_04_a_broken_resolv_conf_leaves_the_name_servers_that_were_known() {
        let known = Ok(Arc::new(parsed("nameserver 192.0.2.1")));
        let nothing: Result<Arc<Servers>, Arc<str>> = Err("".into());
        let after = |text: Result<&str, io::ErrorKind>, known| {
            let text = text.map(str::to_owned).map_err(io::Error::from);
            Servers::after(FileRead { text, age: Duration::ZERO }, known, 53)
        };
        let gone = Err(io::ErrorKind::NotFound);
        for broken in ["", "nameserver", "nameserver 300.1.1.1", "search a"] {
            assert!(after(Ok(broken), &known).is_none(), "{broken}");
            let told = after(Ok(broken), &nothing).expect("why not");
            assert!(told.is_err_and(|why| why.contains("names no name server")), "{broken}");
        }
        assert!(after(gone, &known).is_none());
        assert!(after(gone, &nothing).is_some_and(|why| why.is_err()));
        let other = after(Ok("nameserver 192.0.2.2"), &known);
        assert_eq!(other.expect("new").expect("good").told(), "192.0.2.2");
    }
}
