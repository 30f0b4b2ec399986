"""An answer that is being written is shown no further than what is certain: nothing is shown twice or left out, no cut
lies in a span, and no more is held back than was set, however it arrives.
"""

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.config import GuardConfig
from appliance.specialists.guard_answer import AnswerCuts, release_point
from appliance.types import Span

CONFIG = GuardConfig(lookahead_chars=64, context_chars=100, step_chars=20, hold_chars_max=400)
words = st.lists(st.sampled_from(("Ana Lima", "Jon", "Roe", " ", "word ", ", ", "x" * 30, "x" * 100)), max_size=60)


def spans_of(text: str) -> list[Span]:
    return [Span(found.start(), found.end(), "NAME", 1.0) for found in re.finditer("Ana Lima|Jon", text)]


def cuts_of(parts: list[str]) -> tuple[list[str], list[tuple[str, ...]], int]:
    """What left, what of it was found, and the most that was held back."""
    cuts, left, found, held = AnswerCuts(CONFIG), [], [], 0
    for number, part in enumerate(parts):
        cuts.feed(part, final=number == len(parts) - 1)
        while (look := cuts.next_look()) is not None:
            cut = cuts.cut(look, spans_of(look.text))
            left.append(cut.text)
            found += [cut.text[span.start : span.end] for span in cut.spans]
        held = max(held, cuts.held_chars)
    return left, found, held


@settings(deadline=None)
@given(words, st.integers(1, 200))
@example(["Ana Lima", "x" * 100, "x" * 100, "x" * 100, "x" * 100], 1)  # the only space lies in a name
def test_everything_leaves_once_and_no_identifier_is_cut(parts, size):
    text = "".join(parts)
    pieces = [text[place : place + size] for place in range(0, len(text), size)] or [""]
    left, found, held = cuts_of(pieces)
    assert "".join(left) == text
    assert found == [text[span.start : span.end] for span in spans_of(text)]
    assert held <= CONFIG.step_chars + 2 * CONFIG.lookahead_chars + size
    assert left == cuts_of([text])[0]


def test_long_word_is_not_held_back_for_ever():
    assert 0 < release_point("y" * 500, 0, [], lookahead=100) <= 400
    assert release_point("short text ", 0, [], lookahead=100) == 0
