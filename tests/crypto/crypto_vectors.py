"""Vectors of others, beside this file. A loader that finds none fails: tests over nothing would stay green."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "vectors"


def load(name: str) -> dict[str, Any]:
    """The content of `vectors/<name>.json`, which names its source."""
    vectors = json.loads((FOLDER / f"{name}.json").read_text())
    assert vectors["source"] and len(vectors) > 1, f"{name}.json holds no vectors"
    return vectors
