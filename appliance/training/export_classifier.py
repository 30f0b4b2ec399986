"""A trained classifier to a specialist file.

    python -m appliance.training.export_classifier RECIPE --base BASE --out OUT

OUT holds `trained.pt` of the same recipe; `<id>.gguf` is written beside it. `--evaluation` takes what
`appliance.training.evaluate_classifier --json` measured with the file, and writes it again with this evidence in it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from appliance.errors import ApplianceError
from appliance.specialists.base_model import MINILM, WEIGHTS_FILE
from appliance.specialists.file_format import AdapterWeights, write_specialist
from appliance.specialists.manifest import Base, Calibration, Evaluation, Manifest
from appliance.training.classifier import Classifier, build_classifier
from appliance.training.classifier_recipe import ReadClassifierRecipe, read_classifier_recipe
from appliance.training.export import halves, read_evaluations
from appliance.training.train import TRAINED_FILE, check_base
from appliance.types import Task


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Prints the path of the file it wrote."""
    parser = argparse.ArgumentParser(prog="python -m appliance.training.export_classifier")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="folder with model.safetensors and vocab.txt")
    parser.add_argument("--out", type=Path, required=True, help="working folder of the training run")
    parser.add_argument("--evaluation", type=Path, help="what the evaluation wrote with --json, for the manifest")
    options = parser.parse_args(arguments)
    try:
        read = read_classifier_recipe(options.recipe)
        check_base(options.base)
        evaluation = read_evaluations(options.evaluation) if options.evaluation else ()
        print(export(read, options.base, options.out, evaluation))
    except ApplianceError as error:
        print(f"appliance: error: {error}", file=sys.stderr)
        return 1
    return 0


def export(read: ReadClassifierRecipe, base: Path, out: Path, evaluation: tuple[Evaluation, ...] = ()) -> Path:
    """Write the file; returns where."""
    recipe = read.recipe
    saved = torch.load(out / TRAINED_FILE, weights_only=True, map_location="cpu")
    labels = tuple(saved["labels"])
    classifier = build_classifier(
        base / WEIGHTS_FILE,
        MINILM.shape,
        labels=len(labels),
        rank=recipe.adapter.rank,
        alpha=recipe.adapter.alpha,
        dropout=0.0,
        first_layer=recipe.adapter.first_layer,
    )
    classifier.load_state_dict(saved["state"], strict=False)
    manifest = manifest_of(read, labels, Calibration(**saved["calibration"]), evaluation)
    kind = "token" if recipe.unit == "sentence" else "pooled"
    target = out / f"{recipe.id}.gguf"
    write_specialist(target, manifest, classifier.numpy_head(kind), adapter_of(classifier, recipe.adapter.alpha))
    return target


def manifest_of(
    read: ReadClassifierRecipe, labels: tuple[str, ...], calibration: Calibration, evaluation: tuple[Evaluation, ...]
) -> Manifest:
    """What the file says of itself."""
    recipe, card = read.recipe, read.recipe.card
    return Manifest(
        id=recipe.id,
        version=recipe.version,
        task=Task.CLASSIFY,
        name=card.name,
        summary=card.summary,
        labels=labels,
        base=Base(
            name=MINILM.name,
            weights_sha256=MINILM.weights_sha256,
            vocabulary_sha256=MINILM.vocabulary_sha256,
        ),
        window_tokens=recipe.schedule.window_tokens,
        calibration=calibration,
        multi_label=recipe.multi_label,
        unit=recipe.unit,
        context=recipe.context,
        context_name=recipe.context_name,
        post=recipe.post,
        licence=card.licence,
        sources=recipe.sources,
        recipe_sha256=read.digest,
        evaluation=evaluation,
        intended_use=card.intended_use,
        limits=card.limits,
        created=datetime.now(UTC).date().isoformat(),
    )


def adapter_of(classifier: Classifier, alpha: float) -> AdapterWeights:
    """The low-rank pairs by layer name, in half precision."""
    return AdapterWeights(alpha, {name: halves(layer) for name, layer in classifier.adapters.items()})


if __name__ == "__main__":
    sys.exit(main())
