"""Hostile bytes for every parser of the log: what is read from outside is refused in one way or means what it says.

    python -m tests.audit.audit_fuzz [--cases 10000000] [--seed 1]        # prints how many cases each parser had

Every case is a genuine input with some bytes changed, cut, doubled, or put together with another's. A parser MUST raise
its own kind of refusal or accept; what it accepts MUST be written the same way again. The verifier MUST give a verdict
of its table, and MUST NOT call in order what differs from what was signed.
"""

from __future__ import annotations

import argparse
import base64
import io
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from appliance.audit import auditverify, control
from appliance.audit.checkpoint import checkpoint_text, parse_checkpoint
from appliance.audit.header import RecordHeader
from appliance.audit.proof import format_proof, parse_proof
from appliance.audit.protocol import FrameBuffer, ProtocolViolation, decode_request
from appliance.audit.witness import format_submission, parse_submission
from appliance.crypto.note import verify_note
from tests.audit.audit_bundle import SEED, Log, canonical, public_of, verifier_key

CHANGES_MAX = 4
INTERESTING = (
    b"",
    b"\x00",
    b"\xff" * 8,
    b"\n",
    b"\n\n",
    b"-1",
    b"9" * 20,
    b"\xed\xa0\x80",
    b"=",
    b"\xe2\x80\x94 ",
    b"{" * 40,
)
LOG = Log.of(14, tombstone=(4, 7))
KEYS = [auditverify.VerifierKey(verifier_key())]
SIGNED = {size: LOG.head(size).partition("\n\n")[0] + "\n" for size in (9, 14)}


@dataclass(frozen=True)
class Target:
    """A parser: genuine inputs, what it does with one, and how often it has a turn."""

    seeds: tuple[bytes, ...]
    feed: Callable[[bytes], None]
    weight: int


def mutated(seed: bytes, others: tuple[bytes, ...], chance: random.Random) -> bytes:
    """A few changes of bytes, pieces, or both."""
    found = bytearray(seed)
    for _ in range(chance.randrange(1, CHANGES_MAX + 1)):
        at = chance.randrange(len(found) + 1)
        upto = min(len(found), at + chance.choice((1, 1, 2, 8, 64)))
        how = chance.randrange(6)
        if how == 0 and at < len(found):
            found[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            found[at:upto] = chance.randbytes(upto - at)
        elif how == 2:
            del found[at:upto]
        elif how == 3:
            found[at:at] = found[at:upto]
        elif how == 4:
            found[at:at] = chance.choice(INTERESTING)
        else:
            other = chance.choice(others)
            begin = chance.randrange(len(other) + 1)
            found[at:] = other[begin:]
    return bytes(found)


def _header(case: bytes) -> None:
    try:
        header = RecordHeader.decode(case)
    except ValueError:
        return
    assert header.encode() == case


def _control(case: bytes) -> None:
    ours = theirs = None
    try:
        ours = dict(control.parse_control(case))
    except ValueError:
        pass
    theirs = auditverify.parse_control(case)
    assert ours is None or (theirs == ours and canonical(**ours) == case), case


def _checkpoint(case: bytes) -> None:
    try:
        text = case.decode()
        found = parse_checkpoint(text)
    except ValueError:
        return
    assert checkpoint_text(found.origin, found.size, found.root) == text


def _note(case: bytes) -> None:
    """Of what is signed nothing can be changed; lines of unknown signers may come and go."""
    try:
        opened = auditverify.open_checkpoint(case, KEYS, "note")
        assert case.startswith(SIGNED[opened.size].encode())
    except (auditverify.Malformed, auditverify.Unsigned):
        pass
    try:
        text = verify_note(case.decode(), LOG.origin, public_of(SEED))
        assert text in SIGNED.values()
    except ValueError:
        pass


def _receipt(case: bytes) -> None:
    try:
        found = auditverify.open_receipt(case, KEYS, "receipt")
        assert found.seq < 14
    except (auditverify.Malformed, auditverify.Unsigned):
        pass
    try:
        receipt, header = parse_proof(case.decode())
        assert format_proof(receipt, header) == case.decode()
    except ValueError:
        pass


def _submission(case: bytes) -> None:
    try:
        found = parse_submission(case)
    except ValueError:
        return
    assert format_submission(found.old, found.proof, found.note) == case


def _frame(case: bytes) -> None:
    frames = FrameBuffer(1 << 16)
    try:
        for body in frames.feed(case):
            decode_request(body)
    except ProtocolViolation:
        pass


class _Memory:
    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def open(self, name: str) -> io.BytesIO | None:
        return io.BytesIO(self.files[name]) if name in self.files else None

    def names(self):
        return iter(self.files)


FILES = LOG.files()
NAMES = [name for name in FILES if name.startswith(("tile/", "public/", "ciphertexts/"))]


def _bundle(case: bytes) -> None:
    """The last byte says which file of the bundle the case takes the place of."""
    name = NAMES[case[-1] % len(NAMES)] if case else NAMES[0]
    files = {**FILES, name: case[:-1]}
    report, outside = auditverify.Report(), auditverify.Outside()
    outside.checkpoints.append(auditverify.open_checkpoint(LOG.head().encode(), KEYS, "kept"))
    auditverify.judge(
        report,
        lambda: auditverify.Verification(auditverify.Bundle(_Memory(files), KEYS, report), KEYS, outside, report).run(
            None
        ),
    )
    assert report.exit_code in auditverify.VERDICTS
    assert files[name] == FILES[name] or report.exit_code not in (0, 2), (name, report.messages)


TARGETS = {
    "header": Target(tuple(record.header() for record in LOG.records), _header, 40),
    "control": Target(tuple(record.body for record in LOG.records if record.body), _control, 40),
    "checkpoint": Target((LOG.head().partition("\n\n")[0].encode() + b"\n",), _checkpoint, 20),
    "note": Target((LOG.head().encode(), LOG.head(9).encode()), _note, 4),
    "receipt": Target(tuple(LOG.receipt(seq).encode() for seq in (0, 7, 13)), _receipt, 4),
    "submission": Target(
        (format_submission(9, [bytes(32)] * 3, LOG.head()), format_submission(0, [], LOG.head())), _submission, 20
    ),
    "frame": Target((b"\x00\x00\x00\x03abc", b"\x00\x00\x00\x02\x92\xa6" + base64.b64encode(bytes(40))), _frame, 20),
    "bundle": Target(tuple(FILES[name] + bytes((at,)) for at, name in enumerate(NAMES)), _bundle, 1),
}


def fuzz(cases: int, seed: int) -> Counter[str]:
    """So many cases; returns how many each parser had. Raises `AssertionError` with the case on what must not be."""
    chance = random.Random(seed)
    names = list(TARGETS)
    weights = [TARGETS[name].weight for name in names]
    turns: Counter[str] = Counter()
    for name in chance.choices(names, weights, k=cases):
        target = TARGETS[name]
        case = mutated(chance.choice(target.seeds), target.seeds, chance)
        try:
            target.feed(case)
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed}: {case!r}") from error
        turns[name] += 1
    return turns


def main() -> None:
    """As many cases as a night has."""
    parser = argparse.ArgumentParser(description="Hostile bytes for every parser of the audit log.")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    print(dict(fuzz(options.cases, options.seed)))


if __name__ == "__main__":
    main()
