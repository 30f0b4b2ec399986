"""Texts to the base's vectors, through the worker, the tokenizer and the windows that will serve the result.

async with embedding(engine_config, base, runtime) as embed:
    vectors = await embed(texts, manifest, progress)        # (texts, states) float32
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
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
_REQUESTS_AHEAD = 2  # one waits while one runs, so that no lane is idle between two
_ANSWER_S = 600.0  # on a machine that serves others first; the job as a whole has its own limit
Embed = Callable[[Sequence[str], Manifest, Callable[[float], None]], Awaitable[np.ndarray]]


@asynccontextmanager
async def embedding(
    config: EngineConfig,
    base: Path,
    base_sha256: str,
    vocabulary: Path,
    runtime: Path,
    adapter: Adapter = _BASE_ALONE,
) -> AsyncIterator[Embed]:
    """A worker of its own, so that teaching takes nobody's place in the queue of the one that serves.

    With an adapter of a classifier the rows are its logits.
    """
    wordpiece = WordPiece.from_vocab(vocabulary)
    engine = await Engine.start(config, base, base_sha256, runtime)

    async def embed(texts: Sequence[str], manifest: Manifest, progress: Callable[[float], None]) -> np.ndarray:
        """The mean over a text's tokens; of a long one, over its windows, as serving averages logits."""
        prepared = [classify.prepare(text, manifest, wordpiece, SpecialistsConfig()) for text in texts]
        # Texts of like length together: less padding, and so the same vectors in less time.
        order = sorted(range(len(texts)), key=lambda at: sum(len(part.token_ids) for part in prepared[at].inputs))
        vectors: list[np.ndarray | None] = [None] * len(texts)
        turn = asyncio.Semaphore(_REQUESTS_AHEAD)
        done = 0

        async def read(places: Sequence[int]) -> None:
            nonlocal done
            async with turn:
                inputs = [part for at in places for part in prepared[at].inputs]
                outputs = iter(await engine.encode(adapter.key, inputs, deadline_s=_ANSWER_S))
            for at in places:
                rows = np.stack([next(outputs) for _ in prepared[at].inputs])
                vectors[at] = np.average(rows, axis=0, weights=prepared[at].weights).astype(np.float32)
            done += len(places)
            progress(done / len(texts))

        await asyncio.gather(*(read(places) for places in _requests(order, prepared)))
        return np.stack([vector for vector in vectors if vector is not None])

    try:
        await engine.load(adapter)
        yield embed
    finally:
        await engine.close()


def _requests(order: Sequence[int], prepared: Sequence[classify.PreparedClassify]) -> Iterator[list[int]]:
    """Texts in that order, in groups of about `_INPUTS_AT_ONCE` inputs."""
    waiting: list[int] = []
    size = 0
    for at in order:
        waiting.append(at)
        size += len(prepared[at].inputs)
        if size >= _INPUTS_AT_ONCE:
            yield waiting
            waiting, size = [], 0
    if waiting:
        yield waiting
