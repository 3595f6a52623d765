# SPDX-License-Identifier: Apache-2.0
"""A certificate authority for the tests."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_KEY_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


class PrivateCA:
    """A private CA that no system trusts by default.

    :param folder: where its certificates are written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Private CA of a test")])
        certificate = self._build(self._name, self._key, is_ca=True)
        #: PEM file of the CA's certificate.
        self.bundle = folder / "ca.pem"
        self.bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, host: str) -> Path:
        """Return a PEM file with a certificate for a host, and its key."""
        path = self._folder / f"{host.replace(':', '_')}.pem"
        if not path.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
            certificate = self._build(name, key, host=host)
            private = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def server_context(self, host: str, *, client_ca: Path | None = None) -> ssl.SSLContext:
        """Return the context of a server with a certificate of this CA.

        :param host: its name or address.
        :param client_ca: CA of the certificates that clients must present; ``None`` for no client certificates.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.issue(host))
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _build(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, host: str | None = None, is_ca: bool = False
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if is_ca:
            usages = {name: name in ("key_cert_sign", "crl_sign") for name in _KEY_USAGES}
            builder = builder.add_extension(x509.KeyUsage(**usages), critical=True)
        if host is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([_parse_host(host)]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _parse_host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
