//! From a request's host to its destination.

use std::{borrow::Cow, collections::HashMap};

/// Destinations by host.
#[derive(Debug)]
pub struct Table<T> {
    exact: HashMap<String, T>,
    /// For `"*"`: every other host.
    other: Option<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), other: None }
    }
}

impl<T> Table<T> {
    /// Adds a host, lower case and without a port, or `"*"`.
    pub fn insert(&mut self, host: &str, destination: T) {
        if host == "*" {
            self.other = Some(destination);
        } else {
            self.exact.insert(host.to_owned(), destination);
        }
    }

    /// The destination of a host as the client wrote it, without its port. A final dot, with which a name is only said to
    /// be whole, does not matter.
    pub fn find(&self, host: &str) -> Option<&T> {
        let host = lower_case(host);
        let dotless = || self.exact.get(host.strip_suffix('.')?);
        self.exact.get(host.as_ref()).or_else(dotless).or(self.other.as_ref())
    }

    /// The configured hosts, sorted, `"*"` last.
    pub fn hosts(&self) -> Vec<&str> {
        let mut hosts: Vec<_> = self.exact.keys().map(String::as_str).collect();
        hosts.sort_unstable();
        hosts.extend(self.other.is_some().then_some("*"));
        hosts
    }
}

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
        assert_eq!(table.hosts(), ["api.example", "*"]);
    }
}
