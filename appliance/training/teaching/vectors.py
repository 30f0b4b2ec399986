"""Texts to the base's vectors, through the worker, the tokenizer and the windows that will serve the result.

async with embedding(engine_config, base, runtime) as embed:
    vectors = await embed(texts, manifest, progress)        # (texts, states) float32
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from appliance.config import EngineConfig, SpecialistsConfig
from appliance.engine.client import Engine
from appliance.specialists.manifest import Manifest
from appliance.specialists.tasks import classify
from appliance.specialists.tokenization import WordPiece
from appliance.types import Adapter, Head

_BASE_ALONE = Adapter("base", None, None, Head("none", 0, None, None, None, None))
_INPUTS_AT_ONCE = 128
_ANSWER_S = 600.0  # on a machine that serves others first; the job as a whole has its own limit
Embed = Callable[[Sequence[str], Manifest, Callable[[float], None]], Awaitable[np.ndarray]]


@asynccontextmanager
async def embedding(
    config: EngineConfig, base: Path, base_sha256: str, vocabulary: Path, runtime: Path
) -> AsyncIterator[Embed]:
    """A worker of its own, so that teaching takes nobody's place in the queue of the one that serves."""
    wordpiece = WordPiece.from_vocab(vocabulary)
    engine = await Engine.start(config, base, base_sha256, runtime)

    async def embed(texts: Sequence[str], manifest: Manifest, progress: Callable[[float], None]) -> np.ndarray:
        """The mean over a text's tokens; of a long one, over its windows, as serving averages logits."""
        prepared = [classify.prepare(text, manifest, wordpiece, SpecialistsConfig()) for text in texts]
        # Texts of like length together: less padding, and so the same vectors in less time.
        order = sorted(range(len(texts)), key=lambda at: sum(len(part.token_ids) for part in prepared[at].inputs))
        vectors: list[np.ndarray | None] = [None] * len(texts)
        waiting: list[int] = []
        done = 0
        for place, at in enumerate(order):
            waiting.append(at)
            if sum(len(prepared[one].inputs) for one in waiting) >= _INPUTS_AT_ONCE or place == len(order) - 1:
                inputs = [part for one in waiting for part in prepared[one].inputs]
                outputs = iter(await engine.encode(_BASE_ALONE.key, inputs, deadline_s=_ANSWER_S))
                for one in waiting:
                    rows = np.stack([next(outputs) for _ in prepared[one].inputs])
                    vectors[one] = np.average(rows, axis=0, weights=prepared[one].weights).astype(np.float32)
                done += len(waiting)
                waiting.clear()
                progress(done / len(texts))
        return np.stack([vector for vector in vectors if vector is not None])

    try:
        await engine.load(_BASE_ALONE)
        yield embed
    finally:
        await engine.close()
