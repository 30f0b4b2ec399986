"""The router with the real base model: stored vectors are those of its examples, and plain requests find their way."""

import asyncio

import numpy as np
import pytest

from appliance.config import EngineConfig, Home
from appliance.engine.client import Engine
from appliance.specialists import router
from appliance.specialists.base_model import MINILM, open_base_model
from appliance.specialists.router_examples import (
    ExampleVectors,
    bundled_examples,
    bundled_texts,
    bundled_vectors,
    examples_of,
)
from appliance.specialists.tokenization import WordPiece

REQUESTS = {
    "Please take every identifier out of this note: Mr. Tomas Okoro, born 4 May 1950, seen by Dr. Lind.": "phi-deid",
    "Patients who received cisplatin developed nephrotoxicity and hearing loss.": "biomed-ner",
    "My new debit card has still not been delivered": "bank-intent",
    "wake me up at seven tomorrow morning": "assistant-intent",
    "Steel maker's shares plunge after profit warning": "fin-sentiment",
    "This Agreement shall be governed by the laws of the State of New York.": "contract-clause",
    "Divide the abstract of this trial into methods and results": "abstract-sections",
    "Which passage of this document answers my question?": "doc-answer",
    "No evidence of pneumonia or pleural effusion.": "assertion",
    "Write a sonnet about the sea": None,
}
SAMPLE = 5


@pytest.fixture(scope="module")
def encoded(base_model, tmp_path_factory):
    """The vectors of a few examples and of all requests, made by the engine."""
    base = open_base_model(Home(base_model.parent))
    wordpiece = WordPiece.from_vocab(base.vocabulary)
    texts = [*bundled_texts()[:SAMPLE], *REQUESTS]

    async def encode() -> np.ndarray:
        engine = await Engine.start(
            EngineConfig(threads=1), base.path, base.sha256, tmp_path_factory.mktemp("router-engine")
        )
        try:
            await engine.load(router.BARE_BASE)
            return router.unit(await engine.encode(router.BARE_BASE.key, router.prepare(texts, wordpiece)))
        finally:
            await engine.close()

    return asyncio.run(encode())


def test_stored_vectors_are_of_these_examples_and_of_this_base(encoded):
    stored = bundled_vectors(MINILM.weights_sha256)
    assert tuple(stored) == bundled_texts(), "run python -m appliance.training.routing.vectors"
    for text, row in zip(bundled_texts()[:SAMPLE], encoded, strict=False):
        assert float(stored[text] @ row) > 0.995
    assert bundled_vectors("0" * 64) == {}


def test_plain_requests_find_their_specialist_and_a_sonnet_finds_none(encoded):
    vectors = ExampleVectors(bundled_vectors(MINILM.weights_sha256))
    examples = examples_of(())
    assert vectors.missing(examples) == ()
    known, everybody = vectors.known(examples), frozenset(bundled_examples()) - {router.NONE}
    chosen = {
        text: router.decide(row[None, :], known, everybody).specialist
        for text, row in zip(REQUESTS, encoded[SAMPLE:], strict=True)
    }
    assert chosen == REQUESTS
