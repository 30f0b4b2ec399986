"""Guessing the next tokens from the text itself: answers that quote their input repeat its sequences. Pure.

    propose(array("i", [5, 6, 7, 8, 1, 5, 6, 7]))       # (8, 1, 5, 6): what followed the last time

The scheduler runs guesses beside the token that is due, and those that turn out to be what would have been chosen are
kept. A guess costs its share of a step, so none is made without a repetition of `MATCH_TOKENS_MIN` tokens.
"""

from __future__ import annotations

from array import array

import numpy as np

MATCH_TOKENS_MIN = 3
LOOKBACK_TOKENS = 4096


def propose(tokens: array[int], drafts_max: int = 4) -> tuple[int, ...]:
    """What followed the latest earlier occurrence of the last tokens; empty if there is none."""
    view = np.frombuffer(tokens, dtype=np.int32)[-LOOKBACK_TOKENS:]
    length = MATCH_TOKENS_MIN
    if len(view) <= length:
        return ()
    # Positions whose `length` tokens equal the last ones; the last position is those themselves.
    starts = len(view) - length
    matches = np.ones(starts, dtype=bool)
    for offset in range(length):
        matches &= view[offset : offset + starts] == view[starts + offset]
    found = np.flatnonzero(matches)
    if not len(found):
        return ()
    following = int(found[-1]) + length
    return tuple(int(token) for token in view[following : following + drafts_max])
