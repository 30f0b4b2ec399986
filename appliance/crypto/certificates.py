"""X.509 for one site: an authority that can vouch for this site's names only, and a server certificate by it, in PEM.

    authority = make_authority("Ward 3", names, now=…, days=…)          # Pair(certificate, key)
    server = make_server(authority, names, now=…, days=…)
    facts = read_certificate(server.certificate)                        # names, when it ends, fingerprint

The authority's certificate permits the names that it was made for and no others (RFC 5280, name constraints, critical):
whoever steals its key can pretend to be this server, and no other site. ECDSA P-256 with SHA-256, as browsers take.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_BACKDATED = timedelta(hours=1)  # clocks of a site differ
_COMMON_NAME_MAX = 64


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says. `fingerprint`: SHA-256 of it, as browsers show it."""

    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    fingerprint: str
    issuer: str


def make_authority(site: str, names: Sequence[str], *, now: datetime, days: int) -> Pair:
    """An authority for `names` (hosts and addresses) and nothing else. Raises `ValueError` for what is neither."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"{site} (Cloister)")
    builder = (
        _builder(subject, subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(x509.NameConstraints(_permitted(names), None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def make_server(authority: Pair, names: Sequence[str], *, now: datetime, days: int) -> Pair:
    """A server certificate for `names` by `authority`; its text ends with that of the authority."""
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    signer = load_pem_private_key(authority.key.encode(), None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is not one of ours")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_subject(names[0]), issuer.subject, key.public_key(), now, days)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)  # type: ignore[arg-type]
    )
    made = _pair(builder.sign(signer, hashes.SHA256()), key)
    return Pair(made.certificate + authority.certificate, made.key)


def read_certificate(text: str) -> Facts:
    """Facts of the first certificate in `text`. Raises `ValueError`."""
    certificate = x509.load_pem_x509_certificate(text.encode())
    names: tuple[str, ...] = ()
    try:
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = (str(address) for address in said.get_values_for_type(x509.IPAddress))
        names = (*said.get_values_for_type(x509.DNSName), *addresses)
    except x509.ExtensionNotFound:
        pass
    digits = certificate.fingerprint(hashes.SHA256()).hex().upper()
    shown = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    return Facts(
        names,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        shown,
        certificate.issuer.rfc4514_string(),
    )


def belong_together(certificate: str, key: str) -> bool:
    """Whether `key` (PEM, without a passphrase) is the one of the first certificate. Raises `ValueError` for no key."""
    try:
        private = load_pem_private_key(key.encode(), None)
    except TypeError:
        raise ValueError("the key is protected by a passphrase") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise ValueError("keys of servers are ECDSA, RSA or Ed25519")
    public = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return private.public_key().public_bytes(*form) == public.public_bytes(*form)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_COMMON_NAME_MAX])])


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.lower())


def _permitted(names: Sequence[str]) -> list[x509.GeneralName]:
    """Each kind of name is mentioned, if only by one that is nobody's: a kind that is not mentioned would be free."""
    permitted = [_constraint(name) for name in names]
    kinds = {type(name) for name in permitted}
    nobody = {x509.DNSName: "invalid", x509.IPAddress: "192.0.2.0/32"}
    return permitted + [_constraint(name) for kind, name in nobody.items() if kind not in kinds]


def _constraint(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_network(name))
    except ValueError:
        return x509.DNSName(name.lower())


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pair(certificate.public_bytes(Encoding.PEM).decode(), private.decode())
