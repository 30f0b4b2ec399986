"""Figures of answers quoted from a text: exact match, F1 of words, the right sentence, abstention. Pure.

    judged = [judge_quote("… context …", ("4 March",), "4 March 2020", 17)]
    measure = quotes_measure(judged)         # for `intervals.bootstrap`

Texts are compared as SQuAD does (Rajpurkar et al. 2016): without case, punctuation and English articles; the best of
several true answers counts.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_PUNCTUATION = frozenset(string.punctuation)


@dataclass(frozen=True, slots=True)
class JudgedQuote:
    """One question. `answerable`: the context holds an answer; `answered`: the contender gave one."""

    answerable: bool
    answered: bool
    exact: float
    f1: float
    sentence: float


def judge_quote(context: str, truths: Sequence[str], said: str | None, start: int | None = None) -> JudgedQuote:
    """`truths` empty: the context holds no answer; `said` None: the contender says so. `start`: where it was quoted."""
    answerable, answered = bool(truths), said is not None
    if not answerable or said is None:
        agree = float(answerable == answered)
        return JudgedQuote(answerable, answered, agree, agree, agree)
    return JudgedQuote(
        True,
        True,
        max(float(normalised(said) == normalised(truth)) for truth in truths),
        max(word_f1(truth, said) for truth in truths),
        float(any(_same_sentence(context, truth, said, start) for truth in truths)),
    )


def quotes_measure(judged: Sequence[JudgedQuote]) -> Callable[[np.ndarray], Mapping[str, float]]:
    """`exact` and `f1` over all questions (no answer is right where there is none); `sentence_hit` of the answerable
    ones; `abstention`: whether to answer was decided rightly.
    """
    exact, score, sentence = (np.array([getattr(one, name) for one in judged]) for name in ("exact", "f1", "sentence"))
    answerable = np.array([one.answerable for one in judged])
    decided = np.array([one.answerable == one.answered for one in judged])

    def measure(weights: np.ndarray) -> Mapping[str, float]:
        asked = weights * answerable
        return {
            "exact": _mean(exact, weights),
            "f1": _mean(score, weights),
            "f1_answerable": _mean(score, asked),
            "sentence_hit": _mean(sentence, asked),
            "abstention": _mean(decided, weights),
        }

    return measure


def normalised(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces.

    >>> normalised("The  “Black Death”, of 1348.")
    '“black death” of 1348'
    """
    plain = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def word_f1(truth: str, said: str) -> float:
    """Harmonic mean of the shares of common words; 1 where both have none."""
    wanted, given = normalised(truth).split(), normalised(said).split()
    if not wanted or not given:
        return float(wanted == given)
    common = sum((Counter(wanted) & Counter(given)).values())
    return 2 * common / (len(wanted) + len(given))


def sentences_of(text: str) -> list[tuple[int, int]]:
    """Where sentences begin and end, cut after `.`, `!`, `?` before white space and at line breaks."""
    places, start = [], 0
    for gap in _SENTENCE_END.finditer(text):
        if gap.start() > start:
            places.append((start, gap.start()))
        start = gap.end()
    if start < len(text):
        places.append((start, len(text)))
    return places


def _same_sentence(context: str, truth: str, said: str, start: int | None) -> bool:
    """Whether a true answer begins in the sentence in which begins what was said."""
    said_at = context.find(said) if start is None else start
    for first, end in sentences_of(context):
        if first <= said_at < end:
            return first <= context.find(truth, first) < end
    return False


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    total = float(weights.sum())
    return float((values * weights).sum()) / total if total else math.nan
