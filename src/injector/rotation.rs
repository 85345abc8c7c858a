//! The content of the Secret that all replicas share: a pure state machine over the Secret's data and the time.
//!
//! A CA is replaced by three writes, with an overlap between them. A new CA is *announced*: `caBundle` then holds it.
//! It *takes over*: a serving certificate is issued by it. The old CA is *dropped*. A client that has the `caBundle` of
//! one write earlier or later still trusts the serving certificate. A serving certificate is replaced by one write.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::ByteString;

use super::{
    authority::{Authority, PemPair},
    certificate::Serving,
};

/// A Secret's data.
pub(super) type Data = BTreeMap<String, ByteString>;

/// The wanted lifetimes and the wanted name of certificates.
#[derive(Debug, Clone)]
pub(super) struct CertificateTerms {
    pub(super) authority: Duration,
    pub(super) certificate: Duration,
    /// The DNS name by which the API server calls the injector.
    pub(super) name: String,
}

/// The change of the Secret that is due.
#[derive(Debug)]
pub(super) enum RotationStep {
    /// No change is due.
    Rest,
    /// The Secret is to be replaced by this data; the text is the reason, for the log.
    Write(Data, &'static str),
}

/// The Secret's data, parsed.
#[derive(Debug, Clone)]
pub(super) struct SecretContent {
    /// The CA that signs.
    pub(super) authority: Authority,
    pub(super) serving: PemPair,
    /// The announced CA, which will sign once every API server trusts it.
    next: Option<Authority>,
    /// The certificate of the CA that signed before, in PEM, as long as it must be trusted.
    previous: Option<String>,
    /// The time at which the rotation entered its present state.
    changed: SystemTime,
}

const AUTHORITY: (&str, &str) = ("ca.crt", "ca.key");
const NEXT: (&str, &str) = ("next-ca.crt", "next-ca.key");
const PREVIOUS: &str = "previous-ca.crt";
const SERVING: (&str, &str) = ("tls.crt", "tls.key");
/// The key of [`SecretContent::changed`], in seconds since 1970.
const CHANGED: &str = "changed";

/// A successor is due when less than this part of the lifetime is left: a third.
const LAST_PART: u32 = 3;
/// An overlap is this part of a CA's lifetime (a twelfth), and at most `LONGEST_OVERLAP`.
const OVERLAP_PART: u32 = 12;
const LONGEST_OVERLAP: Duration = Duration::from_mins(10);

impl CertificateTerms {
    /// Returns the least time between two writes of a rotation. By then every API server and every replica has seen the
    /// first of them.
    pub(super) fn overlap(&self) -> Duration {
        (self.authority / OVERLAP_PART).min(LONGEST_OVERLAP)
    }
}

/// Returns the change that is due now; nothing is written here. `announced` is true if the `caBundle` of every webhook
/// is the bundle of this data. Fails if a key or certificate cannot be made.
pub(super) fn step(
    data: &Data,
    now: SystemTime,
    terms: &CertificateTerms,
    announced: bool,
) -> Result<RotationStep, rcgen::Error> {
    let write = |content: &SecretContent, why| Ok(RotationStep::Write(content.write(data), why));
    let Some(mut content) =
        SecretContent::read(data).filter(|content| content.authority.not_after > now)
    else {
        let authority = Authority::make(terms.authority, now)?;
        return write(
            &SecretContent::beginning(authority, now, terms)?,
            "there is no CA to go on with",
        );
    };
    if !content.serves(now, terms) {
        content.serving = content.authority.issue(&terms.name, terms.certificate, now)?;
        return write(&content, "a new serving certificate is due");
    }
    let elapsed = now.duration_since(content.changed).unwrap_or_default();
    let overlapped = elapsed >= terms.overlap();
    if let Some(next) = content.next.clone() {
        if !(announced && overlapped) {
            return Ok(RotationStep::Rest);
        }
        let previous = content.authority.pair.certificate;
        let content = SecretContent {
            previous: Some(previous),
            ..SecretContent::beginning(next, now, terms)?
        };
        return write(&content, "the new CA takes over");
    }
    if content.previous.is_some() {
        if !overlapped {
            return Ok(RotationStep::Rest);
        }
        content.previous = None;
        return write(&content, "the CA of before is dropped");
    }
    if is_due(content.authority.not_after, terms.authority, now) {
        content.next = Some(Authority::make(terms.authority, now)?);
        content.changed = now;
        return write(&content, "a new CA is announced");
    }
    Ok(RotationStep::Rest)
}

impl SecretContent {
    /// Parses the data. Returns `None` if it holds no CA that can sign. A missing serving certificate becomes an empty
    /// one, which is replaced at the next step.
    pub(super) fn read(data: &Data) -> Option<Self> {
        let text = |key| data.get(key).and_then(|value| String::from_utf8(value.0.clone()).ok());
        let pair =
            |(certificate, key)| Some(PemPair { certificate: text(certificate)?, key: text(key)? });
        let changed = text(CHANGED).and_then(|text| text.parse().ok()).unwrap_or_default();
        Some(Self {
            authority: Authority::read(pair(AUTHORITY)?)?,
            serving: pair(SERVING)
                .unwrap_or(PemPair { certificate: String::new(), key: String::new() }),
            next: pair(NEXT).and_then(Authority::read),
            previous: text(PREVIOUS),
            changed: UNIX_EPOCH.checked_add(Duration::from_secs(changed)).unwrap_or(UNIX_EPOCH),
        })
    }

    /// Returns all CA certificates that API servers must trust, in PEM.
    pub(super) fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| next.pair.certificate.as_str());
        let all = [Some(self.authority.pair.certificate.as_str()), next, self.previous.as_deref()];
        all.into_iter().flatten().collect()
    }

    /// Makes the content in which this CA signs alone, with a new serving certificate; `now` is the time of the change.
    fn beginning(
        authority: Authority,
        now: SystemTime,
        terms: &CertificateTerms,
    ) -> Result<Self, rcgen::Error> {
        let serving = authority.issue(&terms.name, terms.certificate, now)?;
        Ok(Self { authority, serving, next: None, previous: None, changed: now })
    }

    /// True if the serving certificate is accepted now and no successor is due for it.
    fn serves(&self, now: SystemTime, terms: &CertificateTerms) -> bool {
        let PemPair { certificate, key } = &self.serving;
        Serving::from_pem(certificate.as_bytes(), key.as_bytes(), now).is_ok_and(|serving| {
            // A certificate that ends with its CA cannot be replaced by one that lasts longer.
            let longest = serving.not_after >= self.authority.not_after;
            self.authority.vouches_for(&serving, &terms.name, now)
                && (longest || !is_due(serving.not_after, terms.certificate, now))
        })
    }

    /// Returns the content as the Secret's data. Entries of `data` that belong to others are kept.
    fn write(&self, data: &Data) -> Data {
        let mut data = data.clone();
        let seconds = self.changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let next = self.next.as_ref().map(|next| &next.pair);
        let pairs =
            [(AUTHORITY, Some(&self.authority.pair)), (SERVING, Some(&self.serving)), (NEXT, next)];
        let texts = pairs.into_iter().flat_map(|((certificate, key), pair)| {
            let of = |part: fn(&PemPair) -> &String| pair.map(|pair| part(pair).clone());
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

/// True if a successor is due for a certificate with this lifetime and this end.
fn is_due(not_after: SystemTime, lifetime: Duration, now: SystemTime) -> bool {
    not_after.duration_since(now).unwrap_or_default() < lifetime / LAST_PART
}

#[cfg(test)]
mod tests;
