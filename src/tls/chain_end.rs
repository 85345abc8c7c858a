//! The end of a server's certificate chain: the last second in which it is accepted.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Verifier;

/// Returns the end of a chain (its leaf first) that is accepted `now`: the earliest end of a certificate without which
/// it would not be accepted, as servers also send certificates that are of no use; at the latest the leaf's. Returns
/// `now` if there is no leaf, or if its end cannot be read.
pub(super) fn of(chain: &[CertificateDer<'_>], verifier: &Verifier, now: UnixTime) -> UnixTime {
    let Some(last) = chain.first().and_then(end) else { return now };
    let mut earlier: Vec<_> =
        chain.iter().skip(1).filter_map(end).filter(|end| (now..last).contains(end)).collect();
    earlier.sort_unstable();
    let needed = |end: &UnixTime| !verifier.believes_at(chain, after(*end));
    earlier.into_iter().find(needed).unwrap_or(last)
}

fn end(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = parsed.validity().not_after.timestamp();
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap_or(0))))
}

fn after(end: UnixTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(end.as_secs().saturating_add(1)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed test is what it is for
mod tests {
    use std::sync::Arc;

    use rcgen::{
        BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd,
    };
    use rustls::{crypto::aws_lc_rs::default_provider, pki_types::ServerName};

    use super::*;
    use crate::tls::Trust;

    fn params(name: &str, until: i32) -> CertificateParams {
        let mut params = CertificateParams::new([name.into()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params.not_before, params.not_after) =
            (date_time_ymd(2000, 1, 1), date_time_ymd(until, 1, 1));
        params
    }

    fn authority(name: &str, until: i32) -> CertificateParams {
        let mut params = params(name, until);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// Returns the beginning of this year.
    fn year(year: i32) -> UnixTime {
        let seconds = date_time_ymd(year, 1, 1).unix_timestamp();
        UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap()))
    }

    #[test]
    fn fault_02_a_chain_ends_with_the_first_certificate_that_it_needs() {
        let keys: Vec<_> = (0..4).map(|_| KeyPair::generate().unwrap()).collect();
        let (root, middle) = (authority("root", 2010), authority("middle", 2030));
        let root_certificate = root.self_signed(&keys[0]).unwrap();
        let root = Issuer::new(root, &keys[0]);
        let middle_certificate = middle.signed_by(&keys[1], &root).unwrap();
        let middle = Issuer::new(middle, &keys[1]);
        let leaf = |until| params("a.example", until).signed_by(&keys[2], &middle).unwrap();
        let stranger = authority("stranger", 2028).self_signed(&keys[3]).unwrap();
        let trust = Arc::new(Trust::from_pem(root_certificate.pem().as_bytes()).unwrap());
        let name = ServerName::try_from("a.example").unwrap();
        let verifier = Verifier::new(trust, name, Arc::new(default_provider())).unwrap();
        let end = |chain: &[&Certificate]| {
            let chain: Vec<_> = chain.iter().map(|certificate| certificate.der().clone()).collect();
            of(&chain, &verifier, year(2025))
        };
        let (early, late) = (leaf(2029), leaf(2035));
        assert_eq!(end(&[&early, &middle_certificate]), year(2029));
        assert_eq!(end(&[&late, &middle_certificate]), year(2030));
        assert_eq!(end(&[&late, &stranger, &middle_certificate]), year(2030));
        assert_eq!(end(&[&early, &stranger, &middle_certificate]), year(2029));
        assert_eq!(end(&[]), year(2025), "without a certificate nothing is kept");
    }
}
