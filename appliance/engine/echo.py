"""A backend without a model: token states are a fixed function of token id, position and adapter.

It is real, only cheap: everything above it (queue, batches, heads, messages, restarts) works as with llama.cpp.
Choose it with `engine.backend = "echo"`. Files are hashed like any model file but not parsed.

    EchoEncoder().encode(0, None, [np.array([2, 9, 3])])       # (3, 384), the same on every machine and every day
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from appliance.engine.backend import ModelFacts

STATES = 384
POSITIONS = 512
VOCABULARY = 30522


def echo_states(token_ids: np.ndarray, adapter: str | None) -> np.ndarray:
    """The function itself, for tests: (T, 384) float32 in [-1, 1]."""
    phase = 0.0 if adapter is None else 1.0 + zlib.crc32(adapter.encode()) / 2**32
    rows = token_ids.astype(np.float64)[:, None] + 0.01 * np.arange(len(token_ids))[:, None]
    return np.sin(rows * (1 + np.arange(STATES)) / STATES + phase).astype(np.float32)


class EchoEncoder:
    """Implements `backend.Backend`."""

    def __init__(self) -> None:
        self._adapters: set[str] = set()

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts(
            STATES, POSITIONS, VOCABULARY, device="none: the echo backend computes no model", memory_bytes=0
        )

    def load_adapter(self, key: str, path: Path) -> None:
        """Every file is an adapter."""
        self._adapters.add(key)

    def unload_adapter(self, key: str) -> None:
        self._adapters.discard(key)

    def encode(self, lane: int, adapter: str | None, sequences: Sequence[np.ndarray]) -> np.ndarray:
        """See `echo_states`."""
        assert adapter is None or adapter in self._adapters
        return np.concatenate([echo_states(token_ids, adapter) for token_ids in sequences])
