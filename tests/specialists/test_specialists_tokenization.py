"""Guaranteed here: tokens carry offsets into the text as it was given, for any Unicode, and never split a combining
mark from its letter. Shown on chosen hard texts and, with Hypothesis, on any text."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BaseModelUnavailable
from appliance.specialists.tokenization import WordPiece, read_vocabulary

VOCABULARY = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "jose",
    "oka",
    "##for",
    "dr",
    ".",
    "'",
    "-",
    "1",
    "##2",
    "e",
    "a",
    "b",
)
WORDPIECE = WordPiece.from_tokens(VOCABULARY)
anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)


def pieces(text: str) -> list[tuple[str, str]]:
    tokens = WORDPIECE.encode(text)
    return [
        (VOCABULARY[number], text[start:end])
        for number, start, end in zip(tokens.ids, tokens.starts, tokens.ends, strict=True)
    ]


def test_offsets_give_back_the_original_characters() -> None:
    assert pieces("Dr. José OKAFOR") == [("dr", "Dr"), (".", "."), ("jose", "José"), ("oka", "OKA"), ("##for", "FOR")]


def test_a_decomposed_accent_belongs_to_the_token_of_its_letter() -> None:
    assert pieces("Jose\u0301 12") == [("jose", "Jose\u0301"), ("1", "1"), ("##2", "2")]


def test_characters_that_the_normaliser_drops_do_not_shift_offsets() -> None:
    assert pieces("\u200f\u0007Jo\u200bse - a") == [("jose", "Jo\u200bse"), ("-", "-"), ("a", "a")]


def test_right_to_left_and_emoji_count_as_code_points() -> None:
    assert [text for _, text in pieces("שלום 👩‍👧 a")][-1] == "a"
    assert WORDPIECE.encode("👩👩 a").starts[-1] == 3


def test_special_tokens_in_a_text_are_ordinary_text() -> None:
    ids = WORDPIECE.encode("[CLS] [SEP]").ids
    assert WORDPIECE.cls_id not in ids
    assert WORDPIECE.sep_id not in ids


@given(anything)
def test_offsets_stay_inside_never_decrease_and_are_never_empty(text: str) -> None:
    tokens = WORDPIECE.encode(text)
    assert len(tokens) == tokens.starts.shape[0] == tokens.ends.shape[0]
    assert np.all(tokens.starts >= 0)
    assert np.all(tokens.ends <= len(text))
    assert np.all(tokens.ends > tokens.starts)
    assert np.all(np.diff(tokens.starts) >= 0)
    assert np.all(np.diff(tokens.ends) >= 0)


def test_a_vocabulary_is_read_in_the_order_of_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    assert read_vocabulary(path) == VOCABULARY
    assert WordPiece.from_vocab(path).sep_id == 3


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a\nb\n", b"[CLS]\n[SEP]\n[UNK]\na\na\n"])
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(BaseModelUnavailable):
        WordPiece.from_vocab(path)


def test_a_missing_vocabulary_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BaseModelUnavailable) as caught:
        WordPiece.from_vocab(tmp_path / "vocab.txt")
    assert "fetch the base model" in str(caught.value.hint)
