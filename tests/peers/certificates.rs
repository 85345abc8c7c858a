//! Throw-away certificates as PEM files, in the folder where server and sidecar look for them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tempfile::TempDir;

/// The name in the server's certificate.
pub(crate) const SERVER_NAME: &str = "peer.example";

/// An authority with the certificates that it signed, one for the server and one for the sidecar, and a client
/// certificate of a second authority, which the server does not trust.
pub(crate) struct Certificates {
    folder: TempDir,
}

/// A certificate file and its key file.
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    pub(crate) fn generate() -> Self {
        Self::generate_with(|_| ())
    }

    /// Generates all files, with a server certificate that began five years ago and ends in five years.
    pub(crate) fn generate_for_some_years() -> Self {
        Self::generate_with(|server| {
            server.not_before = date_time_ymd(this_year() - 5, 1, 1);
            server.not_after = date_time_ymd(this_year() + 5, 1, 1);
        })
    }

    fn generate_with(change: impl Fn(&mut CertificateParams)) -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let authority = authority("peers' authority");
        write(&folder, "ca.crt", &authority.pem());
        write_leaf(&folder, "server", SERVER_NAME, &authority, change);
        write_leaf(&folder, "client", "warmline", &authority, |_| ());
        let strangers = self::authority("strangers' authority");
        write_leaf(&folder, "stranger", "stranger", &strangers, |_| ());
        Self { folder }
    }

    /// Returns the path of the authority's certificate, which both sides trust.
    pub(crate) fn trust(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub(crate) fn server(&self) -> Pair {
        self.pair("server")
    }

    pub(crate) fn client(&self) -> Pair {
        self.pair("client")
    }

    /// Returns a client certificate of the authority that the server does not trust.
    pub(crate) fn stranger(&self) -> Pair {
        self.pair("stranger")
    }

    /// Returns the folder of the files; a test may put other files there too.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn pair(&self, name: &str) -> Pair {
        let file = |extension| self.folder.path().join(format!("{name}.{extension}"));
        Pair { certificate: file("crt"), key: file("key") }
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, key()).expect("an authority can sign itself")
}

fn write_leaf(
    folder: &TempDir,
    file: &str,
    name: &str,
    authority: &CertifiedIssuer<'static, KeyPair>,
    change: impl Fn(&mut CertificateParams),
) {
    let mut params = CertificateParams::new([name.to_owned()]).expect("the name is a DNS name");
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    let key = key();
    let certificate = params.signed_by(&key, authority).expect("an authority can sign");
    write(folder, &format!("{file}.crt"), &certificate.pem());
    write(folder, &format!("{file}.key"), &key.serialize_pem());
}

/// Returns the year by the clock of the test.
pub(crate) fn this_year() -> i32 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let days = since_1970.expect("the clock is right").as_secs() / 86_400;
    1970 + i32::try_from(days * 400 / 146_097).expect("not so late")
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a P-256 key can be made")
}

fn write(folder: &TempDir, file: &str, content: &str) {
    fs::write(folder.path().join(file), content).expect("the temporary folder can be written to");
}
