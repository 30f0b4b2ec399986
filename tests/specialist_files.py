"""Small specialist files for the tests of every room: real format, real checks, heads that say always the same.

path = write_tagger(folder / "quiet.gguf", specialist_id="quiet")        # marks nothing by itself
path = write_classifier(folder / "triage.gguf", favourite="urgent")      # always chooses one label
"""

from pathlib import Path

import numpy as np

from appliance.specialists.base_model import MINILM
from appliance.specialists.file_format import AdapterWeights, write_specialist
from appliance.specialists.manifest import Base, Calibration, Manifest
from appliance.types import Head, Task

STATES = 384
REAL_BASE = Base(name=MINILM.name, weights_sha256=MINILM.weights_sha256, vocabulary_sha256=MINILM.vocabulary_sha256)
TAGS = ("NAME", "DATE")
CLASSES = ("routine", "urgent", "unclear")
_CERTAIN = 20.0


def write_tagger(path: Path, **changes: object) -> Path:
    """A tagger whose head says "outside" everywhere; with `post="deid"` the patterns still find identifiers."""
    bias = np.zeros(1 + 2 * len(TAGS), np.float32)
    bias[0] = _CERTAIN
    return _write(path, Task.TAG, "token", TAGS, bias, changes)


def write_classifier(path: Path, favourite: str = "urgent", **changes: object) -> Path:
    """A classifier that is almost certain of one label whatever it reads."""
    bias = np.array([_CERTAIN if label == favourite else 0.0 for label in CLASSES], np.float32)
    return _write(path, Task.CLASSIFY, "pooled", CLASSES, bias, changes)


def write_sentence_classifier(path: Path, favourite: str = "urgent", **changes: object) -> Path:
    """The same for each sentence of a document."""
    bias = np.array([_CERTAIN if label == favourite else 0.0 for label in CLASSES], np.float32)
    return _write(path, Task.CLASSIFY, "token", CLASSES, bias, {"unit": "sentence", **changes})


def write_answerer(path: Path, **changes: object) -> Path:
    """Finds the first word of any context: every place is as good as "no answer", and the first of equals wins."""
    return _write(path, Task.ANSWER, "token", (), np.zeros(2, np.float32), {"window_tokens": 128, **changes})


def write_embedder(path: Path, **changes: object) -> Path:
    """The base's own states, without an adapter."""
    return _write(path, Task.EMBED, "none", (), np.zeros(0, np.float32), changes)


def abstaining() -> Calibration:
    """A classifier with this calibration never commits itself."""
    return Calibration(abstain_below=1.0)


def adapter_of(layer: str, width: int = STATES, value: float = 0.0) -> AdapterWeights:
    """A low-rank pair for one layer, which may exist and fit or not."""
    pair = np.full((4, width), value, np.float32), np.full((width, 4), value, np.float32)
    return AdapterWeights(alpha=4.0, pairs={layer: pair})


def _write(path: Path, task: Task, kind: str, labels: tuple[str, ...], bias: np.ndarray, changes: dict) -> Path:
    adapter = changes.pop("adapter", None)
    values = {
        "id": changes.pop("specialist_id", path.stem),
        "version": "0.1.0",
        "task": task,
        "name": path.stem,
        "summary": "for tests",
        "labels": labels,
        "base": Base(name="minilm", weights_sha256="0" * 64, vocabulary_sha256="0" * 64),
        "licence": "Apache-2.0",
        "created": "2026-01-01",
    }
    weight = np.zeros((STATES, len(bias)), np.float32)
    head = Head("none", 0, None, None, None, None) if kind == "none" else Head(kind, 0, None, None, weight, bias)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_specialist(path, Manifest(**(values | changes)), head, adapter)
    return path
