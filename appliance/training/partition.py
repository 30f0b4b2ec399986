"""Which side of the split a word, name or carrier note belongs to: decided by its hash, once, for ever.

Training text and held-back text must share no name, place or carrier note. Both generators ask this function, so
the rule cannot be kept by one and forgotten by the other:

>>> partition("Okafor") == partition("  okafor ")
True
"""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "held_back"]
HELD_BACK_SHARE = 0.2


def partition(key: str) -> Split:
    """`held_back` for a fifth of all keys. Case and surrounding space do not matter."""
    digest = hashlib.sha256(b"cloister-split-1\0" + key.strip().casefold().encode()).digest()
    return "held_back" if int.from_bytes(digest[:8], "big") < HELD_BACK_SHARE * 2**64 else "train"
