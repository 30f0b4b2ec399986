"""Models that write, on llama.cpp: one context, one stream of keys and values per slot (`kv_unified=False`).

llama.cpp runs neighbouring streams together, and copies between streams are of whole streams, done at the next decode;
a partial copy aborts the process, so a prefix is copied whole and trimmed. How a token is chosen: `llama_sampler.py`.

    decoder = LlamaDecoder.open_model(path, header, need, slots=16, context_tokens=4096, step_tokens=256, threads=2)
    decoder.run(plan)
    decoder.choose(sequence, 0)                     # Choice(token=…)
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from appliance.engine.generation.decoder import DRAFTS_MAX, GPU_REFUSED, Choice, DecoderFacts
from appliance.engine.generation.llama_sampler import Sampler
from appliance.engine.generation.model_file import MemoryEstimate, ModelHeader, gpu_layers
from appliance.engine.generation.scheduler import Copy, Plan
from appliance.engine.generation.values import Sampling
from appliance.engine.llama_batch import Batch
from appliance.engine.llamacpp import (
    begin,
    freest_gpu,
    llama,
    log_tail,
    read_adapter,
    reason,
    set_adapter,
)
from appliance.errors import EngineUnavailable, InvalidRequest, ModelFileRefused


class LlamaDecoder:
    """Implements `generation.decoder.Decoder`."""

    def __init__(
        self, model: ctypes.c_void_p, context: ctypes.c_void_p, batch: Batch, facts: DecoderFacts, slots: int
    ) -> None:
        self._model, self._context, self._batch, self._facts = model, context, batch, facts
        self._memory = llama.llama_get_memory(context)
        self._vocabulary = llama.llama_model_get_vocab(model)
        self._adapters: dict[str, ctypes.c_void_p] = {}
        self._active: str | None = None
        self._samplers: dict[int, Sampler] = {}
        self._sampling: dict[int, int] = {}
        self._pieces: dict[int, bytes] = {}
        self._slots = slots

    @classmethod
    def open_model(
        cls,
        path: Path,
        header: ModelHeader,
        need: MemoryEstimate,
        *,
        slots: int,
        context_tokens: int,
        step_tokens: int,
        threads: int,
        layers_on_gpu: int | None = None,
        gpu_refused: str = "",
    ) -> LlamaDecoder:
        """Load a decoder whose header and need were checked. `layers_on_gpu` None: as many as fit, -1 all.

        Without a GPU, or with a pack that was refused, it computes on the CPU and `facts.device` says why.
        Raises `ModelFileRefused`; a malformed file MAY abort the process.
        """
        begin()
        layers, device = choose_layers(header, need, layers_on_gpu, gpu_refused)
        log_tail.clear()
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = layers
        model = llama.llama_model_load_from_file(str(path).encode(), parameters)
        if not model:
            raise ModelFileRefused(
                f"llama.cpp cannot load the model{reason()}", hint="fetch it again, or use another model"
            )
        if not llama.llama_model_has_decoder(model) or llama.llama_model_has_encoder(model):
            raise ModelFileRefused("the model is not a plain decoder and cannot generate", hint="use another model")
        context = llama.llama_init_from_model(model, _decoder_parameters(slots, context_tokens, step_tokens, threads))
        if not context:
            raise ModelFileRefused(
                f"llama.cpp cannot make a context for {slots} sequences of {context_tokens} tokens{reason()}",
                hint="lower generation.slots or generation.context_tokens",
            )
        vocabulary = llama.llama_model_get_vocab(model)
        control, defined = _names(vocabulary)
        facts = DecoderFacts(
            architecture=header.architecture,
            vocabulary=llama.llama_vocab_n_tokens(vocabulary),
            context_tokens=min(context_tokens, llama.llama_n_ctx_seq(context)),
            chat_template=header.chat_template,
            bos=_token_text(model, llama.llama_vocab_bos),
            eos=_token_text(model, llama.llama_vocab_eos),
            device=device,
            memory_bytes=need.total,
            shares_prefixes=not (llama.llama_model_is_recurrent(model) or llama.llama_model_is_hybrid(model)),
            control=control,
            defined=defined,
        )
        return cls(model, context, Batch(step_tokens, slots), facts, slots)

    @property
    def facts(self) -> DecoderFacts:
        return self._facts

    def tokenize(self, pieces: Sequence[tuple[str, bool]]) -> array[int]:
        """The beginning is added unless the text (a rendered chat) brings it along."""
        text, special = pieces[0]
        begins = not (special and self._facts.bos and text.startswith(self._facts.bos))
        if len(pieces) == 1:
            return self._tokens_of(text, special, begins)
        tokens = array("i")
        if begins and llama.llama_vocab_get_add_bos(self._vocabulary):
            tokens.append(llama.llama_vocab_bos(self._vocabulary))
        for text, special in pieces:
            tokens.extend(self._tokens_of(text, special, begins=False))
        return tokens

    def _tokens_of(self, text: str, special: bool, begins: bool) -> array[int]:
        data = text.encode()
        room = len(data) + 16
        ids = (llama.llama_token * room)()
        count = llama.llama_tokenize(self._vocabulary, data, len(data), ids, room, begins, special)
        if count < 0:
            raise InvalidRequest("llama.cpp cannot tokenise the prompt")
        return array("i", ids[:count])

    def piece(self, token: int) -> bytes:
        known = self._pieces.get(token)
        if known is None:
            buffer = ctypes.create_string_buffer(512)
            length = llama.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), 0, False)
            known = self._pieces[token] = buffer.raw[: max(0, length)]
        return known

    def ends(self, token: int) -> bool:
        return bool(llama.llama_vocab_is_eog(self._vocabulary, token))

    def load_adapter(self, key: str, path: Path) -> None:
        assert key not in self._adapters
        self._adapters[key] = read_adapter(self._model, path)

    def unload_adapter(self, key: str) -> None:
        adapter = self._adapters.pop(key, None)
        if adapter is not None:
            if self._active == key:
                self._switch(None)
            llama.llama_adapter_lora_free(adapter)

    def open(
        self, sequence: int, sampling: Sampling, *, seed: int, grammar: str | None, logprobs: int | None, prompt: int
    ) -> None:
        assert sequence not in self._samplers
        self._samplers[sequence] = Sampler(
            self._vocabulary,
            self._facts.vocabulary,
            self._facts.context_tokens,
            sampling,
            seed,
            grammar,
            logprobs,
            self.piece,
        )

    def close(self, sequence: int) -> None:
        sampler = self._samplers.pop(sequence, None)
        if sampler is not None:
            sampler.free()

    def run(self, plan: Plan) -> None:
        for operation in plan.memory:
            if isinstance(operation, Copy):
                assert 0 <= operation.source < self._slots and 0 <= operation.target < self._slots
                llama.llama_memory_seq_cp(self._memory, operation.source, operation.target, -1, -1)
                self._trim(operation.target, operation.length)
            else:
                self._trim(operation.slot, operation.length)
        if not plan.pieces:
            return
        if plan.adapter != self._active:
            self._switch(plan.adapter)
        self._sampling = self._batch.fill_plan(plan)
        status = llama.llama_decode(self._context, self._batch.structure)
        if status != 0:
            raise EngineUnavailable(f"llama.cpp could not run a step (status {status}){reason()}")

    def choose(self, sequence: int, place: int) -> Choice:
        row = llama.llama_get_logits_ith(self._context, self._sampling[sequence] + place)
        if not row:
            raise EngineUnavailable("llama.cpp returned no logits")
        return self._samplers[sequence].choose(np.ctypeslib.as_array(row, (self._facts.vocabulary,)))

    def _trim(self, slot: int, length: int) -> None:
        if not llama.llama_memory_seq_rm(self._memory, slot, length, -1):
            raise EngineUnavailable("llama.cpp could not shorten a sequence")

    def _switch(self, adapter: str | None) -> None:
        set_adapter(self._context, None if adapter is None else self._adapters[adapter])
        self._active = adapter


def _decoder_parameters(slots: int, context_tokens: int, step_tokens: int, threads: int) -> llama.llama_context_params:
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = slots * context_tokens
    parameters.n_batch = parameters.n_ubatch = step_tokens
    parameters.n_seq_max = slots
    parameters.n_outputs_max = min(step_tokens, slots * (1 + DRAFTS_MAX))
    parameters.n_threads = parameters.n_threads_batch = threads
    parameters.kv_unified = False
    parameters.swa_full = True  # a sliding window would forget the prefixes that are to be reused
    parameters.no_perf = True
    return parameters


def choose_layers(header: ModelHeader, need: MemoryEstimate, wanted: int | None, refused: str = "") -> tuple[int, str]:
    """How many layers go to a GPU, and the sentence that says so. `refused`: why an installed pack is not in use."""
    if wanted == 0:
        return 0, "CPU: generation.gpu_layers is 0"
    name, free = freest_gpu()
    if not name and refused:
        return 0, f"{GPU_REFUSED}{refused}"
    if not name:
        return 0, "CPU: no GPU pack is installed, or it finds no GPU"
    fits = gpu_layers(header, need, free)
    layers = fits if wanted is None else (header.layers + 1 if wanted < 0 else wanted)
    if layers == 0:
        return 0, f"CPU: {name} has {free // 1024**2} MiB free, which is not enough for one layer"
    layers = min(layers, header.layers + 1)
    return layers, f"GPU: {layers} of {header.layers + 1} layers on {name}, {free // 1024**2} MiB free"


def _names(vocabulary: ctypes.c_void_p) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the control tokens, and of those that are found in every text. What is no text is in no text either."""
    control: set[str] = set()
    defined: set[str] = set()
    attribute_of, text_of = llama.llama_vocab_get_attr, llama.llama_vocab_get_text
    steering = llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_UNKNOWN
    for token in range(llama.llama_vocab_n_tokens(vocabulary)):
        attributes = attribute_of(vocabulary, token)
        if attributes & (steering | llama.LLAMA_TOKEN_ATTR_USER_DEFINED):
            with suppress(UnicodeDecodeError):
                (control if attributes & steering else defined).add(text_of(vocabulary, token).decode())
    return frozenset(control), frozenset(defined)


def _token_text(model: ctypes.c_void_p, which: object) -> str:
    vocabulary = llama.llama_model_get_vocab(model)
    token = which(vocabulary)  # type: ignore[operator]  # a function of the library
    return "" if token < 0 else llama.llama_vocab_get_text(vocabulary, token).decode(errors="replace")
