"""Recipes that are run, refused or not there: what the log says, what the person reads, and that every recipe is read.

The log is in memory; the processes are real.
"""

import asyncio
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import ExtraMissing, InvalidRequest, TrainingFailed
from appliance.service import recipes
from appliance.service.recipes import RecipeRun, train_recipe
from appliance.specialists.file_format import read_specialist
from appliance.training.answer_recipe import read_answer_recipe
from appliance.training.classifier_recipe import read_classifier_recipe
from appliance.training.export_embedder import read_embedder_recipe
from appliance.training.recipe import read_recipe
from appliance.types import Outcome, Principal
from tests.service.service_fakes import MemoryLog

UTE = Principal("user:4", "ute", "user", frozenset({"user"}))
RECIPE = 'id = "bank-intent"\ntask = "classify"\n'


def recipe_run(tmp_path, text=RECIPE):
    (tmp_path / "recipe.toml").write_text(text)
    return RecipeRun(tmp_path / "recipe.toml", tmp_path / "data", tmp_path / "base", tmp_path / "out")


def test_a_recipe_without_the_extra_says_how_to_get_it_and_is_recorded(tmp_path):
    log = MemoryLog()
    with pytest.raises(ExtraMissing) as missing:
        asyncio.run(train_recipe(log, UTE, recipe_run(tmp_path), lambda _: None, installed=lambda: False))
    assert "cloister-appliance[training]" in missing.value.hint
    assert log.outcomes() == [Outcome.ACCEPTED, Outcome.FAILED]
    assert log.events[0].attributes["specialist"] == "bank-intent"


def test_a_run_that_stops_says_its_last_line(tmp_path):
    log, heard = MemoryLog(), []
    with pytest.raises(TrainingFailed, match="train_classifier stopped"):
        asyncio.run(train_recipe(log, UTE, recipe_run(tmp_path), heard.append, installed=lambda: True))
    assert heard and log.outcomes() == [Outcome.ACCEPTED, Outcome.FAILED]


@pytest.mark.parametrize("text", ["not toml [", "id = 1\n", 'id = "x"\ntask = "dance"\n'])
def test_what_is_no_recipe_is_refused_before_anything_is_recorded(tmp_path, text):
    log = MemoryLog()
    with pytest.raises(InvalidRequest):
        asyncio.run(train_recipe(log, UTE, recipe_run(tmp_path, text), lambda _: None))
    assert log.events == []


RECIPES = sorted((Path(recipes.__file__).parents[1] / "training" / "recipes").glob("*.toml"))
READERS = {"tag": read_recipe, "classify": read_classifier_recipe, "answer": read_answer_recipe,
           "embed": read_embedder_recipe}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_release_is_one_that_train_takes(recipe):
    _, specialist, _ = recipes._read_recipe(recipe)
    task = tomllib.loads(recipe.read_text())["task"]
    assert READERS[task](recipe).recipe.id == specialist == recipe.stem


def test_there_is_a_recipe_for_each_of_the_nine_and_for_vectors():
    assert len(RECIPES) == 10


def test_what_is_not_trained_needs_no_pytorch_and_becomes_a_file(tmp_path):
    log = MemoryLog()
    run = replace(recipe_run(tmp_path), recipe=next(path for path in RECIPES if path.stem == "embed"))
    file = asyncio.run(train_recipe(log, UTE, run, lambda _: None, installed=lambda: False))
    assert read_specialist(file, bytes_max=1 << 24).manifest.id == "embed"
    assert log.outcomes() == [Outcome.ACCEPTED, Outcome.COMPLETED]


def test_workers_are_refused_where_no_texts_are_made(tmp_path):
    with pytest.raises(InvalidRequest, match="makes no texts"):
        asyncio.run(train_recipe(MemoryLog(), UTE, replace(recipe_run(tmp_path), workers=2), lambda _: None))


@pytest.mark.long  # needs the extra `training`, as the other tests with PyTorch do
@pytest.mark.parametrize("name", ["phi-deid", "doc-answer", "bank-intent"])
def test_device_and_workers_reach_the_run(tmp_path, name):
    """The stages take them: what stops the run is the base that is not there."""
    recipe = next(path for path in RECIPES if path.stem == name)
    run = replace(recipe_run(tmp_path), recipe=recipe, workers=1 if name == "bank-intent" else 2)
    with pytest.raises(TrainingFailed) as failed:
        asyncio.run(train_recipe(MemoryLog(), UTE, run, lambda _: None))
    assert "is not the published file of" in failed.value.message
    assert failed.value.hint
