"""Specialists on llama.cpp: one model, one `llama_context` per lane, many adapters.

A lane computes with one thread. Two lanes of one thread were faster than one of two, because nothing waits at a
barrier after every operation, and lose no more than their share when another process needs the core (README.md).
They compute on the CPU, also where there is a GPU: that is what a specialist's evidence was measured on.

    encoder = LlamaEncoder.open(Path("base.gguf"), lanes=2, microbatch_tokens=256, sequences_max=64)
    encoder.load_adapter("phi", Path("phi.gguf"), merge=True)
    encoder.encode(0, "phi", [np.array([101, 7592, 102], np.int32)])       # (3, 384)
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from appliance.engine.backend import ModelFacts
from appliance.engine.gguf_parts import MalformedGguf, WordRows, adapter_only, merged_base, read_parts
from appliance.engine.llama_batch import Batch
from appliance.engine.llamacpp import (
    begin,
    cpu_verdict,
    known_adapter,
    llama,
    log_tail,
    read_adapter,
    reason,
    set_adapter,
)
from appliance.errors import EngineUnavailable, ModelFileRefused

POSITIONS_USUAL = 512  # of BERT; a sequence may be this long whatever a batch of several may hold


@dataclass(slots=True)
class _Lane:
    """A context, the batch it is fed from and the adapter it was last set to."""

    context: ctypes.c_void_p
    batch: Batch
    active: str | None = None


@dataclass(frozen=True, slots=True)
class _Merged:
    """A copy of the base's layers with one adapter in them, and its own lanes."""

    model: ctypes.c_void_p
    lanes: list[_Lane]


class LlamaEncoder:
    """Implements `backend.Backend`.

    An adapter is switched in, or merged: then the base's layers are there once more with the adapter in them, which
    costs memory (21 MiB for the base we use) and saves the adapter's own arithmetic.
    """

    def __init__(
        self, model: ctypes.c_void_p, lanes: list[_Lane], tokens_max: int, sequences_max: int, base: mmap.mmap
    ) -> None:
        self._model = model
        self._lanes = lanes
        self._shape = tokens_max, sequences_max
        self._base = base
        self._words: WordRows | None = None
        self._adapters: dict[str, ctypes.c_void_p] = {}
        self._merged: dict[str, _Merged] = {}
        vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        self._facts = ModelFacts(
            states=llama.llama_model_n_embd(model),
            positions=llama.llama_model_n_ctx_train(model),
            vocabulary=vocabulary,
            device=cpu_verdict(),
            memory_bytes=llama.llama_model_size(model) + compute_bytes(len(lanes), tokens_max),
        )

    @classmethod
    def open(cls, path: Path, *, lanes: int, microbatch_tokens: int, sequences_max: int) -> LlamaEncoder:
        """Load the base. Raises `ModelFileRefused`; a malformed file MAY abort the process."""
        begin()
        parameters = llama.llama_model_default_params()
        # Repacked weights were no faster for the types we use and are a copy; unpacked ones stay mapped from the file.
        parameters.use_extra_bufts = False
        parameters.n_gpu_layers = 0
        model = llama.llama_model_load_from_file(str(path).encode(), parameters)
        if not model:
            raise ModelFileRefused(f"llama.cpp cannot load the base model{reason()}", hint="fetch the base model again")
        if not llama.llama_model_has_encoder(model) and llama.llama_model_n_ctx_train(model) < 1:
            raise ModelFileRefused("the base model is not an encoder", hint="fetch the base model again")
        # One sequence may be as long as the model allows, even if batches of several stop earlier.
        tokens_max = max(microbatch_tokens, llama.llama_model_n_ctx_train(model))
        sequences_max = min(sequences_max, tokens_max, llama.llama_max_parallel_sequences())
        made = _lanes(model, lanes, tokens_max, sequences_max)
        with path.open("rb") as file:  # the very file that was checked: `path` leads to its descriptor
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return cls(model, made, tokens_max, sequences_max, mapped)

    @property
    def facts(self) -> ModelFacts:
        return self._facts

    def load_adapter(self, key: str, path: Path, *, merge: bool = False) -> None:
        """Read a LoRA file once; switching to it later costs nothing that grows with its size."""
        assert key not in self._adapters and key not in self._merged
        if merge and (merged := self._merge(path)) is not None:
            self._merged[key] = merged
        else:
            self._adapters[key] = _read_specialist(self._model, path)

    def unload_adapter(self, key: str) -> None:
        """Free the adapter; no context may point to it any more."""
        merged = self._merged.pop(key, None)
        if merged is not None:
            _free(merged)
        adapter = self._adapters.pop(key, None)
        if adapter is None:
            return
        for lane in self._lanes:
            if lane.active == key:
                self._switch(lane, None)
        llama.llama_adapter_lora_free(adapter)

    def encode(self, lane: int, adapter: str | None, sequences: Sequence[np.ndarray]) -> np.ndarray:
        """One forward pass over all sequences. The result is a view of the lane's memory."""
        merged = None if adapter is None else self._merged.get(adapter)
        if merged is not None:
            chosen = merged.lanes[lane]
            tokens = chosen.batch.fill(sequences, self._words)
        else:
            chosen = self._lanes[lane]
            if adapter != chosen.active:
                self._switch(chosen, adapter)
            tokens = chosen.batch.fill(sequences)
        if llama.llama_encode(chosen.context, chosen.batch.structure) != 0:
            raise EngineUnavailable(f"llama.cpp could not run a batch{reason()}")
        states = llama.llama_get_embeddings(chosen.context)
        if not states:
            raise EngineUnavailable("llama.cpp returned no token states")
        return np.ctypeslib.as_array(states, (tokens, self._facts.states))

    def _merge(self, path: Path) -> _Merged | None:
        """The base with this adapter in it; None where that is not to be had, and the adapter is switched instead."""
        try:
            base, adapter = read_parts(memoryview(self._base)), read_parts(memoryview(path.read_bytes()))
        except MalformedGguf:
            return None
        content = merged_base(base, adapter)
        if content is None or not _reads_memory():
            return None
        if self._words is None:
            self._words = WordRows(base)
        with content, _opened(content) as file:
            model = llama.llama_model_load_from_file_ptr(file, _memory_parameters())
        if not model:
            return None
        return _Merged(model, _lanes(model, len(self._lanes), *self._shape, states=self._facts.states))

    def _switch(self, lane: _Lane, adapter: str | None) -> None:
        set_adapter(lane.context, None if adapter is None else self._adapters[adapter])
        lane.active = adapter


def _lanes(model: ctypes.c_void_p, count: int, tokens_max: int, sequences_max: int, states: int = 0) -> list[_Lane]:
    made = []
    for _ in range(count):
        context = llama.llama_init_from_model(model, _context_parameters(tokens_max, sequences_max))
        if not context:
            raise ModelFileRefused(f"llama.cpp cannot make a context for the base model{reason()}")
        made.append(_Lane(context, Batch(tokens_max, sequences_max, states)))
    return made


def _free(merged: _Merged) -> None:
    for lane in merged.lanes:
        llama.llama_free(lane.context)
    llama.llama_model_free(merged.model)


def _read_specialist(model: ctypes.c_void_p, path: Path) -> ctypes.c_void_p:
    """The adapter of a specialist's file without head and manifest, which the library would read three times over."""
    try:
        content = adapter_only(read_parts(memoryview(path.read_bytes())))
    except MalformedGguf:
        return read_adapter(model, path)  # it says what is wrong
    if not _reads_memory():
        return read_adapter(model, path)
    log_tail.clear()
    with content, _opened(content) as file:
        return known_adapter(llama.llama_adapter_lora_init_from_file_ptr(model, file))


@cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    if hasattr(library, "fmemopen"):
        library.fmemopen.restype = ctypes.c_void_p
        library.fmemopen.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
        library.fclose.argtypes = [ctypes.c_void_p]
    return library


def _reads_memory() -> bool:
    """Whether the C library opens memory as a file."""
    return hasattr(_libc(), "fmemopen")


@contextmanager
def _opened(content: mmap.mmap) -> Iterator[ctypes.c_void_p]:
    """The memory as a C file, for as long as the block."""
    view = (ctypes.c_char * len(content)).from_buffer(content)
    file = _libc().fmemopen(ctypes.addressof(view), len(content), b"rb")
    try:
        if not file:
            raise EngineUnavailable("the C library cannot open memory as a file", hint="look at the machine's memory")
        yield file
    finally:
        if file:
            _libc().fclose(file)
        del view  # else the mapping cannot be closed


def _memory_parameters() -> llama.llama_model_params:
    parameters = llama.llama_model_default_params()
    parameters.use_extra_bufts = False
    parameters.n_gpu_layers = 0
    parameters.load_mode = llama.LLAMA_LOAD_MODE_NONE  # there is no file to map
    return parameters


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
    parameters.op_offload = False
    parameters.no_perf = True
    return parameters
