"""Backends without a model: states are a fixed function of token, position and adapter; answers repeat their prompt.

It is real, only cheap: everything above it (queue, batches, heads, messages, restarts) works as with llama.cpp.
Choose it with `engine.backend = "echo"`. Files are hashed like any model file but not parsed.

    EchoEncoder().encode(0, None, [np.array([2, 9, 3])])       # (3, 384), the same on every machine and every day
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from appliance.engine.backend import ModelFacts
from appliance.engine.generation.decoder import Choice, DecoderFacts
from appliance.engine.generation.scheduler import Copy, Plan
from appliance.engine.generation.values import Sampling
from appliance.errors import InvalidRequest

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

    def load_adapter(self, key: str, path: Path, *, merge: bool = False) -> None:
        """Every file is an adapter."""
        self._adapters.add(key)

    def unload_adapter(self, key: str) -> None:
        self._adapters.discard(key)

    def encode(self, lane: int, adapter: str | None, sequences: Sequence[np.ndarray]) -> np.ndarray:
        """See `echo_states`."""
        assert adapter is None or adapter in self._adapters
        return np.concatenate([echo_states(token_ids, adapter) for token_ids in sequences])


class EchoDecoder:
    """Implements `generation.decoder.Decoder`: bytes are tokens, and an answer is its prompt once more.

    It knows the prompt only from what the slots hold, so a scheduler that mixes slots up is heard at once. An adapter
    answers in capitals. Grammars are refused: there is no model to be guided.
    """

    BOS, EOS = 256, 257

    def __init__(self, *, slots: int, context_tokens: int) -> None:
        self._slots: list[list[int]] = [[] for _ in range(slots)]
        self._prompts: dict[int, tuple[int, int | None]] = {}
        self._rows: dict[int, tuple[int, int, str | None]] = {}
        self._adapters: set[str] = set()
        self._context_tokens = context_tokens

    @property
    def facts(self) -> DecoderFacts:
        return DecoderFacts(
            architecture="echo",
            vocabulary=258,
            context_tokens=self._context_tokens,
            chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
            bos="",
            eos="",
            device="none: the echo backend computes no model",
            memory_bytes=0,
            shares_prefixes=True,
        )

    def tokenize(self, pieces: Sequence[tuple[str, bool]]) -> array[int]:
        return array("i", [self.BOS, *"".join(text for text, _ in pieces).encode()])

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def ends(self, token: int) -> bool:
        return token == self.EOS

    def load_adapter(self, key: str, path: Path, *, merge: bool = False) -> None:
        """Every file is an adapter."""
        self._adapters.add(key)

    def unload_adapter(self, key: str) -> None:
        self._adapters.discard(key)

    def open(
        self, sequence: int, sampling: Sampling, *, seed: int, grammar: str | None, logprobs: int | None, prompt: int
    ) -> None:
        if grammar is not None:
            raise InvalidRequest("the echo backend follows no grammar", hint="use engine llamacpp")
        self._prompts[sequence] = prompt, logprobs

    def close(self, sequence: int) -> None:
        self._prompts.pop(sequence, None)

    def run(self, plan: Plan) -> None:
        assert plan.adapter is None or plan.adapter in self._adapters
        for operation in plan.memory:
            if isinstance(operation, Copy):
                self._slots[operation.target] = self._slots[operation.source][: operation.length]
            else:
                del self._slots[operation.slot][operation.length :]
        for piece in plan.pieces:
            slot = self._slots[piece.slot]
            assert len(slot) == piece.start
            slot.extend(piece.tokens)
            self._rows[piece.sequence] = piece.slot, len(slot) - piece.drafts, plan.adapter

    def choose(self, sequence: int, place: int) -> Choice:
        number, length, adapter = self._rows[sequence]
        prompt, logprobs = self._prompts[sequence]
        repeated = length + place - prompt + 1
        token = self._slots[number][repeated] if repeated < min(prompt, length) else self.EOS
        if adapter is not None and token < 256:
            token = bytes([token]).upper()[0]
        return Choice(token, () if logprobs is None else ((token, 0.0),) * (1 + min(logprobs, 1)))
