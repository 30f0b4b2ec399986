"""The text of a checkpoint (c2sp.org/tlog-checkpoint): origin, size and root of a tree, three lines, nothing else.

checkpoint_text("site.example/audit/3f…/e1", 12, root)    # signed as a note by `crypto/note.py`
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from appliance.crypto.merkle import HASH_BYTES

SIZE_MAX = 2**63 - 1
_NOT_IN_AN_ORIGIN = re.compile(r"[\s+]")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: the log it is of, how many records, and their root."""

    origin: str
    size: int
    root: bytes


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """The text that is signed. Raises `ValueError` for an origin that would break its lines."""
    if not origin or _NOT_IN_AN_ORIGIN.search(origin):
        raise ValueError("an origin has no spaces and no plus sign")
    if not 0 <= size <= SIZE_MAX or len(root) != HASH_BYTES:
        raise ValueError("not a tree head")
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """The tree head of a checkpoint's text (without signatures). Strict: what parses is written the same way again."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[1].isascii() or not lines[1].isdigit() or len(lines[1]) > 19:
        raise ValueError("not a checkpoint of this log: it has three lines")
    try:
        parsed = Checkpoint(lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True))
    except binascii.Error:
        raise ValueError("the root of the checkpoint is not base64") from None
    if checkpoint_text(parsed.origin, parsed.size, parsed.root) != text:
        raise ValueError("the checkpoint is not in canonical form")
    return parsed
