//! A configuration in a key of a `ConfigMap`: its reference, what is known of it, and the channel between the task that
//! follows it ([`follow()`]) and the code that puts it in force.

mod content;
mod follow;
mod notice;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Instant};

use tokio::sync::watch::{Receiver, Sender, channel};

pub use follow::{FollowError, connect, follow};

/// The name of a key of a `ConfigMap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The namespace; `None` means the pod's own.
    pub namespace: Option<String>,
    /// The name of the `ConfigMap`.
    pub name: String,
    /// The key in its `data`.
    pub key: String,
}

/// The text under the key, or why there is none.
pub type Content = Result<Arc<str>, String>;

/// The content of a `ConfigMap` and the state of contact with the API server, as known at one moment.
#[derive(Debug, Clone, Default)]
pub struct ConfigMapState {
    /// The content as of the last contact; `None` before the first.
    pub content: Option<Content>,
    /// The UID of the `ConfigMap`, by which an Event refers to it.
    pub uid: Option<String>,
    /// The loss of contact, if there is none now; also `None` until the first try has ended.
    pub away: Option<LostContact>,
}

/// A loss of contact with the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostContact {
    /// The time of the loss.
    pub since: Instant,
    /// The words for people: why there is no contact.
    pub reason: String,
}

/// A configuration that was refused, as it is published to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The hash of the refused text, the same in every pod that refuses it.
    pub hash: String,
    /// The words for people: what is wrong, at which place, and what would be right.
    pub reason: String,
}

/// The reader's end of a followed `ConfigMap`.
#[derive(Debug, Clone)]
pub struct ConfigMap {
    reference: Reference,
    known: Receiver<ConfigMapState>,
    rejected: Arc<Sender<Option<Rejected>>>,
}

/// The follower's end of a followed `ConfigMap`.
#[derive(Debug)]
pub struct Feed {
    /// The channel on which the follower tells what it knows.
    pub known: Sender<ConfigMapState>,
    /// The channel on which the reader tells that the current content was refused.
    pub rejected: Receiver<Option<Rejected>>,
}

impl ConfigMap {
    /// Makes the two ends for a `ConfigMap` of which nothing is known yet.
    #[must_use]
    pub fn new(reference: Reference) -> (Self, Feed) {
        let (knowing, known) = channel(ConfigMapState::default());
        let (rejecting, rejected) = channel(None);
        let feed = Feed { known: knowing, rejected };
        (Self { reference, known, rejected: Arc::new(rejecting) }, feed)
    }

    /// Returns the name of the followed key.
    #[must_use]
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Returns what is known now.
    #[must_use]
    pub fn known(&self) -> ConfigMapState {
        self.known.borrow().clone()
    }

    /// True if the API server has answered, or a first try has failed.
    #[must_use]
    pub fn has_spoken(&self) -> bool {
        let known = self.known.borrow();
        known.content.is_some() || known.away.is_some()
    }

    /// Waits until more is known than at the last [`ConfigMap::changed`]; for ever once the follower has ended.
    pub async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Tells the follower that the current content was refused, or (`None`) that it is good. The same rejection as
    /// before is not sent again.
    pub fn publish_rejected(&self, rejected: Option<Rejected>) {
        self.rejected.send_if_modified(|told| {
            let news = *told != rejected;
            *told = rejected;
            news
        });
    }
}

impl Reference {
    /// Reads `[NAMESPACE/]NAME`, and takes `key` as it is. The error says what would be right.
    pub fn parse(text: &str, key: &str) -> Result<Self, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        for name in namespace.into_iter().chain([name]) {
            if !is_name(name) {
                return Err(format!(
                    "{text:?} is not the name of a ConfigMap; write NAME or NAMESPACE/NAME, of a-z, 0-9, `-` and `.`"
                ));
            }
        }
        Ok(Self { namespace: namespace.map(Into::into), name: name.into(), key: key.into() })
    }
}

/// True if the text is a name as Kubernetes allows it (RFC 1123 subdomain, 253 characters at most).
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
