"""Vectors of the log's formats, made by `audit_bundle.py` and usable by any other implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "vectors"


def load(name: str) -> dict[str, Any]:
    """The content of `vectors/<name>.json`. Fails when there is nothing in it: tests over nothing would stay green."""
    vectors = json.loads((FOLDER / f"{name}.json").read_text())
    assert vectors["about"] and all(vectors.values()), f"{name}.json lacks vectors"
    return vectors
