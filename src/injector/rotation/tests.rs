//! Rotation as sentences. The tests move the time, and keep the bundle that API servers trust beside the data.

use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::*;
use crate::injector::{authority::vouches, certificate::not_after};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const NAME: &str = "warmline-injector.warmline-system.svc";

fn terms() -> CertificateTerms {
    CertificateTerms { authority: 90 * DAY, certificate: 30 * DAY, name: NAME.into() }
}

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(500_000)
}

/// Returns the data and the reason of a step that must be a write.
fn written(step: RotationStep) -> (Data, &'static str) {
    match step {
        RotationStep::Write(data, why) => (data, why),
        RotationStep::Rest => panic!("nothing was due"),
    }
}

fn go(data: &Data, now: SystemTime, announced: bool) -> RotationStep {
    step(data, now, &terms(), announced).unwrap()
}

fn assert_rests(data: &Data, now: SystemTime, announced: bool) {
    if let RotationStep::Write(_, why) = go(data, now, announced) {
        panic!("{why}");
    }
}

fn begun() -> Data {
    written(go(&Data::new(), start(), false)).0
}

fn text(data: &Data, key: &str) -> String {
    String::from_utf8(data[key].0.clone()).unwrap()
}

fn keys(data: &Data) -> Vec<&str> {
    data.keys().map(String::as_str).collect()
}

/// True if a client that trusts this bundle accepts the serving certificate of this data.
fn trusts(bundle: &str, data: &Data, now: SystemTime) -> bool {
    let served = SecretContent::read(data).unwrap().serving;
    let serving =
        Serving::from_pem(served.certificate.as_bytes(), served.key.as_bytes(), now).unwrap();
    CertificateDer::pem_slice_iter(bundle.as_bytes()).any(|authority| {
        let authority = authority.unwrap();
        let living = not_after(&authority).unwrap() > now;
        living && vouches(&authority, &serving, NAME, now).is_some()
    })
}

#[test]
fn an_empty_secret_gets_a_ca_and_a_certificate_for_the_service() {
    let (data, why) = written(go(&Data::new(), start(), false));
    assert_eq!(why, "there is no CA to go on with");
    assert_eq!(keys(&data), ["ca.crt", "ca.key", "changed", "tls.crt", "tls.key"]);
    let content = SecretContent::read(&data).unwrap();
    assert_eq!(content.bundle(), text(&data, "ca.crt"));
    assert!(trusts(&content.bundle(), &data, start()));
    assert!(!trusts(&content.bundle(), &data, start() + 31 * DAY), "expired");
    assert_rests(&data, start(), false);
    assert_rests(&data, start() + 19 * DAY, true);
}

#[test]
fn data_of_others_in_the_secret_stays() {
    let foreign = Data::from([("note".to_owned(), ByteString(b"theirs".to_vec()))]);
    let (data, _) = written(go(&foreign, start(), false));
    assert_eq!(text(&data, "note"), "theirs");
}

#[test]
fn a_serving_certificate_is_renewed_in_its_last_third_and_the_ca_stays() {
    let data = begun();
    let later = start() + 20 * DAY + HOUR;
    let (renewed, why) = written(go(&data, later, true));
    assert_eq!(why, "a new serving certificate is due");
    assert_eq!(text(&renewed, "ca.crt"), text(&data, "ca.crt"));
    assert_ne!(text(&renewed, "tls.crt"), text(&data, "tls.crt"));
    assert!(trusts(&text(&data, "ca.crt"), &renewed, later + 29 * DAY));
    assert_rests(&renewed, later, true);
}

#[test]
fn a_client_one_write_behind_or_ahead_trusts_the_certificate_all_through_a_rotation() {
    let (mut data, mut now) = (begun(), start());
    let mut bundles = vec![SecretContent::read(&data).unwrap().bundle()];
    let mut reasons = Vec::new();
    let end = start() + 200 * DAY;
    while now < end {
        if let RotationStep::Write(next, why) = go(&data, now, true) {
            let old_bundle = bundles.last().unwrap().clone();
            assert!(trusts(&old_bundle, &next, now), "{why}: an API server that lags");
            let bundle = SecretContent::read(&next).unwrap().bundle();
            assert!(trusts(&bundle, &data, now), "{why}: a replica that lags");
            assert!(trusts(&bundle, &next, now), "{why}");
            if why != "a new serving certificate is due" {
                reasons.push(why);
            }
            bundles.push(bundle);
            data = next;
        }
        now += 3 * HOUR;
    }
    let rotation =
        ["a new CA is announced", "the new CA takes over", "the CA of before is dropped"];
    assert_eq!(reasons, [rotation, rotation, rotation].concat());
    assert!(!bundles.last().unwrap().contains(&bundles[0]), "the first CA is out");
    assert_eq!(keys(&data), ["ca.crt", "ca.key", "changed", "tls.crt", "tls.key"]);
}

#[test]
fn a_new_ca_takes_over_only_once_it_is_announced_and_the_overlap_is_over() {
    let due = start() + 60 * DAY + HOUR;
    let (data, _) = written(go(&begun(), due, true));
    assert_eq!(SecretContent::read(&data).unwrap().serving.certificate, text(&data, "tls.crt"));
    // The serving certificate comes first, because it is overdue as well: nothing renewed it for 60 days.
    let (data, why) = written(go(&data, due, true));
    assert_eq!(why, "a new CA is announced");
    let overlap = terms().overlap();
    assert_eq!(overlap, Duration::from_mins(10));
    assert_rests(&data, due + overlap - Duration::from_secs(1), true);
    assert_rests(&data, due + overlap, false);
    assert_rests(&data, due + DAY, false);
    let (taken, why) = written(go(&data, due + overlap, true));
    assert_eq!(why, "the new CA takes over");
    assert_eq!(text(&taken, "ca.crt"), text(&data, "next-ca.crt"));
    assert_eq!(text(&taken, "previous-ca.crt"), text(&data, "ca.crt"));
    assert!(!taken.contains_key("next-ca.key"));
    let sorted = |data: &Data| {
        let bundle = SecretContent::read(data).unwrap().bundle();
        let mut parts: Vec<_> = bundle.split("-----BEGIN").map(str::to_owned).collect();
        parts.sort();
        parts
    };
    assert_eq!(sorted(&taken), sorted(&data), "both are trusted before and after");
    assert_rests(&taken, due + overlap + overlap - Duration::from_secs(1), false);
    let (dropped, _) = written(go(&taken, due + overlap + overlap, false));
    assert!(!dropped.contains_key("previous-ca.crt"));
}

#[test]
fn certificates_are_renewed_while_a_new_ca_waits_to_be_announced_until_none_can_be_better() {
    let terms = CertificateTerms { certificate: 10 * DAY, ..terms() };
    let go = |data: &Data, day: u32| step(data, start() + day * DAY, &terms, false).unwrap();
    let (data, _) = written(go(&begun(), 61));
    let (announced, why) = written(go(&data, 61));
    assert_eq!(why, "a new CA is announced");
    let mut data = announced.clone();
    for day in [68, 75, 82] {
        let (renewed, why) = written(go(&data, day));
        assert_eq!(why, "a new serving certificate is due");
        assert_eq!(text(&renewed, "next-ca.crt"), text(&announced, "next-ca.crt"));
        assert!(matches!(go(&renewed, day), RotationStep::Rest));
        data = renewed;
    }
    // The serving certificate ends with its CA, so that a new one would not last longer.
    assert!(matches!(go(&data, 89), RotationStep::Rest));
    let (_, why) = written(go(&data, 90));
    assert_eq!(why, "there is no CA to go on with");
}

#[test]
fn a_ca_that_expired_while_nobody_looked_is_replaced_at_once() {
    let later = start() + 91 * DAY;
    let (data, why) = written(go(&begun(), later, true));
    assert_eq!(why, "there is no CA to go on with");
    assert!(trusts(&text(&data, "ca.crt"), &data, later));
    assert_rests(&data, later, false);
}

#[test]
fn whatever_is_broken_in_the_secret_is_made_anew() {
    let good = begun();
    let other = begun();
    let with = |key: &str, value: &[u8]| {
        let mut data = good.clone();
        data.insert(key.into(), ByteString(value.to_vec()));
        data
    };
    for (data, reason) in [
        (with("ca.crt", b""), "there is no CA to go on with"),
        (with("ca.crt", b"\xff"), "there is no CA to go on with"),
        (with("ca.key", b"x"), "there is no CA to go on with"),
        (with("ca.key", &other["ca.key"].0), "there is no CA to go on with"),
        // A serving certificate in the place of the CA's, with its key.
        (
            with("ca.crt", &good["tls.crt"].0)
                .into_iter()
                .chain([("ca.key".to_owned(), good["tls.key"].clone())])
                .collect(),
            "there is no CA to go on with",
        ),
        (with("tls.crt", b""), "a new serving certificate is due"),
        (with("tls.key", &other["tls.key"].0), "a new serving certificate is due"),
        (
            with("tls.crt", &other["tls.crt"].0)
                .into_iter()
                .chain([("tls.key".to_owned(), other["tls.key"].clone())])
                .collect(),
            "a new serving certificate is due",
        ),
    ] {
        let (data, why) = written(go(&data, start(), false));
        assert_eq!(why, reason);
        assert!(trusts(&SecretContent::read(&data).unwrap().bundle(), &data, start()));
        assert_rests(&data, start(), false);
    }
    assert_rests(&with("next-ca.crt", b"x"), start(), false);
    assert_rests(&with("changed", b"x"), start(), false);
}

#[test]
fn a_certificate_for_another_service_is_replaced() {
    let other = CertificateTerms { name: "other.warmline-system.svc".into(), ..terms() };
    let (data, why) = written(step(&begun(), start(), &other, true).unwrap());
    assert_eq!(why, "a new serving certificate is due");
    assert!(matches!(step(&data, start(), &other, true).unwrap(), RotationStep::Rest));
}

#[test]
fn lifetimes_of_seconds_rotate_in_seconds() {
    let terms = CertificateTerms {
        authority: Duration::from_secs(24),
        certificate: Duration::from_secs(8),
        name: NAME.into(),
    };
    let (mut data, mut now) = (Data::new(), start());
    let mut whys = BTreeMap::new();
    for _ in 0..240 {
        if let RotationStep::Write(next, why) = step(&data, now, &terms, true).unwrap() {
            *whys.entry(why).or_insert(0) += 1;
            data = next;
        }
        assert!(trusts(&SecretContent::read(&data).unwrap().bundle(), &data, now));
        now += Duration::from_millis(500);
    }
    assert_eq!(whys["there is no CA to go on with"], 1);
    assert!((5..=9).contains(&whys["the new CA takes over"]), "{whys:?}");
    assert!((10..=30).contains(&whys["a new serving certificate is due"]), "{whys:?}");
}
