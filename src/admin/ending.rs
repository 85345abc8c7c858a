//! The log lines, and the remark of `/readyz`, about client certificates in force that end soon or have expired. Many
//! upstreams answer an expired certificate with an ordinary 400 or 403, so that nothing else tells its end.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use super::moment::Span;
use crate::{
    config::{IdentityFiles, Plan},
    tls::{Identity, Term},
};

/// The ends of client certificates that the log has told.
#[derive(Debug, Default)]
pub(super) struct ToldEnds(BTreeMap<IdentityFiles, (SystemTime, Term)>);

/// A client certificate in force whose end is near or past.
struct Ending<'a> {
    files: &'a IdentityFiles,
    identity: &'a Arc<Identity>,
    term: Term,
}

impl ToldEnds {
    /// Logs each client certificate of the plan in force once it is near its end, once more when it is very near, and
    /// once it has expired.
    pub(super) fn tell(&mut self, plan: &Plan, now: SystemTime) {
        for ending in self.untold(plan, now) {
            ending.tell(plan, now);
        }
    }

    /// Returns the certificates whose end has come nearer by a step since the last call. A renewed certificate begins
    /// anew.
    fn untold<'a>(&mut self, plan: &'a Plan, now: SystemTime) -> Vec<Ending<'a>> {
        self.0.retain(|files, _| plan.credentials.identities.contains_key(files));
        let mut untold: Vec<_> = endings(plan, now).collect();
        untold.retain(|Ending { files, identity, term }| {
            let end = identity.not_after();
            self.0.get(files).is_none_or(|(told, step)| *told != end || step < term)
        });
        for Ending { files, identity, term } in &untold {
            self.0.insert((*files).clone(), (identity.not_after(), *term));
        }
        untold
    }
}

impl Ending<'_> {
    /// Logs the certificate with its upstreams and its end: an error once it has expired, before that a warning.
    fn tell(&self, plan: &Plan, now: SystemTime) {
        let certificate = self.files.certificate().display();
        let upstreams = self.upstreams(plan).join(" ");
        let ends = self.identity.not_after_text();
        if self.term == Term::Over {
            tracing::error!(%certificate, upstreams, ends, "a client certificate has expired: upstreams refuse it, some with an ordinary 400 or 403; renew it");
        } else {
            let left = Span::between(now, self.identity.not_after());
            tracing::warn!(%certificate, upstreams, ends, %left, "a client certificate ends soon and was not renewed");
        }
    }

    /// Returns the names of the upstreams that the certificate is shown to.
    fn upstreams(&self, plan: &Plan) -> Vec<String> {
        let shows = |identity: &Arc<Identity>| Arc::ptr_eq(identity, self.identity);
        let users = plan.upstreams.iter().filter(|u| u.tls.identity.as_ref().is_some_and(shows));
        users.map(|upstream| upstream.name.clone()).collect()
    }
}

/// Returns the client certificates of the plan whose end is near or past.
fn endings(plan: &Plan, now: SystemTime) -> impl Iterator<Item = Ending<'_>> {
    let identities = plan.credentials.identities.iter();
    identities
        .map(move |(files, identity)| Ending { files, identity, term: Term::of(identity, now) })
        .filter(|ending| ending.term > Term::Far)
}

/// Returns the remark about the client certificate in force that ends first, and the number of others near their end;
/// `None` while all have time.
pub(super) fn remark(plan: &Plan, now: SystemTime) -> Option<String> {
    let first = endings(plan, now).min_by_key(|ending| ending.identity.not_after())?;
    let (end, upstreams) = (first.identity.not_after(), first.upstreams(plan));
    let end = match first.term {
        Term::Over => format!("expired {} ago", Span::between(end, now)),
        _ => format!("ends in {}", Span::between(now, end)),
    };
    let others = match endings(plan, now).count() - 1 {
        0 => String::new(),
        others => format!(", and {others} more end soon or have expired"),
    };
    Some(format!("the client certificate for {} {end}{others}", upstreams.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{
        super::tests::{Memory, NOT_AFTER},
        *,
    };

    /// Makes a plan with one client certificate, from a pair of files, for the upstream `payments`.
    fn plan() -> Plan {
        Memory::new().compile(crate::config::example())
    }

    fn before_the_end(days: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOT_AFTER) - Duration::from_hours(24 * days)
    }

    #[test]
    fn each_step_towards_the_end_is_told_once() {
        let (plan, mut told) = (plan(), ToldEnds::default());
        let mut steps = |now| {
            let untold = told.untold(&plan, now);
            untold.into_iter().map(|ending| ending.term).collect::<Vec<_>>()
        };
        assert_eq!(steps(before_the_end(15)), []);
        assert_eq!(steps(before_the_end(14)), [Term::Near]);
        assert_eq!(steps(before_the_end(13)), []);
        assert_eq!(steps(before_the_end(2)), [Term::VeryNear]);
        let over = before_the_end(0) + Duration::from_secs(1);
        assert_eq!(steps(over), [Term::Over]);
        assert_eq!(steps(over + Duration::from_secs(1)), []);
    }

    #[test]
    fn a_certificate_that_was_renewed_late_is_told_anew_and_one_that_is_gone_is_forgotten() {
        let (plan, mut told) = (plan(), ToldEnds::default());
        assert_eq!(told.untold(&plan, before_the_end(2)).len(), 1);
        let earlier = before_the_end(1);
        told.0.values_mut().for_each(|(end, _)| *end = earlier);
        assert_eq!(told.untold(&plan, before_the_end(2)).len(), 1, "another end");
        let without = super::super::tests::plan();
        assert!(told.untold(&without, before_the_end(2)).is_empty() && told.0.is_empty());
    }

    #[test]
    fn the_remark_says_how_long_the_certificate_lasts_or_since_when_it_does_not() {
        let plan = plan();
        assert_eq!(remark(&plan, before_the_end(15)), None);
        let remark = |now| remark(&plan, now).unwrap();
        assert_eq!(remark(before_the_end(2)), "the client certificate for payments ends in 2d 0h");
        assert_eq!(
            remark(before_the_end(0) + Duration::from_hours(3)),
            "the client certificate for payments expired 3h 0m ago"
        );
    }
}
