"""A SIEM for tests: a TLS server on loopback that reads octet-counted messages, and certificates for both sides."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

WAIT_S = 60.0  # a bound on waiting for the other side, never a pause
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """PEM files of one certificate, and what signs others with it."""

    certificate: Path
    key: Path
    x509: x509.Certificate
    private: ec.EllipticCurvePrivateKey


def make_certificate(
    folder: Path, name: str, *, issuer: Certificate | None = None, hosts: tuple[str, ...] = (), expired: bool = False
) -> Certificate:
    """A certificate for `hosts`; without `issuer` an authority of its own."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    end = now - _DAY if expired else now + 30 * _DAY
    names: list[x509.GeneralName] = []
    for host in hosts:
        numeric = host.replace(".", "").isdigit()
        names.append(x509.IPAddress(ipaddress.ip_address(host)) if numeric else x509.DNSName(host))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.x509.subject if issuer else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * _DAY)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if issuer is not None:
        key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.private.public_key())
        builder = builder.add_extension(key_id, critical=False)
    signed = builder.sign(issuer.private if issuer else private, hashes.SHA256())
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return Certificate(certificate, key, signed, private)


@dataclass
class Siem:
    """What arrived. `end_after` messages the connection is aborted, once for each number in the list."""

    port: int = 0
    messages: list[bytes] = field(default_factory=list)
    connections: int = 0
    end_after: list[int] = field(default_factory=list)
    keep_when_ending: bool = True
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    on_message: Callable[[], None] = lambda: None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read frames until the end."""
        self.connections += 1
        here: list[bytes] = []
        ending = self.end_after.pop(0) if self.end_after else None
        try:
            while True:
                await self.reading.wait()
                length = await reader.readuntil(b" ")
                assert length[:1] != b"0" and length[:-1].isdigit(), length
                message = await reader.readexactly(int(length))
                here.append(message)
                self.messages.append(message)
                self.on_message()
                if ending is not None and len(here) >= ending:
                    if not self.keep_when_ending:
                        del self.messages[-len(here) :]  # it died with them in memory
                    writer.transport.abort()
                    return
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


def closed_port() -> socket.socket:
    """A port of loopback that refuses connections and that nobody else can take meanwhile."""
    place = socket.socket()
    place.bind(("127.0.0.1", 0))
    return place


@asynccontextmanager
async def running_siem(
    certificate: Certificate,
    *,
    clients_of: Certificate | None = None,
    place: socket.socket | None = None,
    siem: Siem | None = None,
) -> AsyncIterator[Siem]:
    """A SIEM that listens, at a `closed_port` or at a free one; with `clients_of` it wants a client certificate of that
    authority.
    """
    siem = siem or Siem()
    siem.reading.set()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    if clients_of is not None:
        context.load_verify_locations(clients_of.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    place = place or closed_port()
    server = await asyncio.start_server(siem.serve, sock=place, ssl=context)
    siem.port = place.getsockname()[1]
    try:
        yield siem
    finally:
        server.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until `condition` holds; fails after `WAIT_S`."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)
