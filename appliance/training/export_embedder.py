"""The base model's own vectors as a specialist file: `python -m appliance.training.export_embedder RECIPE --out OUT`.

Nothing is trained, and PyTorch is not needed. `--data DATA --base HOME/models/minilm` measures the file through the
code that serves it and writes it again with the evidence: banking requests are given the intent of the nearest of
`EXAMPLES_OF_A_LABEL` known requests of every intent.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from appliance.config import EngineConfig, SpecialistsConfig
from appliance.engine.client import Engine
from appliance.errors import ApplianceError, ConfigInvalid
from appliance.specialists.base_model import MINILM
from appliance.specialists.file_format import write_specialist
from appliance.specialists.manifest import Base, Evaluation, Manifest, Source
from appliance.specialists.tasks import embed
from appliance.specialists.tokenization import WordPiece
from appliance.training.collections import read_collection
from appliance.training.collections.labelled import Labelled
from appliance.training.evaluation import Subject, subject_of_file, wilson
from appliance.training.recipe import RECIPE_BYTES_MAX, Card, Count
from appliance.types import Head, Task

EXAMPLES_OF_A_LABEL = 20
AT_ONCE = 32


class EmbedderRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One TOML file."""

    id: str
    version: str
    task: str
    window_tokens: Count
    card: Card
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class ReadEmbedderRecipe:
    """A recipe and the SHA-256 of the file it came from."""

    recipe: EmbedderRecipe
    digest: str


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Prints the path of the file it wrote."""
    parser = argparse.ArgumentParser(prog="python -m appliance.training.export_embedder")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for the file")
    parser.add_argument("--data", type=Path, help="folder with banking77, to measure")
    parser.add_argument("--base", type=Path, default=Path("models/minilm"), help="folder of the converted base")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        read = read_embedder_recipe(options.recipe)
        options.out.mkdir(parents=True, exist_ok=True)
        target = options.out / f"{read.recipe.id}.gguf"
        write_specialist(target, manifest_of(read), Head("none", 0, None, None, None, None), None)
        if options.data is not None:
            subject = subject_of_file(target, options.base)
            evidence = asyncio.run(measure(subject, options.data, EngineConfig(threads=options.threads)))
            print(*(f"{name} {value:.4f}" for name, value in evidence.metrics.items()), sep="\n", file=sys.stderr)
            write_specialist(target, manifest_of(read, (evidence,)), Head("none", 0, None, None, None, None), None)
    except ApplianceError as error:
        print(f"appliance: error: {error}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return 1
    print(target)
    return 0


def read_embedder_recipe(path: Path) -> ReadEmbedderRecipe:
    """Raises `ConfigInvalid` naming the key."""
    try:
        content = path.read_bytes()
        if len(content) > RECIPE_BYTES_MAX:
            raise ConfigInvalid(f"{path} is larger than {RECIPE_BYTES_MAX} bytes")
        recipe = msgspec.toml.decode(content, type=EmbedderRecipe)
    except OSError as error:
        raise ConfigInvalid(f"cannot read the recipe {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"the recipe {path} is not valid: {error}") from None
    return ReadEmbedderRecipe(recipe, hashlib.sha256(content).hexdigest())


def manifest_of(read: ReadEmbedderRecipe, evaluation: tuple[Evaluation, ...] = ()) -> Manifest:
    """What the file says of itself."""
    recipe, card = read.recipe, read.recipe.card
    return Manifest(
        id=recipe.id,
        version=recipe.version,
        task=Task(recipe.task),
        name=card.name,
        summary=card.summary,
        labels=(),
        base=Base(name=MINILM.name, weights_sha256=MINILM.weights_sha256, vocabulary_sha256=MINILM.vocabulary_sha256),
        window_tokens=recipe.window_tokens,
        licence=card.licence,
        sources=recipe.sources,
        recipe_sha256=read.digest,
        evaluation=evaluation,
        intended_use=card.intended_use,
        limits=card.limits,
        created=datetime.now(UTC).date().isoformat(),
    )


async def measure(subject: Subject, data: Path, config: EngineConfig) -> Evaluation:
    """The intent of the nearest known request, for every held-back one."""
    collection = read_collection("banking77", data)
    known = [one for label in collection.labels for one in _of_label(collection.train, label)]
    known_vectors = await vectors_of([one.text for one in known], subject, config)
    asked_vectors = await vectors_of([one.text for one in collection.held_back], subject, config)
    nearest = (asked_vectors @ known_vectors.T).argmax(axis=1)
    right = sum(
        known[row].labels == one.labels for row, one in zip(nearest.tolist(), collection.held_back, strict=True)
    )
    low, high = wilson(right, len(collection.held_back))
    share = right / len(collection.held_back)
    figures = {"nearest_accuracy": share, "nearest_accuracy_low": low, "nearest_accuracy_high": high}
    return Evaluation(
        name="Nearest request",
        dataset=f"banking77, the tenth that training never saw, against {EXAMPLES_OF_A_LABEL} requests of each intent",
        items=len(collection.held_back),
        metrics={name: round(value, 4) for name, value in figures.items()},
        command="python -m appliance.training.export_embedder RECIPE --out OUT --data DATA --base BASE",
        note="Measured through the serving path. Nothing was trained on this collection; chance is 0.013.",
    )


async def vectors_of(texts: Sequence[str], subject: Subject, config: EngineConfig) -> np.ndarray:
    """One row per text, through the engine's worker."""
    wordpiece, settings = WordPiece.from_vocab(subject.base.vocabulary), SpecialistsConfig()
    with tempfile.TemporaryDirectory(prefix="evaluation-") as runtime:
        engine = await Engine.start(config, subject.base.path, subject.base.sha256, Path(runtime))

        async def one(text: str) -> np.ndarray:
            prepared = embed.prepare(text, subject.manifest, wordpiece, settings)
            return embed.finish(prepared, await engine.encode(subject.adapter.key, prepared.inputs))

        try:
            await engine.load(subject.adapter)
            rows: list[np.ndarray] = []
            for first in range(0, len(texts), AT_ONCE):
                rows += await asyncio.gather(*map(one, texts[first : first + AT_ONCE]))
            return np.stack(rows)
        finally:
            await engine.close()


def _of_label(texts: Sequence[Labelled], label: str) -> list[Labelled]:
    return [one for one in texts if one.labels == (label,)][:EXAMPLES_OF_A_LABEL]


if __name__ == "__main__":
    sys.exit(main())
