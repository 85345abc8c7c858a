//! An account of the exchange in the head of its response, where a listener has `explain: true`: a member of the
//! Proxy-Status field (RFC 9209) with parameters named as in the access line. Times are seconds.
//!
//! `Proxy-Status: warmline; next-hop="203.0.113.7:443"; reuse=reused; conn=17; use=8; age=41.203; tls=none; queue=0.000;
//! connect=0.000; handshake=0.000; first=0.002; retries=0`

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::attempt::Attempt;
use crate::{telemetry::log::seconds, upstream::RetryReason};

/// The name of the field (RFC 9209 section 2).
pub(super) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The name of Warmline's member of the field.
pub(super) const MEMBER: &str = "warmline";

/// The facts of an exchange that its response reports.
pub(super) struct Explanation<'a> {
    /// The last connection that took the request, if one did.
    pub(super) attempt: Option<&'a Attempt>,
    pub(super) retries: u32,
    /// The reason of the last retry.
    pub(super) retried: Option<RetryReason>,
}

impl Explanation<'_> {
    /// Adds Warmline's member to an upstream's response, behind the members that are there: the last member is always
    /// Warmline's. Lines that hold a member of the same name, or an open string that would swallow the new member, are
    /// removed.
    pub(super) fn join(&self, headers: &mut HeaderMap) {
        if headers.contains_key(PROXY_STATUS) {
            let lines: Vec<_> = headers.get_all(PROXY_STATUS).iter().cloned().collect();
            headers.remove(PROXY_STATUS);
            for line in lines.into_iter().filter(|line| may_precede(line.as_bytes())) {
                headers.append(PROXY_STATUS, line);
            }
        }
        if let Ok(member) = HeaderValue::from_str(&format!("{MEMBER}{self}")) {
            headers.append(PROXY_STATUS, member);
        }
    }

    /// Adds the parameters to the member that an answer of Warmline's own has already.
    pub(super) fn extend(&self, headers: &mut HeaderMap) {
        let member = headers.get(PROXY_STATUS).and_then(|member| member.to_str().ok());
        let extended = member.and_then(|m| HeaderValue::from_str(&format!("{m}{self}")).ok());
        if let Some(extended) = extended {
            headers.insert(PROXY_STATUS, extended);
        }
    }
}

/// Writes the parameters, each after `; `.
impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(attempt) = self.attempt {
            let facts = &attempt.facts;
            write!(f, "; next-hop=\"{}\"; reuse={}", facts.peer, attempt.reuse.as_str())?;
            write!(f, "; conn={}; use={}", attempt.id, attempt.uses)?;
            write!(f, "; age={:.3}; tls={}", seconds(attempt.age), attempt.tls())?;
            write!(f, "; queue={:.3}", seconds(attempt.queued))?;
            write!(f, "; connect={:.3}", attempt.dialled(facts.connect_time))?;
            write!(f, "; handshake={:.3}", attempt.dialled(facts.handshake_time))?;
            if let Some(first) = attempt.first_byte() {
                write!(f, "; first={:.3}", seconds(first))?;
            }
        }
        write!(f, "; retries={}", self.retries)?;
        match self.retried {
            Some(reason) => write!(f, "; retried={reason}"),
            None => Ok(()),
        }
    }
}

/// True if a line of the upstream's field may precede Warmline's: each of its strings ends, and it has members, none of
/// which has Warmline's name.
fn may_precede(line: &[u8]) -> bool {
    let mut scan = ListScan::default();
    line.iter().all(|byte| scan.take(*byte)) && scan.ends()
}

/// A pass over the bytes of a list (RFC 8941 section 3.1) that looks at strings and at the members' names alone.
#[derive(Default)]
struct ListScan {
    quoted: bool,
    escaped: bool,
    /// True once the current member's first parameter has begun: the name is over.
    named: bool,
    name: String,
}

impl ListScan {
    /// Takes the next byte; false if it is not allowed there, or ends a member that may not precede Warmline's.
    fn take(&mut self, byte: u8) -> bool {
        if self.quoted {
            return self.take_quoted(byte);
        }
        match byte {
            b'"' => self.quoted = true,
            b',' => return self.ends_member(),
            b';' => self.named = true,
            b'\t' | b' '..=b'~' => self.note(byte),
            _ => return false,
        }
        true
    }

    /// Takes the next byte of a string; false if it is not allowed there.
    fn take_quoted(&mut self, byte: u8) -> bool {
        match byte {
            b'"' | b'\\' if self.escaped => self.escaped = false,
            _ if self.escaped => return false,
            b'\\' => self.escaped = true,
            b'"' => self.quoted = false,
            b' '..=b'~' => self.note(byte),
            _ => return false,
        }
        true
    }

    fn note(&mut self, byte: u8) {
        if !self.named {
            self.name.push(char::from(byte));
        }
    }

    fn ends_member(&mut self) -> bool {
        let fine = !self.name.trim().is_empty() && !self.name.trim().eq_ignore_ascii_case(MEMBER);
        *self = Self::default();
        fine
    }

    fn ends(mut self) -> bool {
        !self.quoted && self.ends_member()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING_YET: Explanation<'_> =
        Explanation { attempt: None, retries: 1, retried: Some(RetryReason::DialFailed) };

    fn joined(lines: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PROXY_STATUS, HeaderValue::from_str(line).expect("a value"));
        }
        NOTHING_YET.join(&mut headers);
        let values = headers.get_all(PROXY_STATUS).iter();
        values.map(|value| value.to_str().expect("text").to_owned()).collect()
    }

    const OURS: &str = "warmline; retries=1; retried=dial-failed";

    #[test]
    fn our_member_comes_behind_those_of_others() {
        for others in [
            &[][..],
            &["cdn; error=dns_error"],
            &["cdn; details=\"a, warmline; b \\\" c\", \"edge 7\"", "lb;received-status=200"],
            &["warmliner", "\"warmline 2\"", "a; x=warmline"],
        ] {
            let expected = [others, &[OURS]].concat();
            assert_eq!(joined(others), expected);
        }
    }

    #[test]
    fn a_member_that_could_be_taken_for_warmlines_or_hides_it_does_not_pass() {
        for line in [
            "warmline; conn=1",
            "cdn, warmline",
            "cdn , WarmLine;conn=1",
            "\"warmline\"; conn=1",
            "   warmline ; conn=1",
            "cdn; details=\"open",
            "cdn; details=\"open\\",
            "cdn; details=\"\\x\"",
            "cdn,,lb",
            "cdn,",
            "",
            "cdn; details=\"\u{e4}\"",
        ] {
            assert_eq!(joined(&[line, "lb"]), ["lb", OURS], "{line}");
        }
    }

    #[test]
    fn an_answer_of_ours_has_one_member() {
        let mut headers = HeaderMap::new();
        headers.insert(PROXY_STATUS, HeaderValue::from_static("warmline; error=dns_error"));
        NOTHING_YET.extend(&mut headers);
        let values: Vec<_> = headers.get_all(PROXY_STATUS).iter().collect();
        assert_eq!(values, ["warmline; error=dns_error; retries=1; retried=dial-failed"]);
    }
}
