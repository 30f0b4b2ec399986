"""Guaranteed here: a classifier is served as it was trained, also where only its upper layers have adapters; what lies
below them is computed once and is the same; the head begins as the regression it should be; a few steps learn a few
texts; a run that was cut off goes on.

Needs the extra `training`. A BERT of two layers with random weights stands in for the published one."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.engine.heads import apply_head
from appliance.engine.llama_encoder import LlamaEncoder
from appliance.specialists.file_format import read_specialist, write_specialist
from appliance.specialists.manifest import Calibration
from appliance.training.classifier_examples import ClassifierEncoding, ClassifierExample, document_of, example_of, pad
from appliance.training.classifier_recipe import ReadClassifierRecipe, read_classifier_recipe
from appliance.training.collections.labelled import Labelled
from tests.training.tiny_base import SHAPE, WORDPIECE, write_tiny_base

pytestmark = pytest.mark.long

LABELS = ("card", "loan")
ENCODING = ClassifierEncoding(WORDPIECE, LABELS, window_tokens=32)
TEXTS = [
    *(Labelled(f"my card {number} is lost", ("card",)) for number in range(6)),
    *(Labelled(f"a loan of {number} please", ("loan",)) for number in range(6)),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_tiny_base(folder)
    return folder


@pytest.fixture(scope="module")
def recipe(request: pytest.FixtureRequest) -> ReadClassifierRecipe:
    return read_classifier_recipe(request.config.rootpath / "appliance" / "training" / "recipes" / "bank-intent.toml")


def classifier(base: Path, first_layer: int = 0, labels: int = 2):
    import torch

    from appliance.training.classifier import build_classifier

    torch.manual_seed(5)
    shape = {"labels": labels, "rank": 4, "alpha": 8.0, "dropout": 0.1, "first_layer": first_layer}
    model = build_classifier(base / "model.safetensors", SHAPE, **shape).eval()
    with torch.no_grad():
        for adapter in model.adapters.values():  # an untrained adapter is zero and would prove nothing
            adapter.lora_b.normal_(std=0.2)
    return model


def examples() -> list[ClassifierExample]:
    return [example_of(text, ENCODING) for text in TEXTS]


@pytest.mark.parametrize("first_layer", [0, 1])
@pytest.mark.parametrize("kind", ["pooled", "token"])
def test_an_exported_classifier_gives_the_same_logits_through_llama_cpp(
    base: Path, recipe: ReadClassifierRecipe, tmp_path: Path, first_layer: int, kind: str
) -> None:
    from appliance.training.export_classifier import adapter_of, manifest_of
    from appliance.training.train_classifier import predict

    model = classifier(base, first_layer)
    assert {name.split(".")[1] for name in model.adapters} == {str(layer) for layer in range(first_layer, SHAPE.layers)}
    path = tmp_path / "classifier.gguf"
    unit = "sentence" if kind == "token" else "text"
    manifest = msgspec.structs.replace(manifest_of(recipe, LABELS, Calibration(), ()), unit=unit)
    write_specialist(path, manifest, model.numpy_head(kind), adapter_of(model, 8.0))
    file = read_specialist(path, bytes_max=1 << 24)
    encoder = LlamaEncoder.open(base / "base.gguf", lanes=1, microbatch_tokens=64, sequences_max=4)
    encoder.load_adapter("classifier", path)
    for example, expected in zip(examples(), predict(model, examples()), strict=True):
        states = encoder.encode(0, "classifier", [example.token_ids.astype(np.int32)])
        (found,) = apply_head(file.head, states, [len(example.token_ids)], None)
        found = found.mean(axis=0) if kind == "token" else found
        assert np.abs(found - expected).max() < 0.03 * max(1.0, float(np.abs(expected).max()))


def test_what_lies_below_the_adapters_is_computed_once_and_changes_nothing(base: Path) -> None:
    from appliance.training.train_classifier import predict, with_states

    model = classifier(base, first_layer=1)
    remembered = with_states(model, examples())
    assert all(example.states is not None and example.states.dtype == np.float16 for example in remembered)
    np.testing.assert_allclose(predict(model, remembered), predict(model, examples()), atol=0.01)
    assert all(example.states is None for example in with_states(classifier(base), examples()))


def test_predictions_come_in_the_order_of_the_examples_whatever_their_lengths(base: Path) -> None:
    from appliance.training.train_classifier import predict

    model = classifier(base)
    document = list(document_of([Labelled("ab", ("card",)), Labelled("abcdefgh", ("loan",))], ENCODING))
    mixed = [examples()[0], *document, examples()[7]]
    alone = np.concatenate([predict(model, [example]) for example in mixed])
    np.testing.assert_allclose(predict(model, mixed), alone, atol=1e-4)
    assert len(alone) == 4


def test_the_head_begins_as_the_regression_over_the_untrained_base(base: Path) -> None:
    from appliance.training.train_classifier import begin_head, predict

    model = classifier(base)
    begin_head(model, examples(), multi_label=False)
    assert predict(model, examples()).argmax(axis=1).tolist() == [0] * 6 + [1] * 6


def test_the_head_of_several_labels_begins_as_one_regression_each() -> None:
    from appliance.training.train_classifier import first_head

    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(400, 6)).astype(np.float32)
    targets = (vectors[:, :2] > 0).astype(np.float32)
    weight, bias = first_head(vectors, targets, multi_label=True)
    assert (((vectors @ weight + bias) > 0) == (targets > 0.5)).mean() > 0.97


@pytest.mark.parametrize("first_layer", [0, 1])
def test_a_few_steps_learn_a_few_texts_in_seconds(base: Path, recipe: ReadClassifierRecipe, first_layer: int) -> None:
    import torch

    from appliance.training.train_classifier import predict, train_step, with_states

    model = classifier(base, first_layer)
    known = with_states(model, examples())
    optimizer = torch.optim.AdamW(model.trainable().values(), lr=1e-2)
    model.train()
    losses = [train_step(model, optimizer, pad(known), recipe.recipe) for _ in range(40)]
    assert losses[-1] < 0.2 < losses[0]
    assert predict(model, known).argmax(axis=1).tolist() == [0] * 6 + [1] * 6


def test_a_run_that_was_cut_off_goes_on_after_its_last_epoch_and_ends_in_time(
    base: Path, recipe: ReadClassifierRecipe, tmp_path: Path
) -> None:
    import torch

    from appliance.training.train_classifier import fit

    def scheduled(epochs: int) -> object:
        schedule = msgspec.structs.replace(recipe.recipe.schedule, epochs=epochs, batch=4)
        return msgspec.structs.replace(recipe.recipe, schedule=schedule)

    fit(classifier(base), scheduled(1), examples(), WORDPIECE, tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["place"][:2] == (1, 3)
    fit(classifier(base), scheduled(3), examples(), WORDPIECE, tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["place"][:2] == (3, 9)
    late = tmp_path / "late"
    late.mkdir()
    fit(classifier(base), scheduled(1000), examples(), WORDPIECE, late, seconds_max=1e-9)
    assert torch.load(late / "checkpoint.pt", weights_only=True)["place"][1] == 0


def test_the_first_head_sees_a_bounded_number_of_segments_at_random() -> None:
    from appliance.training.train_classifier import some_of

    documents = [next(document_of([Labelled("ab", ("card",))] * size, ENCODING)) for size in (1, 2, 3, 4, 5)]
    chosen = some_of(documents, 6, np.random.default_rng(1))
    counts = [len(example.targets) for example in chosen]
    assert len(set(counts)) == len(counts)  # none twice
    assert sum(counts[:-1]) < 6 <= sum(counts)
    assert len(some_of(documents, 1000, np.random.default_rng(1))) == 5
