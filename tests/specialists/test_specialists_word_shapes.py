"""Guaranteed here: features tell apart what the uncased encoder cannot (case, digits, lines), are the same numbers
for the same text for ever within a version (golden sums), and exist for any Unicode text. Hypothesis for the last."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.specialists.tokenization import WordPiece
from appliance.specialists.word_shapes import FEATURE_COUNT, FEATURE_VERSION, features

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORDPIECE = WordPiece.from_tokens(
    ("[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS), *"-/.,:;'@#()|*")
)
anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=120)
GOLDEN = (1, (79, 88), 1759131.0)  # version, shape, sum weighted by position
NOTE = "DISCHARGE SUMMARY\nPatient: O'BRIEN, Mary-Jo A.  DOB: 04/12/1961\tMRN A00-77\nDr. McKay iPad 7 \u4e2d é\n"


def rows(text: str) -> np.ndarray:
    return features(text, WORDPIECE.encode(text))


def first(text: str) -> np.ndarray:
    return rows(text)[0]


def test_case_lengths_and_places_change_the_features() -> None:
    words = ["ward", "Ward", "WARD", "wArd", "WArd", "W", "WA", "1", "12", "1234", "w1", "ward.", "ward-1", "\u4e2d"]
    vectors = {word: first(word).tobytes() for word in words}
    assert len(set(vectors.values())) == len(words)
    assert first("a ward").tobytes() != first("a\nward").tobytes()
    assert rows("x: ward")[-1].tobytes() != rows("x  ward")[-1].tobytes()


def test_a_chunk_shape_does_not_depend_on_its_letters_or_digits() -> None:
    assert np.array_equal(first("04/12/1961 x"), first("31/10/2024 x"))
    assert not np.array_equal(first("04/12/1961 x"), first("04-12-1961 x"))


def test_a_title_before_a_name_is_seen_with_and_without_its_full_stop() -> None:
    after_title = rows("dr. okafor")[-1]
    assert not np.array_equal(after_title, rows("ab. okafor")[-1])
    assert not np.array_equal(rows("dr okafor")[-1], rows("ab okafor")[-1])


def test_no_tokens_give_no_rows() -> None:
    assert rows("").shape == rows(" \n").shape == (0, FEATURE_COUNT)


def test_features_of_a_known_note_never_change_within_a_version() -> None:
    """Training froze these numbers into published heads: if this fails, raise FEATURE_VERSION and train again."""
    matrix = rows(NOTE)
    weights = np.outer(np.arange(1, matrix.shape[0] + 1), np.arange(1, FEATURE_COUNT + 1)).astype(np.float64)
    assert (FEATURE_VERSION, matrix.shape, round(float((matrix * weights).sum()), 1)) == GOLDEN


@given(anything)
def test_any_text_has_finite_features_between_zero_and_one(text: str) -> None:
    matrix = rows(text)
    assert matrix.dtype == np.float32
    assert matrix.shape == (len(WORDPIECE.encode(text)), FEATURE_COUNT)
    assert np.all((matrix >= 0) & (matrix <= 1))
