"""llama.cpp as a backend: one model, one `llama_context` per lane, many adapters. Only importer of `llama_cpp`.

A lane computes with one thread. Two lanes of one thread were faster than one of two, because nothing waits at a
barrier after every operation, and lose no more than their share when another process needs the core (README.md).

Runs in the worker process and nowhere else: a malformed file can abort the process. Uses the low-level interface,
because the high-level one copies token states one float at a time and knows no adapter switching.

    encoder = LlamaEncoder.open(Path("base.gguf"), lanes=2, microbatch_tokens=256, sequences_max=64)
    encoder.load_adapter("phi", Path("phi.gguf"))
    encoder.encode(0, "phi", [np.array([101, 7592, 102], np.int32)])       # (3, 384)
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from llama_cpp import llama_cpp as llama

from appliance.engine.backend import ModelFacts
from appliance.errors import EngineUnavailable, ModelFileRefused, SpecialistFileInvalid

POSITIONS_USUAL = 512  # of BERT; a sequence may be this long whatever a batch of several may hold
_LOG_LEVEL_WARN, _LOG_LEVEL_ERROR = 3, 4
_log_tail: deque[str] = deque(maxlen=4)


@llama.llama_log_callback
def _keep_log_line(level: int, text: bytes, _user_data: object) -> None:
    """Errors of the library explain a refused file; everything else is noise on a server."""
    if level in (_LOG_LEVEL_WARN, _LOG_LEVEL_ERROR):
        _log_tail.append(text.decode(errors="replace").strip())


class _Batch:
    """The arrays of one `llama_batch`, allocated once and filled by slices."""

    def __init__(self, tokens_max: int, sequences_max: int) -> None:
        self._tokens = np.zeros(tokens_max, dtype=np.int32)
        self._positions = np.zeros(tokens_max, dtype=np.int32)
        self._counts = np.ones(tokens_max, dtype=np.int32)
        self._outputs = np.ones(tokens_max, dtype=np.int8)
        self._sequence_ids = np.arange(sequences_max, dtype=np.int32)
        self._sequence_pointers = np.zeros(tokens_max, dtype=np.uintp)
        self.structure = llama.llama_batch(
            n_tokens=0,
            token=self._tokens.ctypes.data_as(ctypes.POINTER(llama.llama_token)),
            embd=None,
            pos=self._positions.ctypes.data_as(ctypes.POINTER(llama.llama_pos)),
            n_seq_id=self._counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._sequence_pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(llama.llama_seq_id))),
            logits=self._outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, sequences: Sequence[np.ndarray]) -> int:
        """Lay the sequences end to end; returns the number of tokens."""
        end = 0
        for number, token_ids in enumerate(sequences):
            start, end = end, end + len(token_ids)
            assert end <= len(self._tokens) and number < len(self._sequence_ids)
            self._tokens[start:end] = token_ids
            self._positions[start:end] = np.arange(len(token_ids))
            self._sequence_pointers[start:end] = self._sequence_ids[number:].ctypes.data
        self.structure.n_tokens = end
        return end


@dataclass(slots=True)
class _Lane:
    """A context, the batch it is fed from and the adapter it was last set to."""

    context: ctypes.c_void_p
    batch: _Batch
    active: str | None = None


class LlamaEncoder:
    """Implements `backend.Backend`."""

    def __init__(self, model: ctypes.c_void_p, lanes: list[_Lane], tokens_max: int) -> None:
        self._model = model
        self._lanes = lanes
        self._adapters: dict[str, ctypes.c_void_p] = {}
        vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        self._facts = ModelFacts(
            states=llama.llama_model_n_embd(model),
            positions=llama.llama_model_n_ctx_train(model),
            vocabulary=vocabulary,
            device=_device_verdict(),
            memory_bytes=llama.llama_model_size(model) + compute_bytes(len(lanes), tokens_max),
        )

    @classmethod
    def open(cls, path: Path, *, lanes: int, microbatch_tokens: int, sequences_max: int) -> LlamaEncoder:
        """Load the base. Raises `ModelFileRefused`; a malformed file MAY abort the process."""
        llama.llama_log_set(_keep_log_line, None)
        llama.llama_backend_init()
        _log_tail.clear()
        parameters = llama.llama_model_default_params()
        # Repacked weights were no faster for the types we use and are a copy; unpacked ones stay mapped from the file.
        parameters.use_extra_bufts = False
        model = llama.llama_model_load_from_file(str(path).encode(), parameters)
        if not model:
            raise ModelFileRefused(
                f"llama.cpp cannot load the base model{_reason()}", hint="fetch the base model again"
            )
        if not llama.llama_model_has_encoder(model) and llama.llama_model_n_ctx_train(model) < 1:
            raise ModelFileRefused("the base model is not an encoder", hint="fetch the base model again")
        # One sequence may be as long as the model allows, even if batches of several stop earlier.
        tokens_max = max(microbatch_tokens, llama.llama_model_n_ctx_train(model))
        sequences_max = min(sequences_max, tokens_max, llama.llama_max_parallel_sequences())
        made = []
        for _ in range(lanes):
            context = llama.llama_init_from_model(model, _context_parameters(tokens_max, sequences_max))
            if not context:
                raise ModelFileRefused(f"llama.cpp cannot make a context for the base model{_reason()}")
            made.append(_Lane(context, _Batch(tokens_max, sequences_max)))
        return cls(model, made, tokens_max)

    @property
    def facts(self) -> ModelFacts:
        return self._facts

    def load_adapter(self, key: str, path: Path) -> None:
        """Read a LoRA file once; switching to it later costs nothing that grows with its size."""
        assert key not in self._adapters
        _log_tail.clear()
        adapter = llama.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            raise SpecialistFileInvalid(
                f"llama.cpp cannot read the specialist's adapter{_reason()}",
                hint="the file is damaged or made for another base model; install it again from its source",
            )
        self._adapters[key] = adapter

    def unload_adapter(self, key: str) -> None:
        """Free the adapter; no context may point to it any more."""
        adapter = self._adapters.pop(key, None)
        if adapter is None:
            return
        for lane in self._lanes:
            if lane.active == key:
                self._switch(lane, None)
        llama.llama_adapter_lora_free(adapter)

    def encode(self, lane: int, adapter: str | None, sequences: Sequence[np.ndarray]) -> np.ndarray:
        """One forward pass over all sequences. The result is a view of the lane's memory."""
        chosen = self._lanes[lane]
        if adapter != chosen.active:
            self._switch(chosen, adapter)
        tokens = chosen.batch.fill(sequences)
        if llama.llama_encode(chosen.context, chosen.batch.structure) != 0:
            raise EngineUnavailable(f"llama.cpp could not run a batch{_reason()}")
        states = llama.llama_get_embeddings(chosen.context)
        if not states:
            raise EngineUnavailable("llama.cpp returned no token states")
        return np.ctypeslib.as_array(states, (tokens, self._facts.states))

    def _switch(self, lane: _Lane, adapter: str | None) -> None:
        if adapter is None:
            status = llama.llama_set_adapters_lora(lane.context, None, 0, None)
        else:
            pointers = (llama.llama_adapter_lora_p_ctypes * 1)(self._adapters[adapter])  # type: ignore[misc]  # opaque
            status = llama.llama_set_adapters_lora(lane.context, pointers, 1, (ctypes.c_float * 1)(1.0))
        if status != 0:
            raise EngineUnavailable(f"llama.cpp could not switch adapters{_reason()}")
        lane.active = adapter


def compute_bytes(lanes: int, tokens_max: int) -> int:
    """What is taken beside the weights at most: a lane's buffers, and what Python and its libraries hold.

    A token of a batch costs its activations and a row of logits that llama.cpp sets aside for an encoder too (as wide
    as the vocabulary): 160 KiB together for a vocabulary of 30,000. Rows that no batch ever reached are not resident.
    """
    return lanes * max(tokens_max, POSITIONS_USUAL) * 160 * 1024 + 48 * 1024**2


def _context_parameters(tokens_max: int, sequences_max: int) -> llama.llama_context_params:
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = tokens_max
    parameters.n_seq_max = sequences_max  # more sequences than tokens aborts the process
    parameters.n_threads = parameters.n_threads_batch = 1
    parameters.pooling_type = llama.LLAMA_POOLING_TYPE_NONE
    parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
    parameters.embeddings = True
    parameters.no_perf = True
    return parameters


def _device_verdict() -> str:
    if llama.llama_supports_gpu_offload():
        return "GPU: llama.cpp offloads all layers it can"
    return "CPU: this llama-cpp-python was built without a GPU backend"


def _reason() -> str:
    return f": {_log_tail[-1]}" if _log_tail else ""
