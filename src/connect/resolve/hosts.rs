//! The hosts file: a name in it is resolved from it alone, for both families, whatever DNS says.

use std::{collections::HashMap, io, net::IpAddr, sync::Arc, time::Duration};

use super::file::FileRead;

/// The time after its last change until which an empty file is taken for one that is being written.
const BEING_WRITTEN: Duration = Duration::from_secs(1);

/// The content of a hosts file: the addresses by name in lower case.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hosts(HashMap<String, Vec<IpAddr>>);

impl Hosts {
    /// Reads lines of an address and its names; other lines are ignored, as by other programs that read the file.
    pub(super) fn parse(text: &str) -> Self {
        let mut hosts = Self::default();
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse) else { continue };
            words.for_each(|name| hosts.add(name, address));
        }
        hosts
    }

    /// Adds an address of a name, behind those of earlier lines; the same address twice counts once.
    fn add(&mut self, name: &str, address: IpAddr) {
        let addresses = self.0.entry(undotted(name).to_ascii_lowercase()).or_default();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }

    /// Returns the addresses of a name, in the order of the file; `None` if the file does not have the name.
    pub(super) fn find(&self, name: &str) -> Option<&[IpAddr]> {
        self.0.get(undotted(name)).map(Vec::as_slice)
    }

    /// Returns the content of a file that was read just now, or `None` to keep the former content: for a file that
    /// cannot be read, or is empty because it is being written, as a name in it must not reach DNS even for a moment.
    pub(super) fn after(read: FileRead) -> Option<Arc<Self>> {
        match read.text {
            Ok(text) if text.is_empty() && read.age < BEING_WRITTEN => None,
            Ok(text) => Some(Arc::new(Self::parse(&text))),
            Err(error) => (error.kind() == io::ErrorKind::NotFound).then(Arc::default),
        }
    }
}

/// Returns a name without the final dot, which marks it as complete.
pub(super) fn undotted(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(hosts: &Hosts, name: &str) -> Option<String> {
        let texts = |found: &[IpAddr]| found.iter().map(IpAddr::to_string).collect::<Vec<_>>();
        hosts.find(name).map(|found| texts(found).join(" "))
    }

    #[test]
    fn fault_03_a_hosts_file_is_read_as_people_write_it() {
        let hosts = Hosts::parse(
            "\u{feff}127.0.0.1 localhost # ours\n\
             ::1\tlocalhost ip6-localhost\r\n\
             # 192.0.2.9 payments\n\
             \t192.0.2.1 payments.example Payments payments_api.\n\
             192.0.2.2 payments\n\
             192.0.2.2 payments\n\
             no-address payments\n\
             192.0.2.300 payments\n\
             192.0.2.3\n",
        );
        for (name, addresses) in [
            ("localhost", Some("127.0.0.1 ::1")),
            ("ip6-localhost", Some("::1")),
            ("payments", Some("192.0.2.1 192.0.2.2")),
            ("payments.", Some("192.0.2.1 192.0.2.2")),
            ("payments_api", Some("192.0.2.1")),
            ("payments.example", Some("192.0.2.1")),
            ("example", None),
            ("payments.example.example", None),
        ] {
            assert_eq!(found(&hosts, name).as_deref(), addresses, "{name}");
        }
    }

    #[test]
    fn fault_03_a_hosts_file_that_is_being_written_or_cannot_be_read_leaves_what_was_known() {
        let after = |text, age| Hosts::after(FileRead { text, age });
        let error = |kind: io::ErrorKind| Err(io::Error::from(kind));
        let (new, old) = (Duration::ZERO, BEING_WRITTEN);
        assert_eq!(after(error(io::ErrorKind::PermissionDenied), old), None);
        assert_eq!(after(Ok(String::new()), new), None);
        assert_eq!(after(Ok(String::new()), old), Some(Arc::default()), "it is meant");
        assert_eq!(after(error(io::ErrorKind::NotFound), new), Some(Arc::default()));
        assert!(after(Ok("192.0.2.1 a".into()), new).is_some_and(|h| h.find("a").is_some()));
    }
}
