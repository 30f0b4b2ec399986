"""Vectors of the router's bundled examples, stored so that no start has to make them.

    python -m appliance.training.routing.vectors --base HOME/models/minilm

To be run whenever a list in `specialists/examples/` changes; a test says when it was forgotten.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from appliance.config import EngineConfig
from appliance.specialists.base_model import MINILM
from appliance.specialists.router_examples import VECTORS, bundled_texts, texts_sha256
from appliance.training.routing.evaluate import encode


def main(arguments: Sequence[str] | None = None) -> int:
    """Encode and store."""
    parser = argparse.ArgumentParser(prog="python -m appliance.training.routing.vectors")
    parser.add_argument("--base", type=Path, required=True, help="folder of the converted base, models/minilm")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args(arguments)
    known, _ = asyncio.run(encode((), options.base, EngineConfig(threads=options.threads)))
    by_text = dict(zip((example.text for example in known.examples), known.vectors, strict=True))
    vectors = np.stack([by_text[text] for text in bundled_texts()])
    store(VECTORS, vectors)
    print(f"{len(vectors)} vectors in {VECTORS}")
    return 0


def store(path: Path, vectors: np.ndarray) -> None:
    """Half precision: an error of a cosine below .001."""
    np.savez_compressed(
        path,
        vectors=vectors.astype(np.float16),
        texts_sha256=np.array(texts_sha256()),
        base_weights_sha256=np.array(MINILM.weights_sha256),
    )


if __name__ == "__main__":
    sys.exit(main())
