"""Throw-away certificates, made with the openssl command, in every format that the programs need."""

import os
import subprocess

from programs import find

SERVER_NAME = "origin.example"
PASSWORD = "seeds-only"


class Certificates:
    """An authority, a server certificate and a client certificate, as files in one folder."""

    def __init__(self, folder):
        self.folder = folder
        self._make_authority()
        self._make_leaf("server", SERVER_NAME)
        self._make_leaf("client", "sidecar.example")
        self._make_stores()

    def path(self, name):
        """Returns the path of one file, such as `ca.crt`, `client.key` or `client.pem`."""
        return os.path.join(self.folder, name)

    def _make_authority(self):
        self._openssl("req", "-x509", *KEY, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2",
                      "-subj", "/CN=seeds' authority")

    def _make_leaf(self, name, dns):
        with open(self.path("extensions"), "w", encoding="utf-8") as extensions:
            extensions.write(f"subjectAltName=DNS:{dns}\n")
        self._openssl("req", *KEY, "-keyout", f"{name}.key", "-out", "request", "-subj", f"/CN={dns}")
        self._openssl("x509", "-req", "-in", "request", "-CA", "ca.crt", "-CAkey", "ca.key",
                      "-CAcreateserial", "-out", f"{name}.crt", "-days", "2",
                      "-extfile", "extensions")

    def _make_stores(self):
        """Makes HAProxy's file with certificate and key in one, and Java's key stores."""
        with open(self.path("client.pem"), "w", encoding="utf-8") as bundle:
            for part in ("client.crt", "client.key"):
                with open(self.path(part), encoding="utf-8") as source:
                    bundle.write(source.read())
        self._openssl("pkcs12", "-export", "-in", "server.crt", "-inkey", "server.key",
                      "-name", "server", "-passout", f"pass:{PASSWORD}", "-out", "server.p12")
        self._run(find("keytool"), "-importcert", "-noprompt", "-alias", "ca", "-file", "ca.crt",
                  "-storetype", "PKCS12", "-storepass", PASSWORD, "-keystore", "trust.p12")

    def _openssl(self, *arguments):
        self._run(find("openssl"), *arguments)

    def _run(self, *command):
        done = subprocess.run(command, cwd=self.folder, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode()}")


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
