"""Whether a text is in a language that the base can read: how many word pieces each of its words falls into. Pure.

    pieces_per_word("Der Patient klagt über Schmerzen", wordpiece)      # 2.2
    language_doubts(material.texts(), wordpiece)                        # what a person should be told; mostly nothing

The base knows English. Its vocabulary keeps English words whole and cuts others to pieces, so the mean number of pieces
a word tells languages apart without a word list, also where stop words were removed. Measured (texts of at least five
words, mean of each collection): English 1.03 to 1.32 in six collections (banking requests, complaints, clinical notes,
headlines, messages of a program); Spanish 1.69, Italian 1.76, Portuguese 1.86, Dutch 2.06, German 2.11, Polish 2.44,
Finnish 2.60, Turkish 2.78, Japanese 3.72, Russian 5.02 (messages of the Vim editor). A single text is told less surely
than a table: at 1.8, 0 to 3 % of English texts are over it, and 31 % (Spanish) to 99 % (Russian) of others. Of 301
made-up English clinical texts of ten words or more, full of names, one is; of the shorter ones one in ten.

A text in another script is told by its letters, however short it is: a Chinese sentence is a word or two to that mean.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import numpy as np

from appliance.specialists.tokenization import WordPiece

TEXT_PIECES_MAX = 1.8
_WORDS_MIN = 5
_DOUBT_WORDS_MIN = 10  # of a single text: a short query of names has as many pieces as another language
_LETTERS_MIN = 4  # fewer may be symbols in an English text
_CHARS_READ = 1000
_WORD = re.compile(r"[^\W\d_]+")


def pieces_per_word(text: str, wordpiece: WordPiece, *, words_min: int = _WORDS_MIN) -> float | None:
    """The mean over the words of a text's beginning; None where it has fewer than `words_min`."""
    text = text[:_CHARS_READ]
    spans = [match.span() for match in _WORD.finditer(text)]
    if len(spans) < words_min:
        return None
    starts, ends = np.array(spans).T
    tokens = wordpiece.encode(text)
    word = np.searchsorted(starts, tokens.starts, side="right") - 1
    inside = (word >= 0) & (tokens.starts < ends[np.maximum(word, 0)])
    return float(inside.sum() / len(spans))


def in_other_script(text: str) -> bool:
    """Whether most letters of a text's beginning are of another script than Latin.

    >>> in_other_script("银行卡被拒绝了"), in_other_script("TGF-β1 und α-Synuklein")
    (True, False)
    """
    letters = [character for character in text[:_CHARS_READ] if character.isalpha()]
    others = sum(not character.isascii() and "LATIN" not in unicodedata.name(character, "") for character in letters)
    return others >= _LETTERS_MIN and 2 * others > len(letters)


def language_doubts(texts: Iterable[str], wordpiece: WordPiece) -> tuple[str, ...]:
    """One sentence if these texts, taken together, do not look like English; without a word of them."""
    read, left = [], _CHARS_READ
    for text in texts:
        if left <= 0:
            break
        read.append(text[:left])
        left -= len(text)
    begins = "\n".join(read)
    pieces = pieces_per_word(begins, wordpiece, words_min=_DOUBT_WORDS_MIN)
    if pieces is None or pieces < TEXT_PIECES_MAX:
        if in_other_script(begins):
            return (
                "the text does not look like English (most of its letters are not Latin): the base knows English and "
                "figures are of English texts, so expect more errors",
            )
        return ()
    return (
        f"the text does not look like English ({pieces:.1f} word pieces a word, English has 1.0 to 1.3): the base "
        "knows English and figures are of English texts, so expect more errors",
    )
