"""A certificate authority of the tests' own, and a server that ends TLS before a scripted agent."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.unit.loop_server import LoopServer, first_of, pipe

if TYPE_CHECKING:
    from pathlib import Path

NO_ENCRYPTION = serialization.NoEncryption()
_CA_USAGE = {"key_cert_sign": True, "crl_sign": True, "digital_signature": True}
_LEAF_USAGE = {"key_cert_sign": False, "crl_sign": False, "digital_signature": True}


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, in files of PEM.

    :param both: one file with the certificate and then the key.
    """

    cert: Path
    key: Path
    both: Path


class Authority:
    """A certificate authority.

    :param folder: where its files go.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} of the tests")])
        self._cert = self._sign(self._key.public_key(), self._name, None)
        self.bundle = folder / f"{name}.pem"
        self.bundle.write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, host: str | None = None) -> Identity:
        """Return a new certificate.

        :param host: the DNS name of a server that is not at 127.0.0.1.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        cert = self._sign(key.public_key(), subject, [x509.DNSName(host)] if host else names)
        files = Identity(*(self._folder / f"{name}.{kind}.pem" for kind in ("cert", "key", "both")))
        pem = cert.public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption_algorithm=NO_ENCRYPTION
        )
        files.cert.write_bytes(pem)
        files.key.write_bytes(private)
        files.both.write_bytes(pem + private)
        return files

    def _sign(self, public: ec.EllipticCurvePublicKey, subject: x509.Name, names: list[Any] | None) -> x509.Certificate:
        now = datetime.datetime.now(tz=datetime.timezone.utc)
        others = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
        )
        usage = x509.KeyUsage(decipher_only=False, **others, **(_CA_USAGE if names is None else _LEAF_USAGE))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names is not None:
            purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


class TlsFront(LoopServer):
    """A server on 127.0.0.1 that ends TLS and hands the bytes on to a port.

    :param identity: its certificate.
    :param to_port: port of the server behind it.
    :param clients: demand a client certificate of this authority's.
    """

    def __init__(self, identity: Identity, to_port: int, clients: Authority | None = None) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.cert, identity.key)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients.bundle)
        super().__init__(context)
        self._to_port = to_port
        self.client_names: list[str] = []
        """Common name of the certificate of each connection that was let in, empty if it had none."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cert = writer.get_extra_info("peercert") or {}
        names = [value for part in cert.get("subject", ()) for name, value in part if name == "commonName"]
        self.client_names.append("".join(names))
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        with contextlib.closing(behind_writer), contextlib.closing(writer):
            await first_of(pipe(reader, behind_writer), pipe(behind_reader, writer))
