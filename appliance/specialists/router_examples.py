"""Example requests: what the router knows a specialist by. Reads the bundled lists; keeps vectors of what it met.

    examples = examples_of(manifests)        # of the installed ones, of the bundled ones, and of NONE
    vectors = ExampleVectors(bundled_vectors(base_weights_sha256))
    missing = vectors.missing(examples)      # texts to be encoded by the bare base
    vectors.add(missing, rows)
    known = vectors.known(examples)

Where examples come from, in this order: the manifest's `examples`; for an id of the release, `examples/<id>.txt` here;
otherwise its card (name, summary, intended use, labels), so that every specialist can be found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from appliance.specialists.manifest import Manifest
from appliance.specialists.router import Example, Known

FOLDER = Path(__file__).with_name("examples")
VECTORS = FOLDER / "vectors.npz"
EXAMPLE_CHARS_MAX = 600
EXAMPLES_MAX = 128  # of one specialist
CARD_LABELS_MAX = 40
_VECTORS_MAX = 20_000


class ExampleVectors:
    """Vectors by text. Owned by one event loop. `rows`: those that are known already."""

    def __init__(self, rows: Mapping[str, np.ndarray] | None = None) -> None:
        self._rows: dict[str, np.ndarray] = dict(rows or {})

    def missing(self, examples: Iterable[Example]) -> tuple[str, ...]:
        """Texts without a vector, each once."""
        return tuple(dict.fromkeys(example.text for example in examples if example.text not in self._rows))

    def add(self, texts: Sequence[str], rows: np.ndarray) -> None:
        """Keep one row (length one) for each text."""
        self._rows |= dict(zip(texts, rows, strict=True))

    def known(self, examples: Sequence[Example]) -> Known:
        """Examples with their vectors; none may be missing. Forgets others when there are too many."""
        known = Known(tuple(examples), np.stack([self._rows[example.text] for example in examples]))
        if len(self._rows) > _VECTORS_MAX:
            self._rows = {example.text: self._rows[example.text] for example in examples}
        return known


def examples_of(installed: Iterable[Manifest]) -> tuple[Example, ...]:
    """The examples of these, of the release's own specialists where they are not among these, and of NONE."""
    texts = dict(bundled_examples())
    for manifest in installed:
        if manifest.examples:
            texts[manifest.id] = manifest.examples
        elif manifest.id not in texts:
            texts[manifest.id] = card_texts(manifest)
    return tuple(
        Example(specialist, text[:EXAMPLE_CHARS_MAX])
        for specialist, listed in texts.items()
        for text in listed[:EXAMPLES_MAX]
    )


def card_texts(manifest: Manifest) -> tuple[str, ...]:
    """What a specialist says of itself, as texts to compare with."""
    labels = [label.replace("_", " ").replace("-", " ") for label in manifest.labels[:CARD_LABELS_MAX]]
    listed = (manifest.name, manifest.summary, manifest.intended_use, *labels)
    return tuple(dict.fromkeys(text for text in listed if text.strip()))


@cache
def bundled_examples() -> dict[str, tuple[str, ...]]:
    """The lists beside this module, by id: one request a line, `#` before what is said about them."""
    return {path.stem: read_examples(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.txt"))}


def bundled_vectors(base_weights_sha256: str) -> dict[str, np.ndarray]:
    """Vectors of the lists beside this module, as `training/routing/vectors.py` made them of that base; of another base
    or of other lists there are none, and they are made when they are needed.
    """
    with np.load(VECTORS, allow_pickle=False) as stored:
        if (str(stored["base_weights_sha256"]), str(stored["texts_sha256"])) != (base_weights_sha256, texts_sha256()):
            return {}
        rows = stored["vectors"].astype(np.float32)
    return dict(zip(bundled_texts(), rows, strict=True))


def bundled_texts() -> tuple[str, ...]:
    """All of the lists, in the order of the stored vectors."""
    return tuple(text for listed in bundled_examples().values() for text in listed)


def texts_sha256() -> str:
    """What the stored vectors are of."""
    return hashlib.sha256("\n".join(bundled_texts()).encode()).hexdigest()


def read_examples(content: str) -> tuple[str, ...]:
    """The requests of a list."""
    lines = (line.strip() for line in content.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))
