//! A configuration in a key of a `ConfigMap`: which one, what is known of it, and the way between whoever follows it
//! ([`follow()`]) and whoever puts it in force.

mod content;
mod follow;
mod notice;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Instant};

use tokio::sync::watch::{Receiver, Sender, channel};

pub use follow::{FollowError, connect, follow};

/// Names a key of a `ConfigMap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `None` is the pod's own.
    pub namespace: Option<String>,
    /// The `ConfigMap`.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// The text under the key, or why there is none.
pub type Content = Result<Arc<str>, String>;

/// What is known of a `ConfigMap` at one moment.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// As of the last contact; `None` before the first.
    pub content: Option<Content>,
    /// Of the object that holds it.
    pub uid: Option<String>,
    /// Without contact now; `None` also before the first try has ended.
    pub away: Option<Away>,
}

/// No contact with the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// Since when.
    pub since: Instant,
    /// Why.
    pub reason: String,
}

/// A configuration that was refused, for the cluster to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Of what was refused: the same for everyone who refuses the same.
    pub hash: String,
    /// What is wrong, where, and what would be right.
    pub reason: String,
}

/// A followed `ConfigMap`, as its reader has it.
#[derive(Debug, Clone)]
pub struct ConfigMap {
    reference: Reference,
    known: Receiver<Known>,
    rejected: Arc<Sender<Option<Rejected>>>,
}

/// The same, as its follower has it.
#[derive(Debug)]
pub struct Feed {
    /// What is known.
    pub known: Sender<Known>,
    /// What lies there and was refused.
    pub rejected: Receiver<Option<Rejected>>,
}

impl ConfigMap {
    /// One of which nothing is known yet, and the end that is to be fed.
    #[must_use]
    pub fn new(reference: Reference) -> (Self, Feed) {
        let (knowing, known) = channel(Known::default());
        let (rejecting, rejected) = channel(None);
        let feed = Feed { known: knowing, rejected };
        (Self { reference, known, rejected: Arc::new(rejecting) }, feed)
    }

    /// Which one it is.
    #[must_use]
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// What is known now.
    #[must_use]
    pub fn known(&self) -> Known {
        self.known.borrow().clone()
    }

    /// Whether the API server has answered yet, or was found not to.
    #[must_use]
    pub fn has_spoken(&self) -> bool {
        let known = self.known.borrow();
        known.content.is_some() || known.away.is_some()
    }

    /// Waits until more is known than at the last [`ConfigMap::changed`]; for ever where nobody follows any more.
    pub async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What lies there was refused, or (`None`) is good.
    pub fn tell_rejected(&self, rejected: Option<Rejected>) {
        self.rejected.send_if_modified(|told| {
            let news = *told != rejected;
            *told = rejected;
            news
        });
    }
}

impl Reference {
    /// Reads `[NAMESPACE/]NAME`.
    pub fn parse(text: &str, key: &str) -> Result<Self, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        for name in namespace.into_iter().chain([name]) {
            if !is_name(name) {
                return Err(format!(
                    "{text:?} names no ConfigMap; write NAME or NAMESPACE/NAME, of a-z, 0-9, `-` and `.`"
                ));
            }
        }
        Ok(Self { namespace: namespace.map(Into::into), name: name.into(), key: key.into() })
    }
}

/// A name as Kubernetes has it (RFC 1123).
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends_plain = text.starts_with(plain) && text.ends_with(plain);
    ends_plain && text.len() <= 253 && text.chars().all(|c| plain(c) || c == '-' || c == '.')
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("configmap/")?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        write!(f, "{}/{}", self.name, self.key)
    }
}
