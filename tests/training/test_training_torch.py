"""Guaranteed here: what is trained in PyTorch is what is served. The encoder equals llama.cpp's on the converted base,
the exported file gives the same logits through llama.cpp and the numpy head, and a few steps learn a few notes.

Needs the extra `training`. A BERT of two layers with random weights stands in for the published one."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.engine.heads import apply_head
from appliance.engine.llama_encoder import LlamaEncoder
from appliance.errors import ConfigInvalid
from appliance.specialists.file_format import read_specialist, write_specialist
from appliance.specialists.word_shapes import FEATURE_COUNT
from appliance.training.examples import Encoding, Example, batches, examples_of, pad
from appliance.training.recipe import ReadRecipe, read_recipe
from appliance.types import Span
from tests.training.tiny_base import SHAPE, WORDPIECE, write_tiny_base

pytestmark = pytest.mark.long

LABELS = ("NAME", "DATE")
ENCODING = Encoding(WORDPIECE, LABELS, window_tokens=32, overlap_tokens=8)
TEXT = "seen by Dr. Okafor on 3/4 in ward 12, told Ms. Haddad to come again on 5/6."


@dataclass(frozen=True)
class Labelled:
    text: str
    spans: tuple[Span, ...]
    unmarked: tuple[str, ...] = ()


def note(text: str) -> Labelled:
    words = {"Okafor": "NAME", "Haddad": "NAME", "3/4": "DATE", "5/6": "DATE"}
    found = (Span(text.index(word), text.index(word) + len(word), label, 1.0) for word, label in words.items())
    return Labelled(text, tuple(sorted(found, key=lambda item: item.start)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_tiny_base(folder)
    return folder


@pytest.fixture(scope="module")
def recipe(request: pytest.FixtureRequest) -> ReadRecipe:
    read = read_recipe(request.config.rootpath / "appliance" / "training" / "recipes" / "phi-deid.toml")
    return ReadRecipe(msgspec.structs.replace(read.recipe, labels=LABELS), read.digest)


def tagger(base: Path, rank: int = 4):
    import torch

    from appliance.training.tagger import HeadShape, build_tagger

    torch.manual_seed(5)
    head = HeadShape(FEATURE_COUNT, conv_width=5, hidden=16, classes=5)
    return build_tagger(base / "model.safetensors", SHAPE, head, rank=rank, alpha=8.0).eval()


def logits_of(model, examples: list[Example]) -> list[np.ndarray]:
    import torch

    batch = pad(examples)
    with torch.inference_mode():
        rows = model(*(torch.from_numpy(part) for part in (batch.token_ids, batch.features, batch.lengths)))
    return [row[:length].numpy() for row, length in zip(rows, batch.lengths.tolist(), strict=True)]


def test_an_exported_tagger_gives_the_same_logits_through_llama_cpp(base: Path, recipe: ReadRecipe) -> None:
    import torch

    from appliance.training.export import adapter_of, manifest_of

    model = tagger(base)
    with torch.no_grad():
        for adapter in model.adapters.values():  # an untrained adapter is zero and would prove nothing
            adapter.lora_b.normal_(std=0.2)
    shape = msgspec.structs.replace(recipe.recipe.adapter, alpha=8.0)
    read = ReadRecipe(msgspec.structs.replace(recipe.recipe, adapter=shape), recipe.digest)
    path = base / "tagger.gguf"
    write_specialist(path, manifest_of(read, ()), model.numpy_head(), adapter_of(model, read))
    file = read_specialist(path, bytes_max=1 << 24)
    encoder = LlamaEncoder.open(base / "base.gguf", lanes=1, microbatch_tokens=64, sequences_max=4)
    encoder.load_adapter("tagger", path)
    examples = list(examples_of(note(TEXT), ENCODING))
    for example, expected in zip(examples, logits_of(model, examples), strict=True):
        bare = encoder.encode(0, None, [example.token_ids]).copy()
        states = encoder.encode(0, "tagger", [example.token_ids]).copy()
        (found,) = apply_head(file.head, states, [len(example.token_ids)], example.features)
        cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosine.min() > 0.999
        assert np.abs(bare - states).max() > 0.1


def test_the_encoder_equals_llama_cpp_on_the_converted_base(base: Path) -> None:
    import torch

    from appliance.training.minilm import load_encoder

    encoder = load_encoder(base / "model.safetensors", SHAPE)
    served = LlamaEncoder.open(base / "base.gguf", lanes=1, microbatch_tokens=64, sequences_max=4)
    for example in examples_of(note(TEXT), ENCODING):
        ids = example.token_ids.astype(np.int64)
        with torch.inference_mode():
            expected = encoder(torch.from_numpy(ids[None]), torch.tensor([len(ids)]))[0].numpy()
        assert np.abs(served.encode(0, None, [example.token_ids]) - expected).max() < 0.01


def test_padding_changes_no_logit(base: Path) -> None:
    model = tagger(base)
    examples = list(examples_of(note(TEXT), ENCODING))
    short = Example(examples[0].token_ids[:9], examples[0].features[:9], examples[0].classes[:9])
    (alone,) = logits_of(model, [short])
    padded = logits_of(model, [short, *examples])[0]
    np.testing.assert_allclose(alone, padded, atol=1e-5)


def test_a_few_steps_learn_a_few_notes(base: Path) -> None:
    import torch

    from appliance.training.train import measure, train_step

    model = tagger(base, rank=8)
    notes = [note(TEXT), note(TEXT.replace("ward", "WARD")), note("x " + TEXT)]
    before = measure(model, ENCODING, notes, 0.0)
    optimizer = torch.optim.AdamW(model.trainable().values(), lr=1e-2)
    model.train()
    for step in range(40):
        for batch in batches(notes, ENCODING, batch_tokens=512, pool_notes=8, rng=np.random.default_rng(step)):
            train_step(model, optimizer, batch)
    after = measure(model, ENCODING, notes, 0.0)
    assert before.recall < 0.9 or before.precision < 0.9
    assert (after.recall, after.precision) == (1.0, 1.0)


def test_the_learning_rate_warms_up_and_anneals_in_every_cycle(recipe: ReadRecipe) -> None:
    from appliance.training.train import learning_rate

    schedule = msgspec.structs.replace(recipe.recipe.schedule, learning_rate=1.0, warmup=0.1, cycles=2)
    rates = [learning_rate(schedule, share / 100) for share in range(100)]
    assert rates[0] == rates[50] == 0
    assert rates[5] == pytest.approx(1.0, abs=0.01)
    assert rates[55] == pytest.approx(0.5, abs=0.01)
    assert rates[5:50] == sorted(rates[5:50], reverse=True)
    assert rates[49] < 0.01


def test_the_figures_of_an_evaluation_become_evidence_in_the_manifest(tmp_path: Path, recipe: ReadRecipe) -> None:
    from appliance.training.export import manifest_of, read_evidence

    queries = {
        "identifying": 4,
        "recall": 0.97,
        "clean": 6,
        "over_redaction": 0.04,
        "over_redaction_interval": [0, 0.1],
    }
    path = tmp_path / "figures.json"
    path.write_bytes(msgspec.json.encode({"notes": {"count": 3, "recall": 0.99}, "queries": queries, "names": {}}))
    notes, clean, asking = manifest_of(recipe, read_evidence(path)).evaluation
    assert (notes.items, notes.metrics) == (3, {"recall": 0.99})
    assert clean.items == 6
    assert clean.metrics == {
        "over_redaction": 0.04,
        "over_redaction_interval_low": 0,
        "over_redaction_interval_high": 0.1,
    }
    assert (asking.items, asking.metrics) == (4, {"recall": 0.97})
    path.write_text("{}")
    with pytest.raises(ConfigInvalid, match=r"figures\.json"):
        read_evidence(path)


def test_only_adapters_and_head_are_trained(base: Path) -> None:
    names = tagger(base).trainable()
    assert all(name.startswith(("conv.", "out.")) or ".lora_" in name for name in names)
    assert sum(name.endswith("lora_a") for name in names) == 6 * SHAPE.layers
