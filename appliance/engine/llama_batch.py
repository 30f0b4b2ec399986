"""The arrays that llama.cpp is fed from, for both kinds of workers.

batch = Batch(tokens_max=512, sequences_max=64)
batch.fill([np.array([101, 7592, 102], np.int32)])
llama.llama_encode(context, batch.structure)
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from appliance.engine.generation.scheduler import Plan
from appliance.engine.gguf_parts import WordRows
from appliance.engine.llamacpp import llama


class Batch:
    """The arrays of one `llama_batch`, allocated once and filled by slices.

    `states`: feed rows of word embeddings of this width instead of token ids.
    """

    def __init__(self, tokens_max: int, sequences_max: int, states: int = 0) -> None:
        self._tokens = np.zeros(tokens_max, dtype=np.int32)
        self._positions = np.zeros(tokens_max, dtype=np.int32)
        self._counts = np.ones(tokens_max, dtype=np.int32)
        self._outputs = np.ones(tokens_max, dtype=np.int8)
        self._sequence_ids = np.arange(sequences_max, dtype=np.int32)
        self._sequence_pointers = np.zeros(tokens_max, dtype=np.uintp)
        self._rows = np.zeros((tokens_max, states), dtype=np.float32)
        self.structure = llama.llama_batch(
            n_tokens=0,
            token=None if states else self._tokens.ctypes.data_as(ctypes.POINTER(llama.llama_token)),
            embd=self._rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) if states else None,
            pos=self._positions.ctypes.data_as(ctypes.POINTER(llama.llama_pos)),
            n_seq_id=self._counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._sequence_pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(llama.llama_seq_id))),
            logits=self._outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, sequences: Sequence[np.ndarray], words: WordRows | None = None) -> int:
        """Lay the sequences end to end, as ids or as what `words` has for them; returns the number of tokens."""
        end = 0
        for number, token_ids in enumerate(sequences):
            start, end = end, end + len(token_ids)
            assert end <= len(self._tokens) and number < len(self._sequence_ids)
            if words is None:
                self._tokens[start:end] = token_ids
            else:
                self._rows[start:end] = words.of(token_ids)
            self._positions[start:end] = np.arange(len(token_ids))
            self._sequence_pointers[start:end] = self._sequence_ids[number:].ctypes.data
        self.structure.n_tokens = end
        return end

    def fill_plan(self, plan: Plan) -> dict[int, int]:
        """Lay the pieces end to end; returns by sequence the index of the first token after which one is sampled."""
        end, sampling = 0, {}
        for piece in plan.pieces:
            start, end = end, end + len(piece.tokens)
            assert end <= len(self._tokens) and piece.slot < len(self._sequence_ids)
            self._tokens[start:end] = piece.tokens
            self._positions[start:end] = range(piece.start, piece.start + len(piece.tokens))
            self._sequence_pointers[start:end] = self._sequence_ids[piece.slot :].ctypes.data
            self._outputs[start:end] = 0
            if piece.samples:
                sampling[piece.sequence] = end - 1 - piece.drafts
                self._outputs[end - 1 - piece.drafts : end] = 1
        self.structure.n_tokens = end
        return sampling
