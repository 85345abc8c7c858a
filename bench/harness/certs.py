"""Throw-away certificates, all ECDSA P-256: a CA, the upstream's, and the client's, which the upstream demands."""

import subprocess
from pathlib import Path

UPSTREAM_NAME = "upstream.bench.test"
_DAYS = "2"


class Certificates:
    """The paths of the PEM files, which are made in `directory`."""

    def __init__(self, directory):
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.ca = directory / "ca.crt"
        self._make_ca()
        self.upstream_certificate, self.upstream_key = self._issue("upstream", UPSTREAM_NAME, "serverAuth")
        self.client_certificate, self.client_key = self._issue("client", "client.bench.test", "clientAuth")
        # HAProxy reads certificate and key from one file.
        self.client_bundle = directory / "client.pem"
        self.client_bundle.write_bytes(self.client_certificate.read_bytes() + self.client_key.read_bytes())

    def _make_ca(self):
        self._openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.crt", "-days", _DAYS,
            "-subj", "/CN=Throw-away CA of the benchmark",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
        )

    def _issue(self, stem, name, usage):
        certificate, key = self._directory / f"{stem}.crt", self._directory / f"{stem}.key"
        extensions = self._directory / f"{stem}.ext"
        extensions.write_text(
            f"basicConstraints=critical,CA:FALSE\nextendedKeyUsage={usage}\nsubjectAltName=DNS:{name}\n"
        )
        self._openssl("req", *_NEW_KEY, "-keyout", key, "-out", f"{stem}.csr", "-subj", f"/CN={name}")
        self._openssl(
            "x509", "-req", "-in", f"{stem}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", _DAYS, "-extfile", extensions, "-out", certificate,
        )
        return certificate, key

    def _openssl(self, *arguments):
        subprocess.run(
            ["openssl", *map(str, arguments)], cwd=self._directory, check=True, capture_output=True
        )


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
