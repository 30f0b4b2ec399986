"""A witness of C2SP tlog-witness: cosigns a checkpoint only if it continues the last one it cosigned for that log.

    with open_witness(folder) as kept:
        answer = Witness(kept).submit(body)          # body of `POST /add-checkpoint`

    body = format_submission(old, proof, note)       # "old <size>", proof lines, an empty line, the checkpoint

What may be relied on: of two checkpoints of one log that do not agree, at most one is ever cosigned, across crashes
and restarts, because the head is on stable storage before its cosignature leaves. The decision is a function of
values (`decide`); the folder is `witness_folder.py`'s, HTTP is `api/witness.py`'s.
"""

from __future__ import annotations

import base64
import binascii
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from appliance.audit.checkpoint import SIZE_MAX, Checkpoint, parse_checkpoint
from appliance.audit.witness_folder import Entry, WitnessFolder, timestamp
from appliance.crypto import note, signing
from appliance.crypto.cosignature import cosign
from appliance.crypto.merkle import EMPTY_ROOT, HASH_BYTES, PROOF_HASHES_MAX, verify_consistency
from appliance.crypto.note import SignatureLine

# A note of sixteen post-quantum signatures and the longest proof fit; nobody needs more.
SUBMISSION_BYTES_MAX = 128 * 1024


class Verdict(StrEnum):
    """What becomes of a checkpoint; `api/witness.py` says which HTTP status each is."""

    COSIGNED = "cosigned"
    MALFORMED = "malformed"
    UNKNOWN_LOG = "unknown_log"
    UNTRUSTED = "untrusted"  # no good signature of a key that is known for the log
    CONFLICT = "conflict"  # the proof does not begin where the witness is
    INCONSISTENT = "inconsistent"  # another history


@dataclass(frozen=True, slots=True)
class Submission:
    """A parsed request. `text` is what the note signs; nothing in it is verified yet."""

    old: int
    proof: tuple[bytes, ...]
    note: str
    text: str
    lines: tuple[SignatureLine, ...]
    head: Checkpoint


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict, the size of the newest cosigned checkpoint, and the cosignature where there is one."""

    verdict: Verdict
    known: int = 0
    cosignature: str = ""


def format_submission(old: int, proof: Sequence[bytes], signed: str) -> bytes:
    """The body of a request."""
    lines = "".join(f"{base64.b64encode(node).decode()}\n" for node in proof)
    return f"old {old}\n{lines}\n{signed}".encode()


def parse_submission(body: bytes) -> Submission:
    """The inverse, strict: numbers and base64 have one form. Raises `ValueError`."""
    if len(body) > SUBMISSION_BYTES_MAX:
        raise ValueError(f"a submission has at most {SUBMISSION_BYTES_MAX} bytes")
    start, separator, signed = body.decode().partition("\n\n")
    first, *proof = start.split("\n")
    if not separator or len(proof) > PROOF_HASHES_MAX or not first.startswith("old "):
        raise ValueError("not a submission of a checkpoint")
    text, lines = note.split_note(signed)
    return Submission(_size(first.removeprefix("old ")), tuple(map(_hash, proof)), signed, text, lines, tree_head(text))


def tree_head(text: str) -> Checkpoint:
    """The first three lines of a checkpoint of anybody's log; extension lines MAY follow. Raises `ValueError`."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise ValueError("not a checkpoint")
    return parse_checkpoint("\n".join(lines[:3]) + "\n")


def decide(submission: Submission, trusted: Sequence[bytes], known: Checkpoint | None) -> Verdict:
    """What to answer, in the order of the specification. `trusted`: public keys of the log, none if it is unknown."""
    head = submission.head
    size, root = (known.size, known.root) if known else (0, EMPTY_ROOT)
    if not trusted:
        return Verdict.UNKNOWN_LOG
    if not _is_signed(submission, trusted):
        return Verdict.UNTRUSTED
    if submission.old > head.size:
        return Verdict.MALFORMED
    if submission.old != size:
        return Verdict.CONFLICT
    return Verdict.COSIGNED if _continues(submission, root) else Verdict.INCONSISTENT


def contradicts(submission: Submission, verdict: Verdict, known: Checkpoint | None) -> bool:
    """Whether a checkpoint with a good signature is evidence: another history, or a second tree of one size."""
    if verdict == Verdict.INCONSISTENT:
        return True
    same_size = known is not None and known.size == submission.head.size
    return verdict == Verdict.CONFLICT and same_size and known != submission.head


class Witness:
    """The effects around `decide`, one submission at a time. Safe to call from several threads."""

    def __init__(self, kept: WitnessFolder, *, clock: Callable[[], float] = time.time) -> None:
        self._kept = kept
        self._clock = clock
        # The check of the old size and the new state must be one step: two requests in between each other could roll
        # the state back.
        self._one_at_a_time = threading.Lock()

    @property
    def name(self) -> str:
        """What this witness is called."""
        return self._kept.identity.name

    @property
    def verifier_key(self) -> str:
        """The public key as text, of type 0x04."""
        return self._kept.identity.verifier_key

    def submit(self, body: bytes) -> Answer:
        """Decide on one request. What is answered `COSIGNED` is on stable storage; a crash before loses nothing.

        Raises `HomeError` or `OSError` when nothing can be kept; then nothing was cosigned.
        """
        try:
            submission = parse_submission(body)
        except ValueError:
            return Answer(Verdict.MALFORMED)
        with self._one_at_a_time:
            return self._submit(submission)

    def _submit(self, submission: Submission) -> Answer:
        kept, head, now = self._kept, submission.head, self._clock()
        kept.require_space()
        entry = kept.state.get(head.origin)
        known = entry.checkpoint(head.origin) if entry else None
        verdict = decide(submission, kept.trusted_keys(head.origin), known)
        size = known.size if known else 0
        line = ""
        if verdict == Verdict.COSIGNED:
            line = cosign(submission.text, self.name, kept.seed, int(now))
            kept.keep(head, submission.note, int(now))
        elif contradicts(submission, verdict, known):
            kept.keep_evidence(head.origin, submission.note)
        root = base64.b64encode(head.root).decode()
        stranger = verdict in (Verdict.UNKNOWN_LOG, Verdict.UNTRUSTED)
        kept.note_down(
            Entry(timestamp(now), verdict, head.origin, head.size, root, submission.old, size), stranger=stranger
        )
        return Answer(verdict, size, line)


def _is_signed(submission: Submission, trusted: Sequence[bytes]) -> bool:
    """Whether a known key signed. A bad signature of one known key fails the note, though another's is good."""
    origin, good = submission.head.origin, False
    for public in trusted:
        wanted = (origin, note.key_id(origin, public))
        for line in submission.lines:
            if (line.name, line.key_id) == wanted:
                if not signing.verify(public, submission.text.encode(), line.signature):
                    return False
                good = True
    return good


def _continues(submission: Submission, known_root: bytes) -> bool:
    """Whether the proof leads from the known root (of `submission.old` records) to the new one."""
    head = submission.head
    if head.size == 0 and head.root != EMPTY_ROOT:
        return False
    if submission.old == 0:
        return not submission.proof  # everything continues the empty tree
    return verify_consistency(submission.old, head.size, known_root, head.root, submission.proof)


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or str(int(text)) != text or int(text) > SIZE_MAX:
        raise ValueError("not a tree size")
    return int(text)


def _hash(text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    if len(value) != HASH_BYTES or base64.b64encode(value).decode() != text:
        raise ValueError("not a hash")
    return value
