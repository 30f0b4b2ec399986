"""Whether texts are in a language that the base can read: how many word pieces each of their words falls into.

    finding = language_finding(texts, lines, wordpiece)       # None: they look like English

The base knows English. Its vocabulary keeps English words whole and cuts others to pieces, so the mean number of pieces
a word tells languages apart without a word list, also where stop words were removed. Measured (texts of at least five
words, mean of each collection): English 1.03 to 1.32 in six collections (banking requests, complaints, clinical notes,
headlines, messages of a program); Spanish 1.69, Italian 1.76, Portuguese 1.86, Dutch 2.06, German 2.11, Polish 2.44,
Finnish 2.60, Turkish 2.78, Japanese 3.72, Russian 5.02 (messages of the Vim editor). The bound for a table lies
between; a single text is told less surely: at 1.8, 0 to 3 % of English texts are over it, and 31 % (Spanish) to 99 %
(Russian) of others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from appliance.specialists.tokenization import WordPiece
from appliance.training.teaching.table import LINES_SHOWN, Finding

TABLE_PIECES_MAX = 1.5
TEXT_PIECES_MAX = 1.8
_WORDS_MIN = 5
_TEXTS_READ = 2000
_CHARS_READ = 1000
_WORD = re.compile(r"[^\W\d_]+")


def pieces_per_word(text: str, wordpiece: WordPiece) -> float | None:
    """The mean over the words of a text; None where it has fewer than five."""
    text = text[:_CHARS_READ]
    spans = [match.span() for match in _WORD.finditer(text)]
    if len(spans) < _WORDS_MIN:
        return None
    starts, ends = np.array(spans).T
    tokens = wordpiece.encode(text)
    word = np.searchsorted(starts, tokens.starts, side="right") - 1
    inside = (word >= 0) & (tokens.starts < ends[np.maximum(word, 0)])
    return float(inside.sum() / len(spans))


def language_finding(texts: Sequence[str], lines: Sequence[int], wordpiece: WordPiece) -> Finding | None:
    """What should be said of the language of these texts, read in a sample spread over all of them."""
    step = max(1, len(texts) // _TEXTS_READ)
    read = [(pieces_per_word(text, wordpiece), line) for text, line in zip(texts[::step], lines[::step], strict=True)]
    known = [(pieces, line) for pieces, line in read if pieces is not None]
    if not known:
        return None
    mean = sum(pieces for pieces, _ in known) / len(known)
    odd = tuple(line for pieces, line in known if pieces >= TEXT_PIECES_MAX)
    if mean >= TABLE_PIECES_MAX:
        message = (
            f"the texts do not look like English, the language of the base: {mean:.2f} word pieces a word, English has "
            f"1.0 to 1.3; what is learned from them will be poor"
        )
        return Finding("other_language", "warning", message, len(odd) * step, odd[:LINES_SHOWN])
    if len(odd) >= 0.1 * len(known):
        message = f"about {len(odd) * step} texts look as if they were in another language than English"
        return Finding("some_other_language", "warning", message, len(odd) * step, odd[:LINES_SHOWN])
    return None
