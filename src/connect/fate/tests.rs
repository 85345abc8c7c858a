//! The fates of attempts, for each combination of facts that differs in them.

use super::*;

const FINAL: AlertDescription = AlertDescription::CertificateUnknown;
const PASSING: AlertDescription = AlertDescription::InternalError;

/// Returns the evidence on an attempt whose request was written on a used connection with a full handshake, and that
/// simply ended.
fn written(version: Version) -> Evidence {
    Evidence {
        sent: true,
        begun: false,
        awaits_head: true,
        peer_ended: true,
        forgotten: false,
        ended: None,
        alert: None,
        refusal: None,
        past: PriorUse::Used,
        version,
        resumed_tls13: false,
    }
}

#[test]
fn the_marks_of_an_exchange_tell_how_far_it_came() {
    let plain = || written(Version::Tls13);
    for (evidence, fate) in [
        (Evidence { sent: false, ..plain() }, Fate::NotSent),
        (plain(), Fate::Unanswered { forgotten: false }),
        (Evidence { forgotten: true, ..plain() }, Fate::Unanswered { forgotten: true }),
        (Evidence { begun: true, ..plain() }, Fate::Begun { unreadable: false }),
        (Evidence { begun: true, peer_ended: false, ..plain() }, Fate::Begun { unreadable: true }),
        (Evidence { begun: true, awaits_head: false, ..plain() }, Fate::Begun { unreadable: true }),
    ] {
        assert_eq!(evidence.fate(), fate);
        assert_eq!(evidence.suspect(), None, "{fate:?}");
    }
}

#[test]
fn an_attempt_without_a_response_leaves_its_connection_unfit_and_stale_only_if_it_may_have_been() {
    let reason = EndReason::Rotated;
    let alert = Fate::IdentityRefused(FINAL);
    for (fate, used, fresh) in [
        (Fate::NotSent, EndReason::Stale, EndReason::Unfit),
        (Fate::Unanswered { forgotten: true }, EndReason::Stale, EndReason::Unfit),
        (Fate::Begun { unreadable: true }, EndReason::Unfit, EndReason::Unfit),
        (alert, EndReason::Unfit, EndReason::Unfit),
        (Fate::Refused(Refusal::Renegotiation), EndReason::Unfit, EndReason::Unfit),
        (Fate::Ended { reason, begun: false }, reason, reason),
        (Fate::Ended { reason, begun: true }, reason, reason),
    ] {
        assert_eq!(fate.verdict(PriorUse::Used, None), Verdict::Unfit(used), "{fate:?}");
        assert_eq!(fate.verdict(PriorUse::Unused, None), Verdict::Unfit(used), "{fate:?}");
        assert_eq!(fate.verdict(PriorUse::JustDialled, None), Verdict::Unfit(fresh), "{fate:?}");
    }
}

#[test]
fn a_connection_that_warmline_ended_before_anything_was_sent_is_not_called_stale() {
    let rotated = EndReason::Rotated;
    for past in [PriorUse::Used, PriorUse::Unused, PriorUse::JustDialled] {
        assert_eq!(Fate::NotSent.verdict(past, Some(rotated)), Verdict::Unfit(rotated), "{past:?}");
    }
}

#[test]
fn an_end_that_warmline_made_is_told_with_its_reason_unless_nothing_was_sent() {
    let reason = EndReason::Rotated;
    for (sent, begun, fate) in [
        (false, false, Fate::NotSent),
        (true, false, Fate::Ended { reason, begun: false }),
        (true, true, Fate::Ended { reason, begun: true }),
    ] {
        let evidence = Evidence { sent, begun, ended: Some(reason), ..written(Version::Tls13) };
        assert_eq!(evidence.fate(), fate);
    }
}

#[test]
fn an_alert_on_a_first_exchange_is_a_refusal_of_the_certificate_in_tls_1_3_alone() {
    let refused = Refusal::Alert(FINAL);
    let silence = Fate::Unanswered { forgotten: false };
    for (version, past, fate, suspect) in [
        (
            Version::Tls13,
            PriorUse::JustDialled,
            Fate::IdentityRefused(FINAL),
            Some(Suspect::Identity),
        ),
        (Version::Tls13, PriorUse::Unused, Fate::IdentityRefused(FINAL), Some(Suspect::Identity)),
        (Version::Tls13, PriorUse::Used, silence, None),
        (Version::Tls12, PriorUse::JustDialled, Fate::Refused(refused), None),
        (Version::Tls12, PriorUse::Used, silence, None),
    ] {
        let evidence =
            Evidence { alert: Some(FINAL), refusal: Some(refused), past, ..written(version) };
        assert_eq!((evidence.fate(), evidence.suspect()), (fate, suspect), "{past:?}");
    }
}

#[test]
fn an_alert_that_may_pass_casts_doubt_on_the_certificate_and_refuses_nothing() {
    let evidence =
        Evidence { alert: Some(PASSING), past: PriorUse::JustDialled, ..written(Version::Tls13) };
    assert_eq!(evidence.fate(), Fate::Unanswered { forgotten: false });
    assert_eq!(evidence.suspect(), Some(Suspect::Identity));
}

#[test]
fn a_resumed_connection_that_ends_at_once_casts_doubt_on_its_session() {
    for (alert, past, ended, suspect) in [
        (None, PriorUse::JustDialled, None, Some(Suspect::Session(None))),
        (Some(FINAL), PriorUse::JustDialled, None, Some(Suspect::Session(Some(FINAL)))),
        (Some(FINAL), PriorUse::Unused, None, Some(Suspect::Session(Some(FINAL)))),
        (None, PriorUse::Unused, None, None),
        (None, PriorUse::Used, None, None),
        (None, PriorUse::JustDialled, Some(EndReason::Rotated), None),
    ] {
        let refusal = alert.map(Refusal::Alert);
        let evidence = Evidence {
            alert,
            refusal,
            past,
            ended,
            resumed_tls13: true,
            ..written(Version::Tls13)
        };
        assert_eq!(evidence.suspect(), suspect, "{alert:?} {past:?}");
        let fate = match ended {
            Some(reason) => Fate::Ended { reason, begun: false },
            None => Fate::Unanswered { forgotten: false },
        };
        assert_eq!(evidence.fate(), fate, "another attempt makes a full handshake");
    }
}

#[test]
fn a_renegotiation_counts_on_used_connections_and_behind_informational_responses_too() {
    let refusal = Some(Refusal::Renegotiation);
    let refused = Fate::Refused(Refusal::Renegotiation);
    for (begun, awaits_head, fate) in [
        (false, true, refused),
        (true, true, refused),
        (true, false, Fate::Begun { unreadable: true }),
    ] {
        let evidence = Evidence { begun, awaits_head, refusal, ..written(Version::Tls12) };
        assert_eq!(evidence.fate(), fate);
    }
}
