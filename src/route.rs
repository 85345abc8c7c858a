//! The table of hosts: finds the destination of a request by its Host.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

/// The destinations by host.
#[derive(Debug)]
pub struct Table<T> {
    exact: HashMap<String, T>,
    /// The configured hosts, sorted; kept ready, so that a request for an unknown host costs no more with many.
    hosts: Arc<Vec<String>>,
    /// The destination for `"*"`: every host that is not in `exact`.
    other: Option<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), hosts: Arc::default(), other: None }
    }
}

impl<T> Table<T> {
    /// Adds the destination of a host. The host is in lower case and without a port, or `"*"`.
    pub fn insert(&mut self, host: &str, destination: T) {
        if host == "*" {
            self.other = Some(destination);
        } else if self.exact.insert(host.to_owned(), destination).is_none() {
            let hosts = Arc::make_mut(&mut self.hosts);
            let place = hosts.partition_point(|other| other.as_str() < host);
            hosts.insert(place, host.to_owned());
        }
    }

    /// Finds the destination of a host, else that of `"*"`; `None` if there is neither. The host is as the client wrote
    /// it, without its port; case does not matter, nor does a final dot, which only marks a name as fully qualified.
    pub fn find(&self, host: &str) -> Option<&T> {
        let host = lower_case(host);
        let dotless = || self.exact.get(host.strip_suffix('.')?);
        self.exact.get(host.as_ref()).or_else(dotless).or(self.other.as_ref())
    }

    /// Returns the configured hosts, sorted, without `"*"`.
    pub fn hosts(&self) -> &Arc<Vec<String>> {
        &self.hosts
    }
}

/// Returns a host in lower case; most are already, and are not copied.
fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        host.to_ascii_lowercase().into()
    } else {
        host.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_a_final_dot_do_not_matter_and_the_star_takes_the_rest() {
        let mut table = Table::default();
        table.insert("api.example", 1);
        assert_eq!(table.find("API.Example"), Some(&1));
        assert_eq!(table.find("api.example."), Some(&1));
        assert_eq!(table.find("other.example"), None);
        table.insert("*", 2);
        assert_eq!(table.find("other.example"), Some(&2));
        assert_eq!(table.find("api.example."), Some(&1));
        assert_eq!(table.find("api.example"), Some(&1));
        table.insert("a.example", 3);
        table.insert("api.example", 4);
        assert_eq!(**table.hosts(), ["a.example", "api.example"]);
    }
}
