"""Task `embed`: one vector of length 1 for any text; a long one is the mean of its windows. States by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import SpecialistsConfig
from appliance.errors import InputTooLong, SpecialistFileInvalid
from appliance.specialists.manifest import Base, Manifest
from appliance.specialists.tasks import embed
from appliance.specialists.tokenization import WordPiece
from appliance.types import Task

WORDPIECE = WordPiece.from_tokens(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##a"))


def prepared(text, **changes):
    manifest = Manifest(
        **{
            "id": "vector",
            "version": "0.1.0",
            "task": Task.EMBED,
            "name": "Vector",
            "summary": "",
            "labels": (),
            "base": Base(name="minilm", weights_sha256="0" * 64, vocabulary_sha256="0" * 64),
            "licence": "Apache-2.0",
            "created": "2026-01-01",
            "window_tokens": 8,
            **changes,
        }
    )
    return embed.prepare(text, manifest, WORDPIECE, SpecialistsConfig())


def test_a_short_text_is_its_mean_scaled_to_length_1():
    case = prepared("a a")
    assert len(case.inputs) == 1
    vector = embed.finish(case, [np.array([3.0, 4.0], np.float32)])
    assert vector.dtype == np.float32 and vector.tolist() == pytest.approx([0.6, 0.8])


def test_a_long_text_is_the_mean_of_its_windows_by_the_number_of_tokens():
    case = prepared("a " * 12)
    assert case.weights == (6, 6) and len(case.inputs) == 2
    vector = embed.finish(case, [np.array([3.0, 0.0], np.float32), np.array([0.0, 4.0], np.float32)])
    assert vector.tolist() == pytest.approx([0.6, 0.8])


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=60), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_text_has_a_vector_of_length_1(text, seed):
    case = prepared(text)
    rng = np.random.default_rng(seed)
    vector = embed.finish(case, [rng.normal(size=5).astype(np.float32) for _ in case.inputs])
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("states", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_states_without_a_direction_are_an_error_and_no_vector(states):
    with pytest.raises(SpecialistFileInvalid):
        embed.finish(prepared("a"), [np.array(states, np.float32)])


def test_a_text_beyond_the_specialists_own_limit_is_refused():
    with pytest.raises(InputTooLong):
        prepared("a" * 20, input_chars_max=10)
