//! What becomes of the Secret that all replicas share: a pure state machine over its content and the time.
//!
//! A CA is replaced in three writes, an overlap apart: a new one is *announced*, so that `caBundle` holds it; it *takes
//! over*, with a serving certificate of its own; the one before is *dropped*. Whoever trusts the `caBundle` of one write
//! earlier or later trusts the serving certificate too. A serving certificate is replaced in one.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::ByteString;

use super::{
    authority::{Authority, Pair},
    certificate::Serving,
};

/// A Secret's data.
pub(super) type Data = BTreeMap<String, ByteString>;

/// What certificates are to be like.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) authority: Duration,
    pub(super) certificate: Duration,
    /// The name that the API server calls.
    pub(super) name: String,
}

/// What is to be done with the Secret.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing yet.
    Rest,
    /// This is to be its data; why, for the log.
    Write(Data, &'static str),
}

/// The Secret's data, understood.
#[derive(Debug, Clone)]
pub(super) struct Content {
    /// Who signs.
    pub(super) authority: Authority,
    pub(super) serving: Pair,
    /// Who will sign, once everybody trusts it.
    next: Option<Authority>,
    /// Who signed before: its certificate.
    previous: Option<String>,
    /// When `next` or `previous` was written.
    changed: SystemTime,
}

const AUTHORITY: (&str, &str) = ("ca.crt", "ca.key");
const NEXT: (&str, &str) = ("next-ca.crt", "next-ca.key");
const PREVIOUS: &str = "previous-ca.crt";
const SERVING: (&str, &str) = ("tls.crt", "tls.key");
/// In seconds since 1970.
const CHANGED: &str = "changed";

/// What is left of a lifetime when a successor is due: one part in so many.
const LAST_PART: u32 = 3;
/// An overlap is one part in so many of a CA's life, and never longer than the other.
const OVERLAP_PART: u32 = 12;
const LONGEST_OVERLAP: Duration = Duration::from_mins(10);

impl Terms {
    /// How long each state of a rotation lasts: by then every API server and every replica has seen it.
    pub(super) fn overlap(&self) -> Duration {
        (self.authority / OVERLAP_PART).min(LONGEST_OVERLAP)
    }
}

/// What is to be done now. `announced`: every webhook's `caBundle` is that of this data.
pub(super) fn step(
    data: &Data,
    now: SystemTime,
    terms: &Terms,
    announced: bool,
) -> Result<Step, rcgen::Error> {
    let write = |content: &Content, why| Ok(Step::Write(content.write(data), why));
    let Some(mut content) = Content::read(data).filter(|content| content.authority.not_after > now)
    else {
        let authority = Authority::make(terms.authority, now)?;
        return write(&Content::beginning(authority, now, terms)?, "there is no CA to go on with");
    };
    if !content.serves(now, terms) {
        content.serving = content.authority.issue(&terms.name, terms.certificate, now)?;
        return write(&content, "a new serving certificate is due");
    }
    let elapsed = now.duration_since(content.changed).unwrap_or_default();
    let overlapped = elapsed >= terms.overlap();
    if let Some(next) = content.next.clone() {
        if !(announced && overlapped) {
            return Ok(Step::Rest);
        }
        let previous = content.authority.pair.certificate;
        let content = Content { previous: Some(previous), ..Content::beginning(next, now, terms)? };
        return write(&content, "the new CA takes over");
    }
    if content.previous.is_some() {
        if !overlapped {
            return Ok(Step::Rest);
        }
        content.previous = None;
        return write(&content, "the CA of before is dropped");
    }
    if is_due(content.authority.not_after, terms.authority, now) {
        content.next = Some(Authority::make(terms.authority, now)?);
        content.changed = now;
        return write(&content, "a new CA is announced");
    }
    Ok(Step::Rest)
}

impl Content {
    /// `None` where there is no CA that can sign.
    pub(super) fn read(data: &Data) -> Option<Self> {
        let text = |key| data.get(key).and_then(|value| String::from_utf8(value.0.clone()).ok());
        let pair =
            |(certificate, key)| Some(Pair { certificate: text(certificate)?, key: text(key)? });
        let changed = text(CHANGED).and_then(|text| text.parse().ok()).unwrap_or_default();
        Some(Self {
            authority: Authority::read(pair(AUTHORITY)?)?,
            serving: pair(SERVING)
                .unwrap_or(Pair { certificate: String::new(), key: String::new() }),
            next: pair(NEXT).and_then(Authority::read),
            previous: text(PREVIOUS),
            changed: UNIX_EPOCH.checked_add(Duration::from_secs(changed)).unwrap_or(UNIX_EPOCH),
        })
    }

    /// All that API servers are to trust, in PEM.
    pub(super) fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| next.pair.certificate.as_str());
        let all = [Some(self.authority.pair.certificate.as_str()), next, self.previous.as_deref()];
        all.into_iter().flatten().collect()
    }

    fn beginning(
        authority: Authority,
        now: SystemTime,
        terms: &Terms,
    ) -> Result<Self, rcgen::Error> {
        let serving = authority.issue(&terms.name, terms.certificate, now)?;
        Ok(Self { authority, serving, next: None, previous: None, changed: now })
    }

    /// Whether its serving certificate is good, and will be for a while.
    fn serves(&self, now: SystemTime, terms: &Terms) -> bool {
        let Pair { certificate, key } = &self.serving;
        Serving::from_pem(certificate.as_bytes(), key.as_bytes(), now).is_ok_and(|serving| {
            // One that ends with its CA cannot be bettered by another.
            let longest = serving.not_after >= self.authority.not_after;
            self.authority.vouches_for(&serving, &terms.name, now)
                && (longest || !is_due(serving.not_after, terms.certificate, now))
        })
    }

    /// As the Secret's data; what is not ours in there stays.
    fn write(&self, data: &Data) -> Data {
        let mut data = data.clone();
        let seconds = self.changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let next = self.next.as_ref().map(|next| &next.pair);
        let pairs =
            [(AUTHORITY, Some(&self.authority.pair)), (SERVING, Some(&self.serving)), (NEXT, next)];
        let texts = pairs.into_iter().flat_map(|((certificate, key), pair)| {
            let of = |part: fn(&Pair) -> &String| pair.map(|pair| part(pair).clone());
            [(certificate, of(|pair| &pair.certificate)), (key, of(|pair| &pair.key))]
        });
        let rest = [(PREVIOUS, self.previous.clone()), (CHANGED, Some(seconds.to_string()))];
        for (key, text) in texts.chain(rest) {
            match text {
                Some(text) => data.insert(key.to_owned(), ByteString(text.into_bytes())),
                None => data.remove(key),
            };
        }
        data
    }
}

/// Whether a successor is due for what lives so long, and ends then.
fn is_due(not_after: SystemTime, lifetime: Duration, now: SystemTime) -> bool {
    not_after.duration_since(now).unwrap_or_default() < lifetime / LAST_PART
}

#[cfg(test)]
mod tests;
