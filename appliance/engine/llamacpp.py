"""llama.cpp as a backend: `LlamaEncoder` for specialists, `LlamaDecoder` for generation. Only importer of `llama_cpp`.

The encoder: one model, one `llama_context` per lane, many adapters.

A lane computes with one thread. Two lanes of one thread were faster than one of two, because nothing waits at a
barrier after every operation, and lose no more than their share when another process needs the core (README.md).

Runs in the worker process and nowhere else: a malformed file can abort the process. Uses the low-level interface,
because the high-level one copies token states one float at a time and knows no adapter switching.

    encoder = LlamaEncoder.open(Path("base.gguf"), lanes=2, microbatch_tokens=256, sequences_max=64)
    encoder.load_adapter("phi", Path("phi.gguf"))
    encoder.encode(0, "phi", [np.array([101, 7592, 102], np.int32)])       # (3, 384)

The decoder: one context, one stream of keys and values per slot (`kv_unified=False`). llama.cpp runs neighbouring
streams together, and copies between streams are of whole streams, done at the next decode; a partial copy aborts the
process, so a prefix is copied whole and trimmed. Its sampler throws, and so aborts, on a token that a grammar does
not allow: no token is accepted that was not checked.
"""

from __future__ import annotations

import codecs
import ctypes
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from llama_cpp import _ggml as ggml
from llama_cpp import llama_cpp as llama

from appliance.engine.backend import ModelFacts
from appliance.engine.generation.decoder import DRAFTS_MAX, Choice, DecoderFacts
from appliance.engine.generation.model_file import MemoryEstimate, ModelHeader, gpu_layers
from appliance.engine.generation.scheduler import Copy, Plan
from appliance.engine.generation.values import Sampling
from appliance.errors import EngineUnavailable, InvalidRequest, ModelFileRefused, SpecialistFileInvalid

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
        self._adapters[key] = _read_adapter(self._model, path)

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
        _set_adapter(lane.context, None if adapter is None else self._adapters[adapter])
        lane.active = adapter


class LlamaDecoder:
    """Implements `generation.decoder.Decoder`."""

    def __init__(
        self, model: ctypes.c_void_p, context: ctypes.c_void_p, batch: _Batch, facts: DecoderFacts, slots: int
    ) -> None:
        self._model, self._context, self._batch, self._facts = model, context, batch, facts
        self._memory = llama.llama_get_memory(context)
        self._vocabulary = llama.llama_model_get_vocab(model)
        self._adapters: dict[str, ctypes.c_void_p] = {}
        self._active: str | None = None
        self._samplers: dict[int, _Sampler] = {}
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
    ) -> LlamaDecoder:
        """Load a decoder whose header and need were checked. `layers_on_gpu` None: as many as fit, -1 all.

        Raises `ModelFileRefused`; a malformed file MAY abort the process.
        """
        llama.llama_log_set(_keep_log_line, None)
        llama.llama_backend_init()
        _log_tail.clear()
        layers, device = _choose_layers(header, need, layers_on_gpu)
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = layers
        model = llama.llama_model_load_from_file(str(path).encode(), parameters)
        if not model:
            raise ModelFileRefused(
                f"llama.cpp cannot load the model{_reason()}", hint="fetch it again, or use another model"
            )
        if not llama.llama_model_has_decoder(model) or llama.llama_model_has_encoder(model):
            raise ModelFileRefused("the model is not a plain decoder and cannot generate", hint="use another model")
        context = llama.llama_init_from_model(model, _decoder_parameters(slots, context_tokens, step_tokens, threads))
        if not context:
            raise ModelFileRefused(
                f"llama.cpp cannot make a context for {slots} sequences of {context_tokens} tokens{_reason()}",
                hint="lower generation.slots or generation.context_tokens",
            )
        facts = DecoderFacts(
            architecture=header.architecture,
            vocabulary=llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model)),
            context_tokens=min(context_tokens, llama.llama_n_ctx_seq(context)),
            chat_template=header.chat_template,
            bos=_token_text(model, llama.llama_vocab_bos),
            eos=_token_text(model, llama.llama_vocab_eos),
            device=device,
            memory_bytes=need.total,
            shares_prefixes=not (llama.llama_model_is_recurrent(model) or llama.llama_model_is_hybrid(model)),
        )
        return cls(model, context, _Batch(step_tokens, slots), facts, slots)

    @property
    def facts(self) -> DecoderFacts:
        return self._facts

    def tokenize(self, text: str, *, special: bool) -> array[int]:
        """The beginning is added unless the text (a rendered chat) brings it along."""
        begins = not (special and self._facts.bos and text.startswith(self._facts.bos))
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
        self._adapters[key] = _read_adapter(self._model, path)

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
        self._samplers[sequence] = _Sampler(
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
            raise EngineUnavailable(f"llama.cpp could not run a step (status {status}){_reason()}")

    def choose(self, sequence: int, place: int) -> Choice:
        row = llama.llama_get_logits_ith(self._context, self._sampling[sequence] + place)
        if not row:
            raise EngineUnavailable("llama.cpp returned no logits")
        return self._samplers[sequence].choose(np.ctypeslib.as_array(row, (self._facts.vocabulary,)))

    def _trim(self, slot: int, length: int) -> None:
        if not llama.llama_memory_seq_rm(self._memory, slot, length, -1):
            raise EngineUnavailable("llama.cpp could not shorten a sequence")

    def _switch(self, adapter: str | None) -> None:
        _set_adapter(self._context, None if adapter is None else self._adapters[adapter])
        self._active = adapter


_CANDIDATE = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])


class _Sampler:
    """How one sequence chooses: a chain of llama.cpp's samplers, a grammar before it, or neither for the likeliest."""

    def __init__(
        self,
        vocabulary: ctypes.c_void_p,
        size: int,
        context_tokens: int,
        sampling: Sampling,
        seed: int,
        grammar: str | None,
        logprobs: int | None,
        piece: Callable[[int], bytes],
    ) -> None:
        self._vocabulary, self._size, self._logprobs, self._piece = vocabulary, size, logprobs, piece
        self._begun = b""  # bytes of a character that is not complete
        self._grammar = None
        if grammar is not None:
            _log_tail.clear()
            self._grammar = llama.llama_sampler_init_grammar(vocabulary, grammar.encode(), b"root")
            if not self._grammar:
                raise InvalidRequest(f"the grammar cannot be used{_reason()}", hint="check it against GBNF's rules")
        penalised = (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty) != (1, 0, 0)
        self._chain = None
        if sampling.temperature > 0 or penalised:
            self._chain = _chain(sampling, seed, size, context_tokens if penalised else 0)

    def choose(self, logits: np.ndarray) -> Choice:
        if self._grammar is None and self._chain is None:
            token = int(logits.argmax())
        elif self._grammar is None:
            token = self._from_chain(_candidates(logits))
            llama.llama_sampler_accept(self._chain, token)
        else:
            chosen = self._from_grammar(logits)
            if chosen is None:
                return Choice(None)
            token = chosen
        if not np.isfinite(logits[token]):
            raise EngineUnavailable("the model computed values that are not numbers", hint="check the model's file")
        return Choice(token, () if self._logprobs is None else _logprobs(logits, token, self._logprobs))

    def free(self) -> None:
        for sampler in (self._chain, self._grammar):
            if sampler is not None:
                llama.llama_sampler_free(sampler)
        self._chain = self._grammar = None

    def _from_chain(self, candidates: np.ndarray) -> int:
        if self._chain is None:
            return int(candidates["id"][candidates["logit"].argmax()])
        held = _candidate_array(candidates)
        llama.llama_sampler_apply(self._chain, ctypes.byref(held))
        assert 0 <= held.selected < held.size
        return int(held.data[held.selected].id)

    def _from_grammar(self, logits: np.ndarray) -> int | None:
        """What would be chosen freely if the grammar takes it; else a choice among all that it takes. None: nothing."""
        token = self._from_chain(_candidates(logits))
        alone = np.array([(token, logits[token], 0)], dtype=_CANDIDATE)
        llama.llama_sampler_apply(self._grammar, ctypes.byref(_candidate_array(alone)))
        if alone["logit"][0] == -np.inf or not self._goes_on(token):
            allowed = _candidates(logits)
            llama.llama_sampler_apply(self._grammar, ctypes.byref(_candidate_array(allowed)))
            allowed = np.ascontiguousarray(allowed[allowed["logit"] > -np.inf])
            while True:
                if not len(allowed):
                    return None
                token = self._from_chain(allowed.copy())  # llama.cpp may reorder what it is given
                if self._goes_on(token):
                    break
                allowed = np.ascontiguousarray(allowed[allowed["id"] != token])
        if not self._ends(token):
            llama.llama_sampler_accept(self._grammar, token)
            self._begun = _utf8_rest(self._begun, self._piece(token)) or b""
        if self._chain is not None:
            llama.llama_sampler_accept(self._chain, token)
        return token

    def _goes_on(self, token: int) -> bool:
        """Whether the text stays text. llama.cpp's grammars read UTF-8 without looking whether the bytes are any, and
        control tokens as the characters of their names."""
        if self._ends(token):
            return True
        piece = self._piece(token)
        return bool(piece) and _utf8_rest(self._begun, piece) is not None

    def _ends(self, token: int) -> bool:
        return bool(llama.llama_vocab_is_eog(self._vocabulary, token))


def _utf8_rest(begun: bytes, piece: bytes) -> bytes | None:
    """The bytes of a character that is incomplete at the end; None for what is no UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(begun + piece)
    except UnicodeDecodeError:
        return None
    return decoder.getstate()[0]


def _chain(sampling: Sampling, seed: int, size: int, penalty_tokens: int) -> ctypes.c_void_p:
    """Penalties, then the cuts, then temperature and the draw: llama.cpp's own order."""
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    if penalty_tokens:
        penalties = (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty)
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_penalties(size, penalty_tokens, *penalties))
    if sampling.temperature == 0:
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_greedy())
        return chain
    if sampling.top_k:
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1:
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_top_p(sampling.top_p, 1))
    if sampling.min_p > 0:
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_min_p(sampling.min_p, 1))
    llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_temp(sampling.temperature))
    llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_dist(seed))
    return chain


def _candidates(logits: np.ndarray) -> np.ndarray:
    made = np.empty(len(logits), dtype=_CANDIDATE)
    made["id"], made["logit"], made["p"] = np.arange(len(logits), dtype=np.int32), logits, 0
    return made


def _candidate_array(candidates: np.ndarray) -> llama.llama_token_data_array:
    """A view that llama.cpp may reorder; `candidates` must outlive it."""
    data = ctypes.cast(candidates.ctypes.data, llama.llama_token_data_p)
    return llama.llama_token_data_array(data=data, size=len(candidates), selected=-1, sorted=False)


def _logprobs(logits: np.ndarray, token: int, count: int) -> tuple[tuple[int, float], ...]:
    """The chosen token and the `count` likeliest, natural logarithms of the unchanged softmax."""
    values = logits.astype(np.float64)
    highest = values.max()
    total = highest + np.log(np.exp(values - highest).sum())
    top = np.argpartition(values, -count)[-count:] if count else np.array([], dtype=np.int64)
    ordered = [int(entry) for entry in sorted(top, key=lambda entry: (-values[entry], entry))]
    return tuple((entry, float(values[entry] - total)) for entry in (token, *ordered))


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


def _choose_layers(header: ModelHeader, need: MemoryEstimate, wanted: int | None) -> tuple[int, str]:
    """How many layers go to a GPU, and the sentence that says so."""
    if not llama.llama_supports_gpu_offload():
        return 0, "CPU: this llama-cpp-python was built without a GPU backend"
    if wanted == 0:
        return 0, "CPU: generation.gpu_layers is 0"
    name, free = _freest_gpu()
    if not name:
        return 0, "CPU: llama.cpp was built for a GPU and finds none"
    fits = gpu_layers(header, need, free)
    layers = fits if wanted is None else (header.layers + 1 if wanted < 0 else wanted)
    if layers == 0:
        return 0, f"CPU: {name} has {free // 1024**2} MiB free, which is not enough for one layer"
    layers = min(layers, header.layers + 1)
    return layers, f"GPU: {layers} of {header.layers + 1} layers on {name}, {free // 1024**2} MiB free"


def _freest_gpu() -> tuple[str, int]:
    """Name and free bytes of the GPU with the most free memory; no name: there is none."""
    library = ggml.libggml
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_description.restype = ctypes.c_char_p
    best = ("", 0)
    for number in range(library.ggml_backend_dev_count()):
        device = ctypes.c_void_p(library.ggml_backend_dev_get(ctypes.c_size_t(number)))
        if library.ggml_backend_dev_type(device) not in _GPU_DEVICES:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        if free.value > best[1]:
            best = library.ggml_backend_dev_description(device).decode(errors="replace"), free.value
    return best


_GPU_DEVICES = (1, 2)  # GGML_BACKEND_DEVICE_TYPE_GPU, _IGPU


def _token_text(model: ctypes.c_void_p, which: object) -> str:
    vocabulary = llama.llama_model_get_vocab(model)
    token = which(vocabulary)  # type: ignore[operator]  # a function of the library
    return "" if token < 0 else llama.llama_vocab_get_text(vocabulary, token).decode(errors="replace")


def _read_adapter(model: ctypes.c_void_p, path: Path) -> ctypes.c_void_p:
    _log_tail.clear()
    adapter = llama.llama_adapter_lora_init(model, str(path).encode())
    if not adapter:
        raise SpecialistFileInvalid(
            f"llama.cpp cannot read the specialist's adapter{_reason()}",
            hint="the file is damaged or made for another base model; install it again from its source",
        )
    return adapter


def _set_adapter(context: ctypes.c_void_p, adapter: ctypes.c_void_p | None) -> None:
    if adapter is None:
        status = llama.llama_set_adapters_lora(context, None, 0, None)
    else:
        pointers = (llama.llama_adapter_lora_p_ctypes * 1)(adapter)  # type: ignore[misc]  # opaque
        status = llama.llama_set_adapters_lora(context, pointers, 1, (ctypes.c_float * 1)(1.0))
    if status != 0:
        raise EngineUnavailable(f"llama.cpp could not switch adapters{_reason()}")


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
