"""A trained tagger to a specialist file: `python -m appliance.training.export RECIPE --base BASE --out OUT`.

OUT holds `trained.pt` of the same recipe; `<id>.gguf` is written beside it. Adapters are stored as float16, the head
as float32: token states differ from PyTorch's by less than the base's own storage type makes them differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from appliance.errors import ApplianceError, ConfigInvalid
from appliance.specialists.base_model import MINILM
from appliance.specialists.file_format import AdapterWeights, write_specialist
from appliance.specialists.manifest import Base, Calibration, Evaluation, Manifest
from appliance.specialists.word_shapes import FEATURE_VERSION
from appliance.training.lora import LoraLinear
from appliance.training.recipe import ReadRecipe, read_recipe
from appliance.training.tagger import Tagger
from appliance.training.train import TRAINED_FILE, check_base, new_tagger
from appliance.types import Task


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Prints the path of the file it wrote."""
    parser = argparse.ArgumentParser(prog="python -m appliance.training.export", description="write a specialist file")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="folder with model.safetensors and vocab.txt")
    parser.add_argument("--out", type=Path, required=True, help="working folder of the training run")
    parser.add_argument("--evaluation", type=Path, help="what the evaluation wrote with --json, for the manifest")
    options = parser.parse_args(arguments)
    try:
        read = read_recipe(options.recipe)
        check_base(options.base)
        tagger = load_trained(read, options.base, options.out)
        read_figures = read_evidence if read.recipe.post == "deid" else read_evaluations
        evaluation = read_figures(options.evaluation) if options.evaluation else ()
        target = options.out / f"{read.recipe.id}.gguf"
        write_specialist(target, manifest_of(read, evaluation), tagger.numpy_head(), adapter_of(tagger, read))
    except ApplianceError as error:
        print(f"appliance: error: {error}", file=sys.stderr)
        return 1
    print(target)
    return 0


def load_trained(read: ReadRecipe, base: Path, out: Path) -> Tagger:
    """The tagger as training left it."""
    tagger = new_tagger(read.recipe, base)
    tagger.load_state_dict(torch.load(out / TRAINED_FILE, weights_only=True, map_location="cpu")["state"], strict=False)
    return tagger.eval()


def read_evidence(path: Path) -> tuple[Evaluation, ...]:
    """What `appliance.training.evaluation --json` wrote, as the manifest states it: notes, queries, names."""
    try:
        figures = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, object]])
        return (
            _evaluation("Notes", figures["notes"], "count"),
            _evaluation("Queries without identifiers", figures["queries"], "clean"),
            _evaluation("Queries with identifiers", figures["queries"], "identifying"),
        )
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
        raise ConfigInvalid(f"{path} does not hold the figures of an evaluation: {error}") from None


def read_evaluations(path: Path) -> tuple[Evaluation, ...]:
    """The measurements that `evaluate_tagger`, `evaluate_classifier` and `evaluate_answer` write with `--json`."""
    try:
        found: Any = msgspec.json.decode(path.read_bytes(), type=tuple[Evaluation, ...])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path} does not hold the figures of an evaluation: {error}") from None
    return found


def adapter_of(tagger: Tagger, read: ReadRecipe) -> AdapterWeights:
    """The low-rank pairs by layer name, in half precision."""
    return AdapterWeights(read.recipe.adapter.alpha, {name: halves(layer) for name, layer in tagger.adapters.items()})


def manifest_of(read: ReadRecipe, evaluation: tuple[Evaluation, ...]) -> Manifest:
    """What the file says of itself."""
    recipe, card = read.recipe, read.recipe.card
    return Manifest(
        id=recipe.id,
        version=recipe.version,
        task=Task(recipe.task),
        name=card.name,
        summary=card.summary,
        labels=recipe.labels,
        base=Base(
            name=MINILM.name,
            weights_sha256=MINILM.weights_sha256,
            vocabulary_sha256=MINILM.vocabulary_sha256,
        ),
        feature_version=FEATURE_VERSION,
        window_tokens=recipe.schedule.window_tokens,
        calibration=Calibration(recall_bias=recipe.recall_bias),
        post=recipe.post,
        licence=card.licence,
        sources=recipe.sources,
        recipe_sha256=read.digest,
        evaluation=evaluation,
        intended_use=card.intended_use,
        limits=card.limits,
        created=datetime.now(UTC).date().isoformat(),
    )


def _evaluation(name: str, figures: dict[str, object], counted: str) -> Evaluation:
    """Shares and the bounds of their intervals; counts go into `items`."""
    metrics: dict[str, float] = {}
    for key, value in figures.items():
        if isinstance(value, float):
            metrics[key] = round(value, 4)
        elif isinstance(value, list):
            metrics[f"{key}_low"], metrics[f"{key}_high"] = (round(float(bound), 4) for bound in value)
    if counted == "clean":
        metrics = {key: value for key, value in metrics.items() if key.startswith("over_redaction")}
    elif counted == "identifying":
        metrics = {key: value for key, value in metrics.items() if not key.startswith("over_redaction")}
    return Evaluation(
        name=name,
        dataset="held-back synthetic text of other templates, names and places than training (seed 1)",
        items=int(str(figures[counted])),
        metrics=metrics,
        command="python -m appliance.training.evaluation --data DATA --home HOME",
        note="Measured through the serving path: model, patterns, policy and propagation.",
    )


def halves(layer: LoraLinear) -> tuple[np.ndarray, np.ndarray]:
    """The two matrices of an adapter as float16."""
    a, b = layer.lora_a.detach().half().numpy(), layer.lora_b.detach().half().numpy()
    assert np.isfinite(a).all() and np.isfinite(b).all(), "adapter weights exceed half precision"
    return a, b


if __name__ == "__main__":
    sys.exit(main())
