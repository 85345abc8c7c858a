//! A certificate authority for one test, and every odd certificate that a test may want from it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::key_format::{self, KeyFormat};

/// A certificate authority; a peer that trusts its certificate accepts what it issues.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The certificates between this authority and its root, its own first; empty for a root.
    chain: Vec<CertificateDer<'static>>,
}

/// A certificate, its chain and its key.
pub struct Identity {
    /// The certificates, the leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

/// The paths of an identity's files.
pub struct IdentityFiles {
    /// The certificates in PEM, the leaf first.
    pub certificate: PathBuf,
    /// The private key in PEM.
    pub key: PathBuf,
}

static SHARED: LazyLock<Authority> = LazyLock::new(|| Authority::new("Warmline tests"));

impl Authority {
    /// Makes a new root with this name.
    pub fn new(name: &str) -> Self {
        let issuer = CertifiedIssuer::self_signed(authority_params(name), key());
        Self { issuer: issuer.expect("a root can be made"), chain: Vec::new() }
    }

    /// Makes a root with any oddity; start from [`authority_params`].
    pub fn made_of(params: CertificateParams) -> Self {
        let issuer = CertifiedIssuer::self_signed(params, key());
        Self { issuer: issuer.expect("a root can be made"), chain: Vec::new() }
    }

    /// Returns the root that most tests share.
    pub fn shared() -> &'static Self {
        &SHARED
    }

    /// Makes an authority with this name, signed by this one.
    pub fn intermediate(&self, name: &str) -> Self {
        self.intermediate_from(authority_params(name))
    }

    /// Makes an authority with any oddity, signed by this one; start from [`authority_params`].
    pub fn intermediate_from(&self, params: CertificateParams) -> Self {
        let issuer = CertifiedIssuer::signed_by(params, key(), &self.issuer)
            .expect("an intermediate can be made");
        let mut chain = vec![issuer.der().clone()];
        chain.extend(self.chain.iter().cloned());
        Self { issuer, chain }
    }

    /// Returns an authority with the same key that writes another issuer's name into what it issues.
    pub fn called(&self, name: DistinguishedName) -> Self {
        let key = KeyPair::try_from(self.issuer.key().serialize_der()).expect("the same key");
        let mut params = authority_params("");
        params.distinguished_name = name;
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a root can be made");
        Self { issuer, chain: self.chain.clone() }
    }

    /// Returns this authority's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.issuer.der()
    }

    /// Issues a server certificate for these names and addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.issue(&server_params(names))
    }

    /// Issues a client certificate with this common name.
    pub fn client(&self, name: &str) -> Identity {
        self.issue_for(&client_params(name), key())
    }

    /// Issues a client certificate with this common name, for this key.
    pub fn client_for(&self, name: &str, key: KeyPair) -> Identity {
        self.issue_for(&client_params(name), key)
    }

    /// Issues a certificate with any oddity; start from [`server_params`] or [`client_params`].
    pub fn issue(&self, params: &CertificateParams) -> Identity {
        self.issue_for(params, key())
    }

    /// Issues a certificate with any oddity, for this key.
    pub fn issue_for(&self, params: &CertificateParams, key: KeyPair) -> Identity {
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate can be made");
        let mut chain = vec![leaf.der().clone()];
        chain.extend(self.chain.iter().cloned());
        Identity { chain, key }
    }
}

impl Identity {
    /// Makes a self-signed server certificate; `authority` sets CA:TRUE.
    pub fn self_signed(names: &[&str], authority: bool) -> Self {
        let mut params = server_params(names);
        if authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        Self::self_signed_from(&params, key())
    }

    /// Makes a self-signed certificate with any oddity.
    pub fn self_signed_from(params: &CertificateParams, key: KeyPair) -> Self {
        let leaf = params.self_signed(&key).expect("a certificate can be made");
        Self { chain: vec![leaf.der().clone()], key }
    }

    /// Returns the first certificate.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// Returns a copy: the same certificates and the same key.
    pub fn again(&self) -> Self {
        let key = KeyPair::try_from(self.key.serialize_der()).expect("the same key");
        Self { chain: self.chain.clone(), key }
    }

    /// Drops every certificate but the leaf.
    pub fn without_intermediates(mut self) -> Self {
        self.chain.truncate(1);
        self
    }

    /// Appends this certificate to the chain.
    pub fn and(mut self, certificate: &CertificateDer<'static>) -> Self {
        self.chain.push(certificate.clone());
        self
    }

    /// Repeats the last certificate until the chain has `length` certificates.
    pub fn padded_to(mut self, length: usize) -> Self {
        let last = self.chain[self.chain.len() - 1].clone();
        self.chain.resize(length, last);
        self
    }

    /// Returns the key in rustls' type.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }

    /// Returns the chain in PEM.
    pub fn chain_pem(&self) -> String {
        certificates_pem(&self.chain)
    }

    /// Returns the key in PEM, in this format.
    pub fn key_pem(&self, format: KeyFormat) -> String {
        key_format::to_pem(&self.key.serialize_der(), format)
    }

    /// Writes chain and key (PKCS#8) into two files.
    pub fn write(&self, folder: &Path, name: &str) -> IdentityFiles {
        self.write_as(folder, name, KeyFormat::Pkcs8)
    }

    /// Writes chain and key into two files, the key in this format.
    pub fn write_as(&self, folder: &Path, name: &str, format: KeyFormat) -> IdentityFiles {
        IdentityFiles {
            certificate: write(folder, &format!("{name}.crt"), &self.chain_pem()),
            key: write(folder, &format!("{name}.key"), &self.key_pem(format)),
        }
    }
}

/// Returns the parameters of a good server certificate for these names and addresses; a test may change them.
pub fn server_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("names are ASCII");
    params.distinguished_name.push(DnType::CommonName, "a server of the tests");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// Returns the parameters of a good client certificate with this common name.
pub fn client_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// Changes the validity to one that ended in 2020.
pub fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 1);
    params
}

/// Changes the validity to one that begins in 2200.
pub fn not_yet_valid(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2200, 1, 1);
    params.not_after = date_time_ymd(2201, 1, 1);
    params
}

/// Returns the parameters of a server certificate without subject alternative names, whose only name is the common
/// name.
pub fn common_name_only(name: &str) -> CertificateParams {
    let mut params = server_params(&[]);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Returns the parameters of a server certificate whose only subject alternative name is this one.
pub fn only_name(name: SanType) -> CertificateParams {
    let mut params = server_params(&[]);
    params.subject_alt_names = vec![name];
    params
}

/// Returns a DNS name exactly as written: an address is not recognised, and nothing but ASCII is checked.
pub fn dns_name(text: &str) -> SanType {
    SanType::DnsName(text.try_into().expect("the name is ASCII"))
}

/// Makes a key on the curve P-256, which is fast.
pub fn key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}

/// Returns the certificates in PEM, one after another.
pub fn certificates_pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|der| key_format::pem("CERTIFICATE", der)).collect()
}

/// Writes a file into a folder and returns its path.
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("the test's folder can be written");
    path
}

/// Returns the parameters of a good authority's certificate.
pub fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
