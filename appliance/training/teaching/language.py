"""Whether the texts of a table are in a language that the base can read (`specialists/language.py` says how).

    finding = language_finding(texts, lines, wordpiece)       # None: they look like English

The bound for a table lies between the means of English collections (at most 1.32) and of others (1.69 and more).
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.specialists.language import TEXT_PIECES_MAX, in_other_script, pieces_per_word
from appliance.specialists.tokenization import WordPiece
from appliance.training.teaching.table import LINES_SHOWN, Finding

TABLE_PIECES_MAX = 1.5
_TEXTS_READ = 2000


def language_finding(texts: Sequence[str], lines: Sequence[int], wordpiece: WordPiece) -> Finding | None:
    """What should be said of the language of these texts, read in a sample spread over all of them."""
    step = max(1, len(texts) // _TEXTS_READ)
    read = [
        (pieces_per_word(text, wordpiece), line, in_other_script(text))
        for text, line in zip(texts[::step], lines[::step], strict=True)
    ]
    known = [pieces for pieces, _, _ in read if pieces is not None]
    mean = sum(known) / len(known) if known else 0.0
    foreign = tuple(line for _, line, is_foreign in read if is_foreign)
    odd = tuple(line for pieces, line, is_foreign in read if is_foreign or (pieces or 0.0) >= TEXT_PIECES_MAX)
    if mean >= TABLE_PIECES_MAX:
        message = (
            f"the texts do not look like English, the language of the base: {mean:.2f} word pieces a word, English has "
            f"1.0 to 1.3; what is learned from them will be poor"
        )
        return Finding("other_language", "warning", message, len(odd) * step, odd[:LINES_SHOWN])
    if 2 * len(foreign) > len(read):
        message = (
            "the texts do not look like English, the language of the base: most are not in Latin letters; what is "
            "learned from them will be poor"
        )
        return Finding("other_language", "warning", message, len(odd) * step, odd[:LINES_SHOWN])
    if odd and len(odd) >= 0.1 * max(len(known), len(foreign)):
        message = f"about {len(odd) * step} texts look as if they were in another language than English"
        return Finding("some_other_language", "warning", message, len(odd) * step, odd[:LINES_SHOWN])
    return None
