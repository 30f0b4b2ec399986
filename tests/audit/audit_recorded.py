"""A log of ten thousand records, made by the appliance itself, and everything that left the machine meanwhile.

    recorded = record_ten_thousand(home, folder)        # once a run: `recorded` of `conftest.py`
    path = recorded.database(tmp_path)                   # a copy to attack
    verdict = verify(path, recorded.keys, trusted=[recorded.notes[9000], recorded.notes[10_000]])

Three classes (exchanges, administration, public), fifty subjects, one rotation of the signing key after 9,000 records,
one shredded subject, a checkpoint kept at each of `KEPT`, one witness, a hundred receipts, and all files as last
night's backup has them (9,000 records).
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from appliance.audit import auditverify
from appliance.audit.keystore import public_material
from appliance.audit.log import AuditLog
from appliance.audit.stored_view import StoredView
from appliance.audit.witness_client import Cosigned
from appliance.audit.witness_folder import add_log
from appliance.config import Home
from appliance.types import AuditEvent
from tests.audit.audit_home import an_event, opened
from tests.witness_service import running_witness

SIZE, NIGHTLY, MONDAY = 10_000, 9000, 8000
KEPT = (MONDAY, NIGHTLY, 9900, 9999, SIZE)
SUBJECTS, SHREDDED, SHRED_AT = 50, "case 13", 9500
RECEIPTS = 100
ADMINISTRATION_EVERY = 10
AT_ONCE = 500


@dataclass(frozen=True)
class Recorded:
    """Nobody writes to these files: tests attack copies."""

    home: Home
    nightly: Home
    keys: tuple[str, ...]  # verifier keys, newest first
    notes: dict[int, str]  # checkpoints that were kept outside, by size
    cosigned: str  # the newest one with the line of the witness
    witness_key: str
    receipts: Path
    shredded: tuple[AuditEvent, ...]
    kept: AuditEvent  # an exchange whose content is there
    administration: AuditEvent

    def database(self, folder: Path) -> Path:
        """A copy of the database alone, to be attacked."""
        return Path(shutil.copy(self.home.audit_database, folder / "log.db"))

    def copy(self, target: Path) -> Home:
        """A copy of all files, to be attacked and started."""
        return _copied(self.home, target)


def verify(
    source: Path | Sequence[Path], keys: Iterable[str], trusted: Iterable[str] = (), *words: object, folder: Path
) -> dict:
    """The answer of `auditverify`, called as a command in this process; `trusted` are notes, written to `folder`."""
    sources = [source] if isinstance(source, Path) else list(source)
    command = [*map(str, sources), "--json", *map(str, words)]
    for key in keys:
        command += ["--pub", key]
    for number, note in enumerate(trusted):
        kept = folder / f"kept-{number}.txt"
        kept.write_text(note)
        command += ["--trusted", str(kept)]
    said = io.StringIO()
    with redirect_stdout(said):
        status = auditverify.verify(command)
    answer = json.loads(said.getvalue())
    assert answer["exit_code"] == status
    return answer


def record_ten_thousand(home: Home, folder: Path) -> Recorded:
    """Record on the empty log of `home`; what leaves the machine goes to `folder`."""
    receipts = folder / "receipts"
    receipts.mkdir()
    notes: dict[int, str] = {}
    with running_witness(folder / "witness", *public_material(home).verifier_keys) as witness:
        asyncio.run(_first_days(home, receipts, notes))
        notes[NIGHTLY] = StoredView(home).checkpoint()
        asyncio.run(_cosigned(home, witness.client()))
        nightly = _copied(home, folder / "nightly")
        events = asyncio.run(_last_day(home, receipts, notes))
        shredded = tuple(event for event in events if event.subject == SHREDDED)
        kept = next(event for event in events if event.subject not in (None, SHREDDED))
        administration = next(event for event in events if event.content is None)
        notes[SIZE] = StoredView(home).checkpoint()
        keys = public_material(home).verifier_keys
        add_log(folder / "witness", keys[0])
        cosigned = asyncio.run(_cosigned(home, witness.client()))
        sizes = {size: int(note.split("\n")[1]) for size, note in notes.items()}
        assert sizes == {size: size for size in KEPT}
        return Recorded(
            home,
            nightly,
            keys,
            notes,
            cosigned,
            witness.witness.verifier_key,
            receipts,
            shredded,
            kept,
            administration,
        )


async def _first_days(home: Home, receipts: Path, notes: dict[int, str]) -> None:
    async with opened(home) as log:
        events = [event async for event in _fill(log, MONDAY)]
        notes[MONDAY] = log.checkpoint()
        events += [event async for event in _fill(log, NIGHTLY - 1)]
        _keep_receipts(log, events, receipts)


async def _last_day(home: Home, receipts: Path, notes: dict[int, str]) -> tuple[AuditEvent, ...]:
    """The key is replaced, with no overlap, and a subject is shredded. The stop is the last record."""
    async with opened(home, signing_overlap_s=1e-6) as log:
        await log.rotate_signing_key("scheduled")
        events = [event async for event in _fill(log, SHRED_AT)]
        shredded = tuple(event for event in events if event.subject == SHREDDED)
        _keep_receipts(log, (*shredded[:1], *events), receipts)
        await log.shred(SHREDDED, "request", "user:3")
        while not log.erasures()[0].done:
            await log.append(an_event())
        for size in KEPT[2:-1]:
            async for event in _fill(log, size):
                assert event.subject != SHREDDED
            notes[size] = log.checkpoint()
        return tuple(events)


async def _fill(log: AuditLog, size: int) -> AsyncIterator[AuditEvent]:
    """Append until the log has exactly so many records."""
    numbers = count(_size(log))
    while left := size - (now := _size(log)):
        events = [_event(next(numbers), after_the_shred=now >= SHRED_AT) for _ in range(min(left, AT_ONCE))]
        await asyncio.gather(*(log.append(event) for event in events))
        for event in events:
            yield event


def _event(number: int, *, after_the_shred: bool) -> AuditEvent:
    subject = f"case {number % SUBJECTS}"
    if number % ADMINISTRATION_EVERY == 0 or (after_the_shred and subject == SHREDDED):
        return replace(an_event(number), exchange_id="", event="audit.list")
    return replace(an_event(number, content=b"note %d" % number), subject=subject, actor=f"user:{number % 20}")


def _size(log: AuditLog) -> int:
    return int(log.checkpoint().split("\n")[1])


def _keep_receipts(log: AuditLog, events: Sequence[AuditEvent], folder: Path) -> None:
    """Half of the hundred, spread over these records."""
    half = RECEIPTS // 2
    chosen = [events[0], *(events[len(events) * number // half] for number in range(1, half))]
    for event in chosen:
        (folder / f"{event.record_id.hex()}.tlog-proof").write_text(log.proof_text(event.record_id))


async def _cosigned(home: Home, client) -> str:
    try:
        verdict = await client.submit(StoredView(home), 0)
    finally:
        await client.close()
    assert isinstance(verdict, Cosigned), verdict
    return verdict.note


def _copied(home: Home, target: Path) -> Home:
    shutil.copytree(home.root, target, ignore=shutil.ignore_patterns("*.sock", "*.lock"))
    return Home(target)
