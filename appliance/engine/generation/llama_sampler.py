"""How one sequence chooses its next token: llama.cpp's samplers, a grammar before them, or simply the likeliest.

    sampler = Sampler(vocabulary, size, context_tokens, sampling, seed, None, None, piece=decoder.piece)
    sampler.choose(logits)                          # Choice(token=…)
    sampler.free()

The library's sampler throws, and so aborts, on a token that a grammar does not allow: no token is accepted that was not
checked.
"""

from __future__ import annotations

import codecs
import ctypes
from collections.abc import Callable

import numpy as np

from appliance.engine.generation.decoder import Choice
from appliance.engine.generation.values import Sampling
from appliance.engine.llamacpp import llama, log_tail, reason
from appliance.errors import EngineUnavailable, InvalidRequest

_CANDIDATE = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])


class Sampler:
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
            log_tail.clear()
            self._grammar = llama.llama_sampler_init_grammar(vocabulary, grammar.encode(), b"root")
            if not self._grammar:
                raise InvalidRequest(f"the grammar cannot be used{reason()}", hint="check it against GBNF's rules")
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
