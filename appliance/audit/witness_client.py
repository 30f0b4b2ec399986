"""Submits checkpoints to a witness (C2SP tlog-witness) and says what came of it, as a value.

    client = WitnessClient(config.witness)
    verdict = await client.submit(StoredView(home), known=cursor.anchored_size)
    await client.close()

What a witness says is believed where it is signed: a cosignature is verified. A refusal is not signed, therefore a
witness off this machine is reached by TLS only. Everything is bounded: two requests, each within `witness.timeout_s`,
answers of at most 64 KiB, no redirects, no proxies of the environment.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import ssl
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from appliance.audit.witness import format_submission, tree_head
from appliance.config import WitnessConfig
from appliance.crypto.cosignature import parse_verifier_key, verify_cosignature
from appliance.crypto.note import split_note
from appliance.errors import ConfigInvalid

ANSWER_BYTES_MAX = 64 * 1024
SIZE_TYPE = "text/x.tlog.size"
_SINK_CHARS_MAX = 64
_REASON_CHARS_MAX = 200


class LogView(Protocol):
    """What is submitted: `StoredView`, and small logs of tests."""

    def checkpoint(self) -> str: ...

    def consistency(self, old: int, size: int) -> list[bytes]: ...


@dataclass(frozen=True, slots=True)
class Cosigned:
    """The checkpoint with the witness's line, verified; `time_s` by the witness's clock."""

    note: str
    size: int
    time_s: int


@dataclass(frozen=True, slots=True)
class Behind:
    """The witness is elsewhere than it said a moment ago: somebody else submits too. The next round begins there."""

    size: int


@dataclass(frozen=True, slots=True)
class Forked:
    """The witness cosigned a longer (`cut`) or another history under our name. `note`: our checkpoint, as evidence."""

    why: str
    note: str
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No answer; says nothing about the log."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer that neither cosigns nor contradicts."""

    status: int
    reason: str


WitnessVerdict = Cosigned | Behind | Forked | Unreachable | Refused


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content_type: str
    body: bytes

    @property
    def size(self) -> int | None:
        """What a 409 says: the size of the checkpoint that was cosigned last."""
        text = self.body.decode("ascii", "replace")
        if self.content_type != SIZE_TYPE or not text.endswith("\n") or len(text) > 20:
            return None
        digits = text[:-1]
        return int(digits) if digits.isdigit() and str(int(digits)) == digits else None


def check_witness(settings: WitnessConfig) -> None:
    """Refuse a setting under which nothing could be believed. Raises `ConfigInvalid`."""
    if not settings.url and not settings.verifier_key:
        return
    try:
        parse_verifier_key(settings.verifier_key)
    except ValueError as error:
        raise ConfigInvalid(
            f"witness.verifier_key: {error}", hint="it is the line that `appliance witness show` prints there"
        ) from None
    parts = urlsplit(settings.url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.username:
        raise ConfigInvalid(
            f"witness.url is not the address of a witness: {settings.url}", hint="https://witness.clinic.example:8444"
        )
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigInvalid(
            "witness.url: a witness on another machine is reached by https",
            hint="start it with --tls-certificate and --tls-key, and name the authority in witness.ca_certificate",
        )


def sink_of(verifier_key: str) -> str:
    """What the cursor of this witness is called: `witness:<name>`, cut and made unique where that is too long."""
    name = parse_verifier_key(verifier_key)[0]
    sink = f"witness:{name}"
    if len(sink) <= _SINK_CHARS_MAX and sink.isascii():
        return sink
    return f"witness:~{hashlib.sha256(name.encode()).hexdigest()[:32]}"


class WitnessClient:
    """One witness. `transport` replaces the network, as in tests."""

    def __init__(self, settings: WitnessConfig, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        check_witness(settings)
        logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes a line for every submission
        self.name, self._public = parse_verifier_key(settings.verifier_key)
        self.sink = sink_of(settings.verifier_key)
        self._timeout_s = settings.timeout_s
        self._url = settings.url.rstrip("/") + "/add-checkpoint"
        self._http = httpx.AsyncClient(
            transport=transport,
            verify=_authorities(settings) if settings.url.startswith("https") else False,
            timeout=settings.timeout_s,
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=1),
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def submit(self, log: LogView, known: int = 0) -> WitnessVerdict:
        """Offer the newest checkpoint. `known`: the size that this witness cosigned last, as far as we remember.

        A conflict is retried once, from the size that the witness names. Raises `AuditLogInvalid` where the stored
        log is incomplete.
        """
        cosigned_before = known
        for _ in range(2):
            signed = await asyncio.to_thread(log.checkpoint)
            size = tree_head(split_note(signed)[0]).size
            # A log that is shorter than what we remember cannot prove anything from there: the witness says why.
            old = known if known <= size else 0
            proof = await asyncio.to_thread(log.consistency, old, size)
            answer = await self._post(format_submission(old, proof, signed))
            if isinstance(answer, Unreachable):
                return answer
            if answer.status == 200:
                return self._cosigned(signed, size, answer.body)
            said = answer.size
            if answer.status == 422 or (answer.status == 409 and said in (None, old) and old == size):
                return Forked(
                    f"the witness {self.name} cosigned another history of this log than the {size} records here", signed
                )
            if answer.status != 409 or said is None or said == old:
                return Refused(answer.status, _reason(answer))
            if said < cosigned_before:
                return Refused(
                    409,
                    f"the witness forgot: it cosigned {cosigned_before} records and now remembers {said}; it must be "
                    "retired and another one configured",
                )
            known = said
            if said > size and said > await self._newest_size(log):
                return Forked(
                    f"the witness {self.name} cosigned {said} records of this log, here are {size}: it was cut or put "
                    "back to an older state, or another copy of it is running",
                    signed,
                    cut=True,
                )
        return Behind(known)

    async def _newest_size(self, log: LogView) -> int:
        """Read once more: another submission of ours may have overtaken this one."""
        return tree_head(split_note(await asyncio.to_thread(log.checkpoint))[0]).size

    def _cosigned(self, signed: str, size: int, body: bytes) -> Cosigned | Refused:
        try:
            found = verify_cosignature(signed + body.decode(), self.name, self._public)
        except ValueError as error:
            return Refused(200, f"what the witness answered is not its cosignature: {error}")
        return Cosigned(signed + found.line, size, found.time_s)

    async def _post(self, body: bytes) -> _Answer | Unreachable:
        try:
            async with asyncio.timeout(self._timeout_s), self._http.stream("POST", self._url, content=body) as response:
                received = b""
                async for chunk in response.aiter_bytes():
                    received += chunk
                    if len(received) > ANSWER_BYTES_MAX:
                        return Unreachable(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
                return _Answer(response.status_code, response.headers.get("content-type", "").strip(), received)
        except TimeoutError:
            return Unreachable(f"no answer within {self._timeout_s:g} s")
        except (httpx.HTTPError, OSError) as error:
            return Unreachable(_cut(str(error)) or type(error).__name__)


def _authorities(settings: WitnessConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_certificate)
    except (OSError, ssl.SSLError) as error:
        raise ConfigInvalid(
            f"witness.ca_certificate {settings.ca_certificate} cannot be used: {error.strerror or error}",
            hint="it names a PEM file with the certificate of the authority",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _reason(answer: _Answer) -> str:
    return _cut(answer.body.decode("utf-8", "replace")) or f"it answered {answer.status}"


def _cut(text: str) -> str:
    """A stranger's words, fit for a log line: one line, printable, short."""
    line = " ".join(text.split())[:_REASON_CHARS_MAX]
    return "".join(character for character in line if character.isprintable())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
