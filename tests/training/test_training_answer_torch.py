"""Guaranteed here: a reader is served as it was trained, a few steps learn a few questions, a run that was cut off goes
on, and what is exported reads back with its calibration.

Needs the extra `training`. A BERT of two layers with random weights stands in for the published one."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.config import SpecialistsConfig
from appliance.engine.heads import apply_head
from appliance.engine.llama_encoder import LlamaEncoder
from appliance.specialists.file_format import AdapterWeights, read_specialist, write_specialist
from appliance.specialists.manifest import Calibration
from appliance.specialists.tasks import answer
from appliance.training.answer_examples import answer_batches
from appliance.training.answer_recipe import ReadAnswerRecipe, read_answer_recipe
from appliance.training.collections.questions import Question
from tests.training.tiny_base import SHAPE, WORDPIECE, write_tiny_base

pytestmark = pytest.mark.long

CONTEXTS = [f"on day {number} it rained in town{number} all day" for number in range(8)]
QUESTIONS = [
    Question("where did it rain", text, ((text.index("town"), text.index(" all")),), "any", str(number))
    for number, text in enumerate(CONTEXTS)
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Batches this small gain nothing from a second thread and wait for it on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_tiny_base(folder)
    return folder


@pytest.fixture(scope="module")
def read(request: pytest.FixtureRequest) -> ReadAnswerRecipe:
    return read_answer_recipe(request.config.rootpath / "appliance" / "training" / "recipes" / "doc-answer.toml")


def reader(base: Path, first_layer: int = 0):
    import torch

    from appliance.training.answerer import build_reader

    torch.manual_seed(5)
    shape = {"rank": 4, "alpha": 8.0, "first_layer": first_layer, "dropout": 0.0}
    model = build_reader(base / "model.safetensors", SHAPE, **shape).eval()
    with torch.no_grad():
        for adapter in model.adapters.values():  # an untrained adapter is zero and would prove nothing
            adapter.lora_b.normal_(std=0.2)
    return model


@pytest.mark.parametrize("first_layer", [0, 1])
def test_an_exported_reader_gives_the_same_margins_and_places_through_llama_cpp(
    base: Path, read: ReadAnswerRecipe, tmp_path: Path, first_layer: int
) -> None:
    from appliance.training.export import halves
    from appliance.training.export_answer import manifest_of
    from appliance.training.train_answer import predict

    model = reader(base, first_layer)
    pairs = {name: halves(layer) for name, layer in model.adapters.items()}
    manifest = manifest_of(read, Calibration(temperature=2.0, abstain_below=0.25))
    write_specialist(tmp_path / "reader.gguf", manifest, model.numpy_head(), AdapterWeights(8.0, pairs))
    file = read_specialist(tmp_path / "reader.gguf", bytes_max=1 << 24)
    assert file.manifest == manifest
    encoder = LlamaEncoder.open(base / "base.gguf", lanes=1, microbatch_tokens=64, sequences_max=4)
    encoder.load_adapter("reader", tmp_path / "reader.gguf")
    for judged in predict(model, QUESTIONS, manifest, WORDPIECE):
        asked = judged.question
        case = answer.prepare(asked.question, asked.context, file.manifest, WORDPIECE, SpecialistsConfig())
        outputs = []
        for item in case.inputs:
            states = encoder.encode(0, "reader", [item.token_ids])
            outputs += [rows.copy() for rows in apply_head(file.head, states, [len(item.token_ids)], None)]
        found = answer.best_candidate(case, outputs)
        assert found is not None and judged.candidate is not None
        assert found.margin == pytest.approx(judged.candidate.margin, abs=0.05)


def test_a_few_steps_learn_a_few_questions_and_a_run_that_was_cut_off_goes_on(
    base: Path, read: ReadAnswerRecipe, tmp_path: Path
) -> None:
    import torch

    from appliance.training.answer_scores import metrics
    from appliance.training.export_answer import manifest_of
    from appliance.training.train_answer import fit, predict

    small = {"tokens": 8_000, "batch_tokens": 256, "part_tokens_max": 40, "learning_rate": 1e-2, "pool": 16}
    schedule = msgspec.structs.replace(read.recipe.schedule, **small)
    short = msgspec.structs.replace(schedule, tokens=1_000)
    recipe = msgspec.structs.replace(read.recipe, schedule=short)
    model = reader(base)
    fit(model, recipe, QUESTIONS, WORDPIECE, tmp_path, seconds_max=600)
    first = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["place"]
    assert first[1] >= 1_000
    model = reader(base)
    fit(model, msgspec.structs.replace(recipe, schedule=schedule), QUESTIONS, WORDPIECE, tmp_path, seconds_max=600)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["place"][0] > first[0]
    judged = predict(model, QUESTIONS, manifest_of(read, Calibration()), WORDPIECE)
    assert metrics(judged, Calibration())["f1"] > 0.9


def test_the_loss_counts_allowed_rows_only() -> None:
    import torch

    from appliance.training.train_answer import place_loss

    logits = torch.zeros(1, 4, 2)
    logits[0, 3] = 100.0  # the highest, where nothing may stand
    allowed = torch.tensor([[[True, True], [True, True], [False, False], [False, False]]])
    assert float(place_loss(logits, allowed, torch.tensor([[0, 1]]))) == pytest.approx(float(np.log(2)), abs=1e-5)


def test_batches_of_training_go_through_the_reader(base: Path, read: ReadAnswerRecipe) -> None:
    import torch

    from appliance.training.train_answer import train_step

    schedule = msgspec.structs.replace(read.recipe.schedule, batch_tokens=256, part_tokens_max=40)
    model = reader(base)
    optimizer = torch.optim.AdamW(model.trainable().values(), lr=1e-2)
    batches = answer_batches(QUESTIONS, WORDPIECE, schedule, seed=1)
    losses = [train_step(model, optimizer, next(batches)) for _ in range(4)]
    assert all(np.isfinite(losses))
