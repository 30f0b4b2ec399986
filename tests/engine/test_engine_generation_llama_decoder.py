"""llama.cpp generates under the scheduler what it generates by itself: compared with the library's own `Llama` class.

Tiny random decoders are written on the spot. Guaranteed: greedy answers are equal, alone, in a full batch, with
prefixes shared, prompts in chunks, adapters mixed and guesses made; the same seed gives the same answer; a grammar is
obeyed to the last token; probabilities are those of the model.
"""

import json
from array import array
from types import SimpleNamespace

import numpy as np
import pytest
from llama_cpp import Llama

from appliance.engine.generation.decoder import DRAFTS_MAX
from appliance.engine.generation.grammar import grammar_of_schema
from appliance.engine.generation.llama_decoder import LlamaDecoder
from appliance.engine.generation.model_file import estimate, read_header
from appliance.engine.generation.scheduler import Limits, Sampled, Scheduler, Sequence
from appliance.engine.generation.speculation import propose
from appliance.engine.generation.values import Sampling
from appliance.errors import InvalidRequest, ModelFileRefused, SpecialistFileInvalid
from benchmarks.random_decoder import TINY, write_decoder, write_decoder_lora

GREEDY = Sampling(temperature=0)
SLOTS, CONTEXT = 4, 512
UNDECIDED = 0.02  # of logits with a deviation of about 2; keys and values are kept in half precision
PROMPTS = [
    "the patient note is 12é",
    "no",
    "the patient note is 13: pain in the " * 3,
    "yes and no, with a note of the patient 😀",
    "a",
    "the patient note is 13: pain in the " * 2 + "end",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    write_decoder(folder / "tiny.gguf", TINY, seed=7)
    for number, name in enumerate("ab"):
        write_decoder_lora(folder / f"{name}.gguf", TINY, seed=number)
    return folder


def opened(path, *, slots=SLOTS, step_tokens=64) -> LlamaDecoder:
    header = read_header(path)
    need = estimate(header, slots=slots, context_tokens=CONTEXT, step_tokens=step_tokens)
    return LlamaDecoder.open_model(
        path, header, need, slots=slots, context_tokens=CONTEXT, step_tokens=step_tokens, threads=1
    )


@pytest.fixture(scope="module")
def decoder(folder):
    decoder = opened(folder / "tiny.gguf")
    for name in "ab":
        decoder.load_adapter(name, folder / f"{name}.gguf")
    return decoder


@pytest.fixture(scope="module")
def alone(folder):
    """The library's own class, by adapter, and whether a greedy answer is what it would have written."""
    models = {
        name: Llama(
            str(folder / "tiny.gguf"),
            n_ctx=CONTEXT,
            n_threads=1,
            n_threads_batch=1,
            verbose=False,
            lora_path=None if name is None else str(folder / f"{name}.gguf"),
        )
        for name in (None, "a", "b")
    }

    def check(found, prompt, count, adapter=None):
        """Each token is the library's choice after those before it, to within the rounding of batched arithmetic.

        Where two are as good as equal, it depends on the processor which one is taken, and then on that what follows.
        """
        model = models[adapter]
        assert model.token_eos() not in found[:-1] and (len(found) == count or found[-1] == model.token_eos())
        model.reset()
        tokens = model.tokenize(prompt.encode())
        for token in found:
            model.eval(tokens)
            logits = np.ctypeslib.as_array(model._ctx.get_logits_ith(-1), (512,))
            assert logits.max() - logits[token] < UNDECIDED
            tokens = [token]

    return SimpleNamespace(models=models, check=check)


class Batch:
    """Scheduler and decoder without a worker around them."""

    def __init__(self, decoder, *, step_tokens=64, share=True) -> None:
        self.decoder = decoder
        limits = Limits(SLOTS, step_tokens, CONTEXT, 100, share_prefixes=share)
        self.scheduler = Scheduler(limits, lambda tokens: propose(tokens, DRAFTS_MAX))
        self.answers, self.logprobs, self.failed = {}, {}, set()
        for slot in self.scheduler.slots:  # whatever an earlier test left in the decoder
            slot.tokens = array("i", [0] * (CONTEXT - 1))

    def add(self, number, prompt, *, count=12, sampling=GREEDY, seed=1, adapter=None, speculates=False, **options):
        tokens = self.decoder.tokenize([(prompt, False)])
        wanted = {"grammar": None, "logprobs": None} | options
        self.decoder.open(number, sampling, seed=seed, prompt=len(tokens), **wanted)
        self.answers[number], self.logprobs[number] = [], []
        self.scheduler.add(Sequence(number, "user:1", adapter, tokens, count, speculates=speculates))

    def run(self):
        finished = []
        while self.scheduler.waiting or self.scheduler.running:
            plan = self.scheduler.schedule(0.0)
            self.decoder.run(plan)
            sampled = {piece.sequence: self._sample(piece) for piece in plan.pieces if piece.samples}
            finished += self.scheduler.update(plan, sampled)
        for done in finished:
            self.decoder.close(done.sequence)
        return {done.sequence: done for done in finished}

    def _sample(self, piece):
        chosen = []
        for place in range(piece.drafts + 1):
            choice = self.decoder.choose(piece.sequence, place)
            if choice.token is None:
                return Sampled(tuple(chosen), failed=True)
            chosen.append(choice.token)
            self.answers[piece.sequence].append(choice.token)
            self.logprobs[piece.sequence].append(choice.logprobs)
            if self.decoder.ends(choice.token):
                return Sampled(tuple(chosen), ended=True)
            if place < piece.drafts and choice.token != piece.tokens[len(piece.tokens) - piece.drafts + place]:
                break
        return Sampled(tuple(chosen))

    def text(self, number) -> str:
        return b"".join(map(self.decoder.piece, self.answers[number])).decode()


def test_the_facts_and_tokens_are_the_library_s(decoder, alone):
    facts = decoder.facts
    assert (facts.architecture, facts.vocabulary, facts.context_tokens) == ("llama", 512, CONTEXT)
    assert (facts.bos, facts.eos, facts.shares_prefixes) == ("<s>", "</s>", True)
    assert facts.device.startswith(("CPU", "GPU"))
    model = alone.models[None]
    for prompt in PROMPTS:
        assert list(decoder.tokenize([(prompt, False)])) == model.tokenize(prompt.encode())
    assert list(decoder.tokenize([("<s>a</s>", True)])) == [1, *model.tokenize(b"a", add_bos=False), 2]
    assert decoder.tokenize([("<s>", False)])[1] != 1
    assert decoder.piece(decoder.tokenize([("é", False)])[-1]) == "é".encode()[-1:]
    assert decoder.ends(2) and not decoder.ends(5) and decoder.piece(2) == b""


@pytest.mark.parametrize(("step_tokens", "share"), [(64, True), (64, False), (16, True)])
def test_greedy_answers_equal_the_library_s_in_a_full_batch(decoder, alone, step_tokens, share):
    batch = Batch(decoder, step_tokens=step_tokens, share=share)
    for number, prompt in enumerate(PROMPTS):
        batch.add(number, prompt)
    batch.run()
    for number, prompt in enumerate(PROMPTS):
        alone.check(batch.answers[number], prompt, 12)
    assert (batch.scheduler.counters.reused_tokens > 0) == share


def test_greedy_answers_equal_the_library_s_alone(decoder, alone):
    for number, prompt in enumerate(PROMPTS[:3]):
        batch = Batch(decoder)
        batch.add(number, prompt, count=30)
        batch.run()
        alone.check(batch.answers[number], prompt, 30)


def test_a_conversation_goes_on_in_its_slot_with_the_same_answer(decoder, alone):
    batch = Batch(decoder)
    batch.add(1, PROMPTS[2])
    batch.run()
    longer = PROMPTS[2] + "and yes"
    batch.add(2, longer)
    done = batch.run()
    assert done[2].reused > 50
    alone.check(batch.answers[2], longer, 12)


def test_adapters_in_one_queue_do_not_leak_into_each_other(decoder, alone):
    batch = Batch(decoder)
    adapters = [None, "a", "b", "a", None, "b"]
    for number, adapter in enumerate(adapters):
        batch.add(number, PROMPTS[0], adapter=adapter)
    batch.run()
    for number, adapter in enumerate(adapters):
        alone.check(batch.answers[number], PROMPTS[0], 12, adapter)
    assert len({tuple(batch.answers[number]) for number in (0, 1, 2)}) == 3


def test_guesses_never_change_a_greedy_answer(decoder, alone):
    batch = Batch(decoder)
    for number, prompt in enumerate(PROMPTS):
        batch.add(number, prompt * 2, count=60, speculates=True)
        if number % 2:  # guesses are made while few run
            batch.run()
    for number, prompt in enumerate(PROMPTS):
        alone.check(batch.answers[number], prompt * 2, 60)
    assert batch.scheduler.counters.drafted_tokens > batch.scheduler.counters.accepted_tokens > 0


def test_the_same_seed_gives_the_same_answer_whatever_runs_beside_it(decoder):
    sampling = Sampling(temperature=1.2, top_k=50, top_p=0.95, min_p=0.01, seed=3)

    def drawn(seeds):
        batch = Batch(decoder)
        for number, seed in enumerate(seeds):
            batch.add(number, PROMPTS[0], sampling=sampling, seed=seed, count=20)
        batch.run()
        return batch.answers

    first, second = drawn([3, 4, 3]), drawn([3])
    assert first[0] == first[2] == second[0] != first[1]


def test_penalties_keep_an_answer_from_repeating_itself(decoder):
    def repeats(**penalties):
        batch = Batch(decoder)
        batch.add(1, PROMPTS[0], count=80, sampling=Sampling(temperature=0, **penalties))
        batch.run()
        return len(batch.answers[1]) - len(set(batch.answers[1]))

    free = repeats()
    assert free > 5
    for penalty in ({"repetition_penalty": 3.0}, {"presence_penalty": 2.0}, {"frequency_penalty": 2.0}):
        assert repeats(**penalty) < free


def test_probabilities_are_those_of_the_model(decoder, alone):
    batch = Batch(decoder)
    batch.add(1, PROMPTS[0], count=3, logprobs=5, sampling=Sampling(temperature=0.01, presence_penalty=0.5))
    batch.run()
    model = alone.models[None]
    model.reset()
    model.eval([*model.tokenize(PROMPTS[0].encode())])
    logits = np.ctypeslib.as_array(model._ctx.get_logits_ith(-1), (512,)).astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum())
    (token, value), *top = batch.logprobs[1][0]
    assert token == batch.answers[1][0] and len(top) == 5
    assert [entry for entry, _ in top] == list(np.argsort(-expected)[:5])
    for entry, logprob in ((token, value), *top):
        assert abs(logprob - expected[entry]) < 0.01


SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["allergy", 'dose "x"\n']},
        "count": {"type": "integer"},
        "text": {"type": "string", "maxLength": 12},
        "list": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
        "maybe": {"anyOf": [{"type": "null"}, {"type": "string", "format": "date"}]},
    },
    "required": ["kind", "count", "text", "list", "maybe"],
}


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_an_answer_bound_by_a_schema_always_parses(decoder, temperature):
    batch = Batch(decoder)
    grammar = grammar_of_schema(SCHEMA)
    for number in range(4):
        sampling = Sampling(temperature=temperature)
        batch.add(number, PROMPTS[number], count=300, grammar=grammar, sampling=sampling, seed=number)
    done = batch.run()
    for number in range(4):
        assert done[number].reason == "stop"
        value = json.loads(batch.text(number))
        assert value["kind"] in SCHEMA["properties"]["kind"]["enum"] and isinstance(value["count"], int)
        assert len(value["text"]) <= 12 and len(value["list"]) <= 3


def test_text_bound_by_a_grammar_is_text_even_where_the_model_would_rather_write_broken_bytes(decoder):
    batch = Batch(decoder)
    for number in range(4):
        sampling = Sampling(temperature=2.0)
        grammar = grammar_of_schema({"type": "string", "minLength": 40, "maxLength": 60})
        batch.add(number, PROMPTS[number], count=300, grammar=grammar, sampling=sampling, seed=number)
    batch.run()
    for number in range(4):
        assert 40 <= len(json.loads(batch.text(number))) <= 60


def test_a_grammar_of_one_s_own_is_obeyed_and_a_dead_end_is_noticed(decoder):
    batch = Batch(decoder)
    batch.add(1, "a", grammar='root ::= ("ab" | "cd") "é"')
    done = batch.run()
    assert batch.text(1) in ("abé", "cdé") and done[1].reason == "stop"


@pytest.mark.parametrize(
    "grammar", ["root ::= (", "root ::= missing", "root ::= root", 'root ::= "a" {', "root ::= [z-"]
)
def test_a_grammar_that_the_library_refuses_is_an_invalid_request(decoder, grammar):
    with pytest.raises(InvalidRequest, match="grammar cannot be used"):
        decoder.open(99, GREEDY, seed=1, grammar=grammar, logprobs=None, prompt=1)


def test_every_grammar_of_a_schema_is_one_for_the_library(decoder):
    schemas = [
        {},
        {"type": "object"},
        {"type": "array"},
        {"type": ["number", "string", "null"]},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "uuid"},
        {"type": "array", "items": {}, "minItems": 3, "maxItems": 150},
        {"type": "string", "minLength": 3, "maxLength": 200},
        {"type": "object", "properties": {f"p{n}": {"type": "integer"} for n in range(100)}},
    ]
    for number, schema in enumerate(schemas):
        decoder.open(number, GREEDY, seed=1, grammar=grammar_of_schema(schema), logprobs=None, prompt=1)
        decoder.close(number)


def test_a_file_that_the_library_cannot_load_is_refused(folder, tmp_path):
    whole = (folder / "tiny.gguf").read_bytes()
    renamed = whole.replace(b"blk.1.ffn_down.weight", b"blk.1.ffn_dawn.weight")
    (tmp_path / "renamed.gguf").write_bytes(renamed)
    with pytest.raises(ModelFileRefused, match="cannot load the model"):
        opened(tmp_path / "renamed.gguf")
    (tmp_path / "unknown.gguf").write_bytes(whole.replace(b"llama", b"lhama"))
    with pytest.raises(ModelFileRefused, match=r"lhama|cannot load"):
        opened(tmp_path / "unknown.gguf")


def test_an_adapter_for_another_model_is_refused(decoder, tmp_path):
    write_decoder_lora(tmp_path / "other.gguf", TINY.__class__(32, 2, 1, 2, 64, 512, 512), seed=1)
    with pytest.raises(SpecialistFileInvalid):
        decoder.load_adapter("other", tmp_path / "other.gguf")
