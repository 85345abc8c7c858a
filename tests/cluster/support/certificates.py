"""Certificate authorities and the certificates that they sign: made in memory, as PEM."""

import datetime
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Credential:
    """A certificate and its key, both PEM; `serial` is the serial number as nginx writes it."""

    certificate: str
    key: str
    serial: str

    def data(self):
        """Returns the data of a Secret of type kubernetes.io/tls."""
        return {"tls.crt": self.certificate, "tls.key": self.key}


class Authority:
    """A certificate authority: a new one, or with `of_files` one that another program made."""

    def __init__(self, name, days=30):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._certificate = self._sign_itself(days)

    @classmethod
    def of_files(cls, certificate, key):
        """Reads an authority from its PEM files."""
        authority = cls.__new__(cls)
        authority._certificate = x509.load_pem_x509_certificate(certificate.read_bytes())
        authority._key = serialization.load_pem_private_key(key.read_bytes(), password=None)
        authority._name = authority._certificate.subject
        return authority

    def _sign_itself(self, days):
        builder = _builder(self._name, self._name, self._key, datetime.timedelta(days=days))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )
        return builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())

    @property
    def pem(self):
        return _pem(self._certificate)

    @property
    def key(self):
        return _key_pem(self._key)

    def server(self, *names, **more):
        """Issues a server's certificate for names and addresses, which are often too long for a common name."""
        return self._issue("upstream", ExtendedKeyUsageOID.SERVER_AUTH, names, **more)

    def client(self, name, **more):
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, [name], **more)

    def _issue(self, common, usage, names, lifetime=datetime.timedelta(days=7)):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(common), self._name, key, lifetime)
            .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Credential(_pem(certificate), _key_pem(key), _serial(certificate))


def _builder(subject, issuer, key, lifetime):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # The clocks of two machines may differ a little.
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _serial(certificate):
    """Returns the serial number as nginx writes it: two digits for each byte, and no leading byte of zeros."""
    digits = f"{certificate.serial_number:X}"
    return digits.zfill(len(digits) + len(digits) % 2)


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
