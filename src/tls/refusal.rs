//! An explanation in one sentence of why a server's chain is refused: the certificate, its fault, and the remedy.

use std::{net::Ipv6Addr, time::SystemTime};

use rustls::{
    CertificateError, Error,
    pki_types::{CertificateDer, ServerName},
};
use x509_parser::{
    extensions::{GeneralSubtree, NameConstraints, X509Extension},
    objects::{oid_registry, oid2sn},
    prelude::{GeneralName, X509Certificate},
    public_key::PublicKey,
};

use super::{Trust, x509};
use crate::telemetry::Moment;

/// A chain that was refused, its leaf first, and what it was judged by.
pub(super) struct RefusedChain<'a> {
    pub(super) chain: Vec<&'a CertificateDer<'a>>,
    pub(super) trust: &'a Trust,
    pub(super) name: &'a ServerName<'a>,
    pub(super) now: SystemTime,
}

const REISSUE: &str = "have it issued again";
/// The most certificates that are compared with each other: more than any chain that is followed has.
const COMPARED: usize = 16;
const PIN: &str = "put this very certificate into tls.trust";

impl RefusedChain<'_> {
    /// Returns the explanation of this error: the certificate, its fault and the remedy.
    pub(super) fn explain(&self, error: &Error) -> String {
        let Error::InvalidCertificate(refusal) = error else { return self.malformed() };
        match refusal {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => self.expired(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                self.not_valid_yet()
            }
            CertificateError::UnknownIssuer => self.unknown_issuer(),
            CertificateError::BadSignature => self.bad_signature(),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                wrong_name(self.name, self.parsed(1).as_ref())
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                self.not_for_servers()
            }
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                self.unsupported_signature()
            }
            CertificateError::Other(other) => match other.0.downcast_ref() {
                Some(error) => self.of_webpki(error),
                None => self.malformed(),
            },
            _ => self.malformed(),
        }
    }

    /// Returns the explanation of an error that webpki has and rustls does not.
    fn of_webpki(&self, error: &webpki::Error) -> String {
        use webpki::Error as E;
        match error {
            E::CaUsedAsEndEntity => format!(
                "{} is marked as a CA (basicConstraints CA:TRUE), and a server's own certificate must not be; {REISSUE} without \
                 that mark, or {PIN}",
                self.named(1)
            ),
            E::EndEntityUsedAsCa => match self.find_issuer(|certificate| !certificate.is_ca()) {
                Some(number) => format!(
                    "{} signs others and is not marked as a CA (basicConstraints CA:TRUE); {REISSUE} with that mark",
                    self.named(number)
                ),
                None => self.unknown_issuer(),
            },
            E::UnsupportedCriticalExtension => self.critical_extension(),
            E::UnsupportedCertVersion => self.old_version(),
            E::NameConstraintViolation => self.constrained(),
            E::PathLenConstraintViolated => self.first(
                |certificate| path_length(certificate).is_some(),
                |named| format!(
                    "{named} allows fewer CAs below it than its chain has (pathLenConstraint); {REISSUE} with a higher number, \
                     or have the server's certificate issued by a CA further up"
                ),
            ),
            E::MaximumPathDepthExceeded => format!(
                "its chain is too long: {} certificates, and 6 CAs are followed between the server's own certificate and one of \
                 tls.trust; put a CA further down into tls.trust",
                self.chain.len()
            ),
            E::MaximumNameConstraintComparisonsExceeded
            | E::MaximumPathBuildCallsExceeded
            | E::MaximumSignatureChecksExceeded => format!(
                "its chain of {} certificates takes too much work to verify: too many certificates, names or constraints of names; \
                 have the upstream send a shorter chain, or put the CA that issued its own certificate into tls.trust",
                self.chain.len()
            ),
            E::EmptyEkuExtension => self.not_for_servers(),
            E::SignatureAlgorithmMismatch => self.first_from(
                1,
                |certificate| {
                    certificate.tbs_certificate.signature != certificate.signature_algorithm
                },
                |named| format!("{named} names two different algorithms for its signature; {REISSUE}"),
            ),
            _ => self.malformed(),
        }
    }

    /// Returns the name for people of the chain's certificate with this number, counted from 1.
    fn named(&self, number: usize) -> String {
        match self.chain.get(number - 1) {
            Some(der) => x509::named(number, der),
            None => format!("certificate {number}"),
        }
    }

    fn parsed(&self, number: usize) -> Option<X509Certificate<'_>> {
        self.chain.get(number - 1).and_then(|der| x509::parse(der))
    }

    /// Explains a fault of the first CA in the chain for which `applies` is true; `say` gets its name. Without such a
    /// CA, the chain is called malformed.
    fn first(
        &self,
        applies: impl Fn(&X509Certificate<'_>) -> bool,
        say: impl FnOnce(&str) -> String,
    ) -> String {
        self.first_from(2, applies, say)
    }

    /// Explains a fault of the first certificate, from this number on, for which `applies` is true; `say` gets its
    /// name. Without such a certificate, the chain is called malformed.
    fn first_from(
        &self,
        from: usize,
        applies: impl Fn(&X509Certificate<'_>) -> bool,
        say: impl FnOnce(&str) -> String,
    ) -> String {
        match self.find(from, applies) {
            Some(number) => say(&self.named(number)),
            None => self.malformed(),
        }
    }

    fn find(&self, from: usize, applies: impl Fn(&X509Certificate<'_>) -> bool) -> Option<usize> {
        (from..=self.chain.len()).find(|number| self.parsed(*number).is_some_and(|c| applies(&c)))
    }

    /// Returns the number of the first certificate for which `applies` is true and that issued another one of the
    /// chain; `None` if there is none. A server may send certificates that belong to no chain, such as its own twice:
    /// those are not the reason for a refusal.
    fn find_issuer(&self, applies: impl Fn(&X509Certificate<'_>) -> bool) -> Option<usize> {
        let last = self.chain.len().min(COMPARED);
        let fits = |number: usize| {
            let ca = self.parsed(number)?;
            let is_below = |other: X509Certificate<'_>| {
                other.as_raw() != ca.as_raw() && x509::is_issuer(&ca, &other)
            };
            let mut others = (1..=last).filter_map(|other| self.parsed(other));
            (applies(&ca) && others.any(is_below)).then_some(number)
        };
        (2..=last).find_map(fits)
    }

    /// Returns the number of the server's own certificate, or of one that issued another of the chain, if `applies` is
    /// true for it.
    fn find_in_use(&self, applies: impl Fn(&X509Certificate<'_>) -> bool) -> Option<usize> {
        let own = self.parsed(1).is_some_and(|own| applies(&own)).then_some(1);
        own.or_else(|| self.find_issuer(applies))
    }

    /// Explains that a certificate breaks the rules of RFC 5280: the first that cannot be read, if there is one.
    fn malformed(&self) -> String {
        let unreadable = (1..=self.chain.len()).find(|number| self.parsed(*number).is_none());
        let which = unreadable.map_or("a certificate of its chain".into(), |n| self.named(n));
        format!("{which} is malformed: it breaks the rules of RFC 5280; {REISSUE}")
    }

    /// Explains which certificate has expired, and when; or which is never valid, as its end comes before its
    /// beginning.
    fn expired(&self) -> String {
        let over = |certificate: &X509Certificate<'_>| {
            certificate.validity().not_after.timestamp() < x509::seconds(self.now)
        };
        let Some(number) = self.find(1, over) else {
            let never = |certificate: &X509Certificate<'_>| {
                certificate.validity().not_after < certificate.validity().not_before
            };
            return self.first_from(1, never, |named| {
                format!("{named} is never valid: its notAfter is before its notBefore; {REISSUE}")
            });
        };
        let end = self.parsed(number).map(|certificate| certificate.validity().not_after);
        let end = end.map(|end| Moment::from(end).to_string()).unwrap_or_default();
        format!("{} expired on {end}; the upstream has to renew it", self.named(number))
    }

    /// Explains which certificate is not valid yet, and from when on it is.
    fn not_valid_yet(&self) -> String {
        let early = |certificate: &X509Certificate<'_>| {
            certificate.validity().not_before.timestamp() > x509::seconds(self.now)
        };
        let number = self.find(1, early).unwrap_or(1);
        let begin = self.parsed(number).map(|certificate| certificate.validity().not_before);
        let begin = begin.map(|begin| Moment::from(begin).to_string()).unwrap_or_default();
        format!(
            "{} is not valid before {begin} (or this machine's clock is wrong)",
            self.named(number)
        )
    }

    /// Explains why the chain leads to no trusted certificate: a CA that may not sign, a name of an issuer that is
    /// spelt in two ways, a certificate that signed itself, or an issuer that is missing.
    fn unknown_issuer(&self) -> String {
        if let Some(number) = self.find_issuer(|certificate| !x509::may_sign(certificate)) {
            return format!(
                "{} signs others and may not: its keyUsage lacks keyCertSign; {REISSUE} with keyCertSign",
                self.named(number)
            );
        }
        if let Some((number, issuer)) = self.other_spelling() {
            return format!(
                "{} spells the name of its issuer, {}, in another type of string or case than that does; {REISSUE}, or put \
                 certificate {issuer} into tls.trust",
                self.named(number),
                self.named(issuer)
            );
        }
        let leads = if self.trust.is_system() {
            "it does not lead to one of the system's roots, which are in use without tls.trust"
        } else {
            "it does not lead to a certificate in tls.trust"
        };
        let own = self.parsed(1);
        if own.is_some_and(|own| x509::is_issuer(&own, &own)) {
            return format!(
                "{leads}: {} signed itself; {PIN}, if it is the upstream's",
                self.named(1)
            );
        }
        format!("{leads}: {}", self.missing_issuer())
    }

    /// Describes the place at which the chain ends without a trusted issuer; certificates that cannot be read are named
    /// too.
    fn missing_issuer(&self) -> String {
        let mut number = 1;
        while let Some(issuer) = self.issuer_of(number).filter(|issuer| *issuer != number) {
            if issuer < number {
                break;
            }
            number = issuer;
        }
        let issuer = self.parsed(number).map(|last| x509::name_text(last.issuer()));
        let unreadable = (2..=self.chain.len()).find(|number| self.parsed(*number).is_none());
        let unreadable = unreadable.map(|number| {
            format!("; certificate {number} of its chain breaks the rules of RFC 5280 and counts for nothing")
        });
        format!(
            "{} was issued by {}; set tls.trust to the CA that issued it, or have the upstream send the certificates between{}",
            self.named(number),
            issuer.unwrap_or_default(),
            unreadable.unwrap_or_default()
        )
    }

    /// Returns the number of the CA in the chain that issued the certificate of this number, its name spelt in the same
    /// way; `None` if the chain lacks that CA.
    fn issuer_of(&self, number: usize) -> Option<usize> {
        let certificate = self.parsed(number)?;
        let issues = |other: &X509Certificate<'_>| {
            other.subject().as_raw() == certificate.issuer().as_raw()
                && x509::is_issuer(other, &certificate)
        };
        self.find(2, issues)
    }

    /// Returns the numbers of a certificate and of its issuer in the chain, if they spell the issuer's name in
    /// different ways.
    fn other_spelling(&self) -> Option<(usize, usize)> {
        (1..=self.chain.len()).find_map(|number| {
            let certificate = self.parsed(number)?;
            let issuer = self.find(2, |other| {
                other.subject().as_raw() != certificate.issuer().as_raw()
                    && x509::is_issuer(other, &certificate)
            })?;
            Some((number, issuer))
        })
    }

    /// Explains a signature that is not that of the issuer: a CA whose RSA key is too short to be accepted, or else a
    /// CA that was made again with a new key.
    fn bad_signature(&self) -> String {
        let trusted = self.trust.certificates().iter().filter_map(x509::parse);
        let weak = trusted.chain((2..=self.chain.len()).filter_map(|number| self.parsed(number)));
        if let Some((weak, bits)) =
            weak.into_iter().find_map(|ca| Some((x509::subject(&ca), short_rsa(&ca)?)))
        {
            return format!(
                "the key of the CA {weak} has {bits} bits, too few to be safe; have a CA with RSA of 2048 bits or more, or ECDSA, \
                 issue the server's certificate"
            );
        }
        let issuer = self.parsed(1).map(|own| x509::name_text(own.issuer())).unwrap_or_default();
        format!(
            "a signature in its chain was not made by the key of the issuer that is named: probably the CA {issuer} was made again \
             with a new key; set tls.trust to the CA that issued {}",
            self.named(1)
        )
    }

    /// Explains which certificate is not for servers, as its extendedKeyUsage lacks serverAuth.
    fn not_for_servers(&self) -> String {
        let lacks = |certificate: &X509Certificate<'_>| {
            let usage = certificate.extended_key_usage().ok().flatten();
            usage.is_some_and(|usage| !usage.value.server_auth)
        };
        self.first_from(1, lacks, |named| {
            format!("{named} is not for servers: its extendedKeyUsage lacks serverAuth; {REISSUE} with serverAuth")
        })
    }

    /// Explains which certificate is signed with an algorithm that is not accepted, such as SHA-1; or else that a key
    /// or signature of the chain is of another kind.
    fn unsupported_signature(&self) -> String {
        let weak = |certificate: &X509Certificate<'_>| {
            signature_name(&certificate.signature_algorithm.algorithm.to_id_string()).is_some()
        };
        if let Some(number) = self.find(1, weak) {
            let algorithm = self.parsed(number).and_then(|certificate| {
                signature_name(&certificate.signature_algorithm.algorithm.to_id_string())
            });
            return format!(
                "{} is signed with {}, which is not taken; {REISSUE} with SHA-256 and RSA or ECDSA",
                self.named(number),
                algorithm.unwrap_or_default()
            );
        }
        format!(
            "{} is signed by a key or with a signature of a kind that is not taken (RSA of 2048 to 8192 bits, ECDSA P-256, P-384 \
             and P-521, Ed25519 are); have such a CA issue it, or {PIN}",
            self.named(1)
        )
    }

    /// Explains which certificate has a critical extension that is not followed here.
    fn critical_extension(&self) -> String {
        let Some(number) =
            self.find_in_use(|certificate| critical_extension(certificate).is_some())
        else {
            return self.unknown_issuer();
        };
        let extension =
            self.parsed(number).and_then(|certificate| critical_extension(&certificate));
        let or = if number > 1 { format!(", or {PIN}") } else { String::new() };
        format!(
            "{} has a critical extension that is not followed here ({}); {REISSUE} with that extension not critical{or}",
            self.named(number),
            extension.unwrap_or_default()
        )
    }

    /// Explains which certificate is of X.509 version 1 or 2, which have no extensions.
    fn old_version(&self) -> String {
        let old = |certificate: &X509Certificate<'_>| certificate.version().0 != 2;
        let Some(number) = self.find_in_use(old) else { return self.unknown_issuer() };
        let or = if number > 1 { format!(", or {PIN}") } else { String::new() };
        format!(
            "{} is of an old version of X.509, without extensions and so without names that count; {REISSUE} in version 3 \
             (openssl x509 -req makes those with -extfile){or}",
            self.named(number)
        )
    }

    /// Explains a violation of name constraints. Constraints of kinds that are not checked here refuse all certificates
    /// below them.
    fn constrained(&self) -> String {
        let limits = |certificate: &X509Certificate<'_>| {
            certificate.name_constraints().ok().flatten().is_some()
        };
        let trusted = self.trust.certificates().iter().zip(1..);
        let trusted =
            trusted.filter_map(|(der, number)| Some((x509::parse(der)?, x509::named(number, der))));
        let trusted = trusted.map(|(ca, named)| (ca, format!("{named} of tls.trust")));
        let sent = (2..=self.chain.len()).filter_map(|n| Some((self.parsed(n)?, self.named(n))));
        let limiting: Vec<_> = sent.chain(trusted).filter(|(ca, _)| limits(ca)).collect();
        let unchecked = limiting.iter().find_map(|(ca, named)| Some((named, unchecked_kind(ca)?)));
        match (unchecked, limiting.first()) {
            (Some((named, kind)), _) => format!(
                "{named} limits the names below it by {kind} (nameConstraints), which cannot be checked here, so nothing below it is \
                 believed; put the server's own certificate into tls.trust, or a CA below that one"
            ),
            (None, Some((_, named))) => format!(
                "{named} limits the names below it (nameConstraints), and {} carries one outside; {REISSUE} with names inside",
                self.named(1)
            ),
            (None, None) => self.malformed(),
        }
    }
}

/// Returns the size in bits of an RSA key that is too short to be accepted; `None` for every other key.
fn short_rsa(certificate: &X509Certificate<'_>) -> Option<usize> {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(rsa)) if rsa.key_size() < 2048 => Some(rsa.key_size()),
        _ => None,
    }
}

fn path_length(certificate: &X509Certificate<'_>) -> Option<u32> {
    certificate.basic_constraints().ok().flatten()?.value.path_len_constraint
}

/// Returns the name of a signature's algorithm, if it is not accepted.
fn signature_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "1.2.840.113549.1.1.2" => "MD2 and RSA",
        "1.2.840.113549.1.1.4" => "MD5 and RSA",
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => "SHA-1 and RSA",
        "1.2.840.113549.1.1.14" => "SHA-224 and RSA",
        "1.2.840.10045.4.1" => "SHA-1 and ECDSA",
        "1.2.840.10045.4.3.1" => "SHA-224 and ECDSA",
        "1.2.840.10040.4.3" | "2.16.840.1.101.3.4.3.1" | "2.16.840.1.101.3.4.3.2" => "DSA",
        "1.3.101.113" => "Ed448",
        "1.2.156.10197.1.501" => "SM3 and SM2",
        _ => return None,
    })
}

/// Returns the name of the first critical extension that webpki does not follow; `None` if there is none.
fn critical_extension(certificate: &X509Certificate<'_>) -> Option<String> {
    const FOLLOWED: [&str; 6] =
        ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.31", "2.5.29.37"];
    let not_followed = |extension: &&X509Extension<'_>| {
        extension.critical && !FOLLOWED.contains(&&extension.oid.to_id_string()[..])
    };
    let extension = certificate.extensions().iter().find(not_followed)?;
    Some(extension_name(extension))
}

/// Returns the name of an extension; its number if it has no known name.
fn extension_name(extension: &X509Extension<'_>) -> String {
    let number = extension.oid.to_id_string();
    match &number[..] {
        "1.3.6.1.5.5.7.1.24" => "TLS feature, \"must staple\"".into(),
        "1.3.6.1.5.5.7.48.1.5" => "OCSP no check".into(),
        "1.3.6.1.4.1.11129.2.4.3" => {
            "the poison of a precertificate: the CA's log got it, servers are given another".into()
        }
        _ => oid2sn(&extension.oid, oid_registry()).map_or(number, Into::into),
    }
}

/// Returns the first kind of name in a CA's constraints that is not checked here; `None` if there is none.
fn unchecked_kind(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    let constraints = certificate.name_constraints().ok().flatten()?;
    let NameConstraints { permitted_subtrees, excluded_subtrees } = constraints.value;
    let subtrees = permitted_subtrees.iter().chain(excluded_subtrees).flatten();
    subtrees.into_iter().find_map(|GeneralSubtree { base }| match base {
        GeneralName::DNSName(_) | GeneralName::IPAddress(_) => None,
        GeneralName::DirectoryName(_) => Some("directory names"),
        GeneralName::URI(_) => Some("URIs"),
        GeneralName::RFC822Name(_) => Some("e-mail addresses"),
        _ => Some("another kind of name"),
    })
}

/// The most names that a text lists: enough to see the mistake, too few to flood a log.
const NAMES_TOLD: usize = 8;
/// The longest name that a text shows whole.
const NAME: usize = 255;

/// Explains that a certificate lacks the wanted name, with the names that it has.
fn wrong_name(wanted: &ServerName<'_>, leaf: Option<&X509Certificate<'_>>) -> String {
    let wanted = x509::printable(&wanted.to_str(), NAME);
    let names = leaf.and_then(|leaf| leaf.subject_alternative_name().ok().flatten());
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let common_name = leaf.and_then(|leaf| leaf.subject().iter_common_name().next()?.as_str().ok());
    let verifiable: Vec<_> = names.iter().filter_map(verifiable).take(NAMES_TOLD).collect();
    let others: Vec<_> = names.iter().filter_map(other).take(NAMES_TOLD).collect();
    let is_spiffe = names
        .iter()
        .any(|name| matches!(name, GeneralName::URI(uri) if uri.starts_with("spiffe:")));
    let what = match (&verifiable[..], &others[..], common_name) {
        ([], [], Some(name)) => format!(
            "it names \"{}\" in its common name (CN) only, which has not counted since RFC 6125; have it issued with a subject \
             alternative name",
            x509::printable(name, NAME)
        ),
        ([], [], None) => {
            "it carries no name; have it issued with a subject alternative name".into()
        }
        ([], others, _) if is_spiffe => format!(
            "it carries {} alone, and this version verifies DNS names and IP addresses, no SPIFFE IDs; have it issued with a DNS \
             name too (SPIRE: `spire-server entry update` with `-dns`), and set tls.verifyName to that",
            others.join(", ")
        ),
        ([], others, _) => format!(
            "it carries {} alone, and DNS names and IP addresses are verified; have it issued with one of those as a subject \
             alternative name",
            others.join(", ")
        ),
        (names, _, _) if names.iter().all(|name| name.starts_with("*.")) => format!(
            "it is for {}; set tls.verifyName to a name with one label in place of the asterisk, if that is the upstream you mean",
            names.join(", ")
        ),
        (names, _, _) => format!(
            "it is for {}; set tls.verifyName to one of these if that is the upstream you mean",
            names.join(", ")
        ),
    };
    format!("the certificate is not for \"{wanted}\": {what}")
}

/// Returns a name that `tls.verifyName` can be set to; `None` for a name of another kind.
fn verifiable(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(x509::printable(name, NAME)),
        GeneralName::IPAddress([a, b, c, d]) => Some(format!("{a}.{b}.{c}.{d}")),
        GeneralName::IPAddress(bytes) => {
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string())
        }
        _ => None,
    }
}

/// Describes a name that cannot be verified; `None` for a name that can be.
fn other(name: &GeneralName<'_>) -> Option<String> {
    match name {
        name if verifiable(name).is_some() => None,
        GeneralName::RFC822Name(name) => {
            Some(format!("the e-mail address {}", x509::printable(name, NAME)))
        }
        GeneralName::URI(name) => Some(format!("the URI {}", x509::printable(name, NAME))),
        GeneralName::IPAddress(_) => Some("an IP address of a wrong length".into()),
        _ => Some("a name of another kind".into()),
    }
}
