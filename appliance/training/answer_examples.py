"""Questions to padded batches: a part of the context after the question, and where in it the answer lies. NumPy only.

    for batch in answer_batches(questions, wordpiece, recipe.schedule):      # without end
        batch.token_ids, batch.lengths, batch.allowed, batch.targets

The sequences are those of serving (`specialists/tasks/answer.py`): `[CLS] question [SEP] part [SEP]`, and row 0 stands
for "no answer in this part". Parts are of any length up to a window's: shorter ones cost less and answer the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from appliance.specialists.tasks.answer import QUESTION_TOKENS_MAX
from appliance.specialists.tokenization import Tokens, WordPiece
from appliance.training.answer_recipe import AnswerSchedule
from appliance.training.collections.questions import Question


@dataclass(frozen=True, slots=True)
class AnswerExample:
    """One sequence: ids (T,); whether a start or an end may stand at a row (T, 2); the rows of start and end."""

    token_ids: np.ndarray
    allowed: np.ndarray
    targets: tuple[int, int]


@dataclass(frozen=True, slots=True)
class AnswerBatch:
    """Sequences padded to one length: (B, T) ids, (B,) lengths, (B, T, 2) allowed rows, (B, 2) targets."""

    token_ids: np.ndarray
    lengths: np.ndarray
    allowed: np.ndarray
    targets: np.ndarray


def example_of(
    question: Question, wordpiece: WordPiece, schedule: AnswerSchedule, rng: np.random.Generator
) -> AnswerExample | None:
    """One part of the question's context, drawn anew each time; None where no part holds the answer, or by chance."""
    asked = wordpiece.encode(question.question).ids[:QUESTION_TOKENS_MAX]
    tokens = wordpiece.encode(question.context)
    room = min(schedule.window_tokens - len(asked) - 3, schedule.part_tokens_max)
    size = min(int(rng.integers(min(schedule.part_tokens_min, room), room + 1)), len(tokens))
    if not size:
        return None
    answer = _token_range(question, tokens, rng)
    if answer is None:
        if rng.random() >= schedule.unanswerable:
            return None
        start = int(rng.integers(len(tokens) - size + 1))
    elif rng.random() < schedule.elsewhere and (places := _elsewhere(question, tokens, size)):
        start, answer = int(rng.choice(places)), None
    else:
        first, stop = answer
        if stop - first > room:
            return None
        size = max(size, stop - first)
        start = int(rng.integers(max(0, stop - size), min(first, len(tokens) - size) + 1))
    return _example(
        asked, tokens.ids[start : start + size], answer and (answer[0] - start, answer[1] - start), wordpiece
    )


def answer_batches(
    questions: Sequence[Question], wordpiece: WordPiece, schedule: AnswerSchedule, seed: int
) -> Iterator[AnswerBatch]:
    """Batches without end; every question once in a round, similar lengths together."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(questions))
        for place in range(0, len(order), schedule.pool):
            drawn = (example_of(questions[n], wordpiece, schedule, rng) for n in order[place : place + schedule.pool])
            examples = sorted((one for one in drawn if one is not None), key=lambda one: len(one.token_ids))
            groups = list(_groups(examples, schedule.batch_tokens))
            rng.shuffle(groups)
            yield from map(pad, groups)


def pad(examples: Sequence[AnswerExample]) -> AnswerBatch:
    """One array each; nothing may start or end in the padding."""
    longest = max(len(example.token_ids) for example in examples)
    batch = AnswerBatch(
        np.zeros((len(examples), longest), dtype=np.int64),
        np.array([len(example.token_ids) for example in examples], dtype=np.int64),
        np.zeros((len(examples), longest, 2), dtype=bool),
        np.array([example.targets for example in examples], dtype=np.int64),
    )
    for row, example in enumerate(examples):
        size = len(example.token_ids)
        batch.token_ids[row, :size] = example.token_ids
        batch.allowed[row, :size] = example.allowed
    return batch


def _example(
    asked: np.ndarray, part: np.ndarray, answer: tuple[int, int] | None, wordpiece: WordPiece
) -> AnswerExample:
    head = np.concatenate(([wordpiece.cls_id], asked, [wordpiece.sep_id]))
    ids = np.concatenate((head, part, [wordpiece.sep_id])).astype(np.int64)
    allowed = np.zeros((len(ids), 2), dtype=bool)
    begins = ~wordpiece.continues[part]
    allowed[len(head) : -1, 0] = begins
    allowed[len(head) : -1, 1] = np.append(begins[1:], True)
    allowed[0] = True
    if answer is None:
        return AnswerExample(ids, allowed, (0, 0))
    first, last = len(head) + answer[0], len(head) + answer[1] - 1
    allowed[first, 0] = allowed[last, 1] = True  # an annotation may begin inside a word: what was marked is right
    return AnswerExample(ids, allowed, (first, last))


def _token_range(question: Question, tokens: Tokens, rng: np.random.Generator) -> tuple[int, int] | None:
    """Tokens (first, after the last) of one of the answers."""
    if not question.answers:
        return None
    start, end = question.answers[int(rng.integers(len(question.answers)))]
    first = int(np.searchsorted(tokens.ends, start, side="right"))
    stop = int(np.searchsorted(tokens.starts, end, side="left"))
    return (first, stop) if first < stop else None


def _elsewhere(question: Question, tokens: Tokens, size: int) -> list[int]:
    """Where parts of that size begin that touch none of the answers."""
    free = np.ones(len(tokens) - size + 1, dtype=bool)
    for start, end in question.answers:
        first = int(np.searchsorted(tokens.ends, start, side="right"))
        stop = int(np.searchsorted(tokens.starts, end, side="left"))
        free[max(0, first - size + 1) : stop] = False
    return np.flatnonzero(free).tolist()


def _groups(examples: Sequence[AnswerExample], batch_tokens: int) -> Iterator[list[AnswerExample]]:
    """Runs of examples whose padded size stays within `batch_tokens`; `examples` are sorted by length."""
    group: list[AnswerExample] = []
    for example in examples:
        if group and (len(group) + 1) * len(example.token_ids) > batch_tokens:
            yield group
            group = []
        group.append(example)
    if group:
        yield group
