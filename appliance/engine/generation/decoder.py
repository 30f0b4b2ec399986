"""What the generation worker needs of a backend. Two exist: `llama_decoder.LlamaDecoder` and `echo.EchoDecoder`.

decoder.open(7, sampling, grammar=None, logprobs=None, prompt=3)
decoder.run(plan)                                 # memory operations, then one forward pass
decoder.choose(7, place=0)                        # Choice(token=9, logprobs=None)
decoder.close(7)
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from appliance.engine.generation.scheduler import Plan
from appliance.engine.generation.values import Sampling

DRAFTS_MAX = 4
GPU_REFUSED = "CPU: the GPU pack is not used: "  # how such a `device` begins


@dataclass(frozen=True, slots=True)
class DecoderFacts:
    """What a loaded decoder is like. `device` is a sentence. `shares_prefixes`: a slot can be cut to any length.

    `control`: names of tokens that steer the model; `defined`: of others that are found in every text.
    """

    architecture: str
    vocabulary: int
    context_tokens: int
    chat_template: str | None
    bos: str
    eos: str
    device: str
    memory_bytes: int
    shares_prefixes: bool
    control: frozenset[str] = frozenset()
    defined: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token; `token` None: the grammar leaves nothing to choose. `logprobs`: id and value, chosen first."""

    token: int | None
    logprobs: tuple[tuple[int, float], ...] = ()


class Decoder(Protocol):
    """One model, its slots and samplers; used by one thread. Every token, slot and length is valid when it arrives."""

    @property
    def facts(self) -> DecoderFacts: ...

    def tokenize(self, pieces: Sequence[tuple[str, bool]]) -> array[int]:
        """Token ids, with the model's beginning. Each piece by itself; where its flag is set, names of control tokens
        in it become those tokens."""

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; none for a control token."""

    def ends(self, token: int) -> bool:
        """Whether a token ends an answer."""

    def load_adapter(self, key: str, path: Path) -> None:
        """Raises `SpecialistFileInvalid` when the file cannot be used. MAY abort the process."""

    def unload_adapter(self, key: str) -> None:
        """Forget an adapter; one that was never loaded is no error."""

    def open(
        self, sequence: int, sampling: Sampling, *, seed: int, grammar: str | None, logprobs: int | None, prompt: int
    ) -> None:
        """Make ready to choose tokens for a sequence. Raises `InvalidRequest` for a grammar that cannot be used."""

    def close(self, sequence: int) -> None:
        """Forget a sequence; an unknown one is no error."""

    def run(self, plan: Plan) -> None:
        """One step. Raises `EngineUnavailable` when it failed: then nobody knows what the slots hold."""

    def choose(self, sequence: int, place: int) -> Choice:
        """The token after the sampling position `place` of the sequence's piece in the last step, once per place."""
