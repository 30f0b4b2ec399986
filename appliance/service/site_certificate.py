"""The server's certificate: by an authority of the site's own, made here, or the firm's. Each change is recorded.

    made = await make_certificate(config, log, principal, ["ward3.clinic.example", "10.20.0.5"])
    taken = await take_certificate(config, log, principal, certificate_text, key_text)
    facts = certificate_facts(config)          # names, end, fingerprint; None where there is none

`tls/` of the data folder: `server.pem` (with the authority behind it), `server.key`, and where they were made here
`authority.pem`, which browsers of the site are given, and `authority.sealed`. A server uses `server.pem` when the
configuration names no other (`config.py`).

The authority's key, which browsers believe for ten years, is needed once a year and sealed under the keystore: whoever
takes the disk without what unlocks it cannot make certificates. The server's key is in the clear, because TLS reads it
from a file at every start; it ends with its certificate. Earlier releases left `authority.key` in the clear; a server
seals it as it starts.

`authority.sealed` is `cloister-sealed/1 `, then base64 of a random nonce (24 bytes) and XAES-256-GCM of the key in PEM,
with SHA-256 of `authority.pem` as associated data, and a line feed. Its key: `Keystore.file_key(b"tls-authority")`.
Vector: `tests/service/vectors/sealed_authority.json`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import logging
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from appliance.accounts.actions import Action, authorize
from appliance.audit.log import AuditLog
from appliance.config import Config
from appliance.crypto.certificates import (
    Facts,
    Pair,
    belong_together,
    make_authority,
    make_server,
    read_certificate,
)
from appliance.crypto.keys import unwrap_key, wrap_key
from appliance.errors import ApplianceError, DecryptionFailed, InvalidRequest, WrongKey
from appliance.service.events import announced
from appliance.service.home import home_error
from appliance.types import AttributeValue, Principal

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397  # browsers refuse longer ones
NAMES_MAX = 32
PEM_BYTES_MAX = 256 * 1024
KEY_LABEL = b"tls-authority"
_SEALED = "cloister-sealed/1 "
logger = logging.getLogger(__name__)
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


async def make_certificate(config: Config, log: AuditLog, principal: Principal, names: Sequence[str]) -> Facts:
    """A certificate for these names, by the authority that is here if it may, else by a new one.

    Raises `InvalidRequest` for what is no host or address. The server uses it from its next start.
    """
    authorize(principal, Action.SYSTEM_STATUS)
    wanted = check_names(names)
    about: dict[str, AttributeValue] = {"names": ",".join(wanted)[:1000], "by": "site"}
    async with announced(log, principal.id, "certificate.set", about) as step:
        facts = await asyncio.to_thread(_make, config, log.file_key(KEY_LABEL), wanted)
        step.attributes["fingerprint"] = facts.fingerprint
    return facts


async def take_certificate(config: Config, log: AuditLog, principal: Principal, certificate: str, key: str) -> Facts:
    """The firm's certificate, its chain behind it, and its key. Raises `InvalidRequest` where they do not fit."""
    authorize(principal, Action.SYSTEM_STATUS)
    async with announced(log, principal.id, "certificate.set", {"by": "firm"}) as step:
        facts = _checked(certificate, key)
        step.attributes |= {"names": ",".join(facts.names)[:1000], "fingerprint": facts.fingerprint}
        await asyncio.to_thread(_store, config, Pair(certificate, key))
    return facts


def seal_authority(config: Config, log: AuditLog) -> None:
    """Seal the key that an earlier release left in the clear, and overwrite that; nothing where there is none.

    Whatever is interrupted is repeated: the clear one goes when the sealed one is on the disk. What hinders it is
    logged, and told by the next `appliance tls create`: a server serves without it.
    """
    try:
        _seal_clear(config, log.file_key(KEY_LABEL))
    except ApplianceError as error:
        logger.warning("the authority's key was not sealed: %s", error.message)


def open_authority_key(key: bytes, certificate: str, sealed: str) -> str:
    """What `authority.sealed` holds. Raises `DecryptionFailed`, and `ValueError` for what is none."""
    if not sealed.startswith(_SEALED):
        raise ValueError("no sealed key")
    content = base64.b64decode(sealed.removeprefix(_SEALED).rstrip("\n"), validate=True)
    return unwrap_key(key, content, _bound_to(certificate)).decode()


def certificate_facts(config: Config) -> Facts | None:
    """What the certificate in use says; None where the server has none."""
    path = config.server.tls_certificate
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return read_certificate(file.read(PEM_BYTES_MAX).decode())
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", hint="check server.tls_certificate") from None
    except ValueError:
        raise InvalidRequest(f"{path} is no certificate", hint="PEM texts are needed, the server's first") from None


def check_names(names: Sequence[str]) -> list[str]:
    """Hosts and addresses in their one spelling, each once. Raises `InvalidRequest`."""
    found: list[str] = []
    for name in names:
        try:
            spelt = str(ipaddress.ip_address(name.strip("[]")))
        except ValueError:
            spelt = name.lower().removesuffix(".")
            if not _HOST.fullmatch(spelt):
                raise InvalidRequest(
                    f"{name[:80]!r} is neither a host nor an address", hint="as: ward3.clinic.example, 10.20.0.5"
                ) from None
        if spelt not in found:
            found.append(spelt)
    if not 0 < len(found) <= NAMES_MAX:
        raise InvalidRequest(f"a certificate has 1 to {NAMES_MAX} names", hint="name what browsers will type")
    return found


def _make(config: Config, key: bytes, names: list[str]) -> Facts:
    now = datetime.now(UTC)
    _seal_clear(config, key)
    authority = _authority_for(config.home.tls, key, names)
    if authority is None:
        authority = make_authority(config.server.site_name, names, now=now, days=AUTHORITY_DAYS)
        files = {
            "authority.sealed": _seal(key, authority),
            "authority.names": _list(names),
            "authority.pem": authority.certificate,
        }
        _write(config, files)
    made = make_server(authority, names, now=now, days=SERVER_DAYS)
    _store(config, made)
    return read_certificate(made.certificate)


def _authority_for(folder: Path, key: bytes, names: list[str]) -> Pair | None:
    """The authority that is here, if it was made for all of these names: for others its word would not count."""
    try:
        known = (folder / "authority.names").read_text().split()
        certificate = (folder / "authority.pem").read_text()
        sealed = (folder / "authority.sealed").read_text()
    except FileNotFoundError:
        return None
    if not set(names) <= set(known):
        return None
    try:
        return Pair(certificate, open_authority_key(key, certificate, sealed))
    except (DecryptionFailed, ValueError):
        raise WrongKey(
            f"{folder / 'authority.sealed'} does not open with the keys of this data folder",
            hint="restore tls/ as it was, or move it away: then browsers are given a new authority",
        ) from None


def _seal_clear(config: Config, key: bytes) -> None:
    folder = config.home.tls
    clear = folder / "authority.key"
    if not clear.exists():
        return
    try:
        pair = Pair((folder / "authority.pem").read_text(), clear.read_text())
        if pair.key.strip("\0"):  # else overwritten already, by one that was interrupted there
            if not belong_together(pair.certificate, pair.key):
                raise ValueError
            _write(config, {"authority.sealed": _seal(key, pair)})
        with clear.open("r+b") as file:
            file.write(bytes(os.fstat(file.fileno()).st_size))
            file.flush()
            os.fsync(file.fileno())
        clear.unlink()
    except OSError as error:
        raise home_error(config.home, error) from None
    except ValueError:
        raise InvalidRequest(
            f"{clear} is not the key of authority.pem", hint="restore tls/ as it was, or move it away"
        ) from None


def _seal(key: bytes, authority: Pair) -> str:
    content = wrap_key(key, authority.key.encode(), _bound_to(authority.certificate))
    return f"{_SEALED}{base64.b64encode(content).decode()}\n"


def _bound_to(certificate: str) -> bytes:
    return hashlib.sha256(certificate.encode()).digest()


def _checked(certificate: str, key: str) -> Facts:
    try:
        fits, facts = belong_together(certificate, key), read_certificate(certificate)
    except ValueError as error:
        raise InvalidRequest(f"this certificate or its key cannot be used: {error}", hint="give PEM files") from None
    if not fits:
        raise InvalidRequest("the key is not the one of this certificate", hint="give the two that belong together")
    if facts.not_after <= datetime.now(UTC):
        raise InvalidRequest(f"the certificate ended on {facts.not_after:%Y-%m-%d}", hint="ask for a new one")
    if not facts.names:
        raise InvalidRequest("the certificate names no host that browsers look at", hint="it needs alternative names")
    return facts


def _store(config: Config, pair: Pair) -> None:
    _write(config, {"server.key": pair.key, "server.pem": pair.certificate})


def _write(config: Config, files: dict[str, str]) -> None:
    """Each file at once and durably, its owner's alone."""
    folder = config.home.tls
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, text in files.items():
            draft = folder / f"{name}.new"
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(folder / name)
    except OSError as error:
        raise home_error(config.home, error) from None


def _list(names: list[str]) -> str:
    return "".join(f"{name}\n" for name in names)
