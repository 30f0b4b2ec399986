"""Long texts in windows a model can take: plan them, cut the inputs, merge what comes back. Pure.

Windows overlap, and a token's output is taken from the window where it stands farthest from a cut edge, so every
token is judged with context on both sides.

>>> [(w.start, w.stop, w.keep_start, w.keep_stop) for w in plan(10, window_tokens=8, overlap_tokens=2)]
[(0, 6, 0, 5), (4, 10, 5, 10)]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from appliance.specialists.tokenization import Tokens
from appliance.types import EncodeInput

SPECIAL_TOKENS = 2  # [CLS] before and [SEP] after the tokens of every window


@dataclass(frozen=True, slots=True)
class Window:
    """The model reads tokens `start:stop`; of what it says about them, rows `keep_start:keep_stop` count."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def plan(token_count: int, *, window_tokens: int, overlap_tokens: int) -> tuple[Window, ...]:
    """Windows over `token_count` tokens; `window_tokens` includes the special tokens. No tokens: no windows.

    The kept ranges follow one another without gap or overlap from 0 to `token_count`. Windows are of one length, the
    least that as few windows need: the last one is no stump without context, and no token is read more often than the
    overlap asks for.
    """
    content = window_tokens - SPECIAL_TOKENS
    if not 0 <= overlap_tokens < content:
        raise ValueError(f"an overlap of {overlap_tokens} tokens does not fit a window of {window_tokens}")
    if token_count == 0:
        return ()
    step = content - overlap_tokens
    count = 1 + max(0, -(-(token_count - content) // step))
    length = -(-(token_count + (count - 1) * overlap_tokens) // count)
    starts = [(token_count - length) * index // max(count - 1, 1) for index in range(count)]
    cuts = [0]
    for before, after in pairwise(starts):
        cuts.append((before + length + after) // 2)  # the middle of what both windows see
    cuts.append(token_count)
    return tuple(Window(start, start + length, cuts[index], cuts[index + 1]) for index, start in enumerate(starts))


def cut(window: Window, tokens: Tokens, features: np.ndarray | None, *, cls_id: int, sep_id: int) -> EncodeInput:
    """The model's input for one window: special tokens around it, zero features for them."""
    ids = np.concatenate(([cls_id], tokens.ids[window.start : window.stop], [sep_id])).astype(np.int32)
    if features is None:
        return EncodeInput(ids)
    return EncodeInput(ids, np.pad(features[window.start : window.stop], ((1, 1), (0, 0))))


def merge(windows: Sequence[Window], outputs: Sequence[np.ndarray]) -> np.ndarray:
    """One row per token from the rows (special tokens included) of each window; empty input: shape (0, 0)."""
    if len(windows) != len(outputs):
        raise ValueError(f"{len(windows)} windows but {len(outputs)} outputs")
    if not windows:
        return np.zeros((0, 0), dtype=np.float32)
    kept = []
    for window, rows in zip(windows, outputs, strict=True):
        if rows.shape[0] != window.stop - window.start + SPECIAL_TOKENS:
            raise ValueError(f"a window of {window.stop - window.start} tokens returned {rows.shape[0]} rows")
        first = 1 + window.keep_start - window.start
        kept.append(rows[first : first + window.keep_stop - window.keep_start])
    return np.concatenate(kept)
