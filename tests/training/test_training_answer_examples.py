"""Guaranteed here: what a reader is trained on are the sequences of serving, the targets are the answer's own tokens,
parts that are drawn elsewhere do not touch an answer, and nothing may start or end outside of the part."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.training.answer_examples import answer_batches, example_of, pad
from appliance.training.answer_recipe import AnswerSchedule, read_answer_recipe
from appliance.training.collections.questions import Question
from tests.training.tiny_base import WORDPIECE

SCHEDULE = AnswerSchedule(
    seed=1,
    tokens=1000,
    batch_tokens=200,
    window_tokens=96,
    part_tokens_min=4,
    part_tokens_max=40,
    elsewhere=0.0,
    learning_rate=1e-3,
    warmup=0.1,
    pool=20,
)
CONTEXT = " ".join(f"w{number} is here ." for number in range(30))
PIECES = {number: piece for piece, number in WORDPIECE.tokenizer.get_vocab().items()}


def question(text: str = "w17") -> Question:
    start = CONTEXT.index(text)
    return Question("where is it", CONTEXT, ((start, start + len(text)),), "any", "any")


def text_of(ids: np.ndarray) -> str:
    return "".join(PIECES[int(number)].removeprefix("##") for number in ids)


def drawn(asked: Question, seed: int = 0, **changes: object):
    schedule = AnswerSchedule(**{**{name: getattr(SCHEDULE, name) for name in SCHEDULE.__struct_fields__}, **changes})
    return example_of(asked, WORDPIECE, schedule, np.random.default_rng(seed))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_targets_are_the_tokens_of_the_answer_wherever_the_part_begins(seed: int) -> None:
    example = drawn(question(), seed)
    first, last = example.targets
    assert text_of(example.token_ids[first : last + 1]) == "w17"
    assert example.allowed[first, 0] and example.allowed[last, 1]
    asked = len(WORDPIECE.encode("where is it").ids)
    assert example.token_ids[0] == WORDPIECE.cls_id and example.token_ids[asked + 1] == WORDPIECE.sep_id
    assert example.allowed[0].all() and not example.allowed[1 : asked + 2].any() and not example.allowed[-1].any()
    assert len(example.token_ids) <= asked + 3 + SCHEDULE.part_tokens_max


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_part_from_elsewhere_does_not_touch_the_answer_and_means_row_0(seed: int) -> None:
    example = drawn(question(), seed, elsewhere=1.0)
    assert example.targets == (0, 0)
    assert "w17is" not in text_of(example.token_ids)


def test_without_an_answer_row_0_is_right_and_an_answer_longer_than_a_part_is_left_out() -> None:
    nothing = Question("where", CONTEXT, (), "any", "any")
    assert drawn(nothing).targets == (0, 0)
    assert drawn(nothing, unanswerable=0.0) is None
    assert drawn(Question("where", CONTEXT, ((0, len(CONTEXT)),), "any", "any")) is None
    assert drawn(Question("where", " ", (), "any", "any")) is None


def test_batches_hold_every_question_once_a_round_within_their_size() -> None:
    asked = [question(f"w{number} is") for number in range(30)]
    batches = answer_batches(asked, WORDPIECE, SCHEDULE, seed=3)
    seen: list[str] = []
    while len(seen) < 30:
        batch = next(batches)
        assert batch.token_ids.size <= SCHEDULE.batch_tokens
        for row, (first, last) in enumerate(batch.targets.tolist()):
            assert not batch.allowed[row, batch.lengths[row] :].any()
            seen.append(text_of(batch.token_ids[row, first : last + 1]))
    assert sorted(seen) == sorted(f"w{number}is" for number in range(30))


def test_padding_changes_no_example() -> None:
    one, other = drawn(question("w3"), 1), drawn(question("w25"), 2)
    batch = pad([one, other])
    for row, example in enumerate((one, other)):
        assert batch.token_ids[row, : batch.lengths[row]].tolist() == example.token_ids.tolist()
        assert tuple(batch.targets[row]) == example.targets


def test_the_recipe_of_the_release_is_read_and_names_its_share_alike_source(request: pytest.FixtureRequest) -> None:
    read = read_answer_recipe(request.config.rootpath / "appliance" / "training" / "recipes" / "doc-answer.toml")
    assert (read.recipe.id, read.recipe.task) == ("doc-answer", "answer")
    assert any("BY-SA" in source.licence for source in read.recipe.sources)
    assert "SA" in read.recipe.card.licence
