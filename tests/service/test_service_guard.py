"""Under a policy, nothing that was found in a prompt reaches the model, and an answer that is written piece by piece
shows what the whole one would: wherever it is cut, no identifier is shown in parts. Found is by a hand-written detector
of a few names; the real one is asked in the tests of the API. Without a detector, only `allow` lets anybody through.
"""

import asyncio
import json
import re
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.accounts.guard_rules import GuardRules
from appliance.config import GuardConfig
from appliance.engine.generation.values import GenerationRequest, Message
from appliance.errors import GuardBlocked, GuardUnavailable, SpecialistNotFound, UnknownOption
from appliance.service.guard import Guard, GuardRule, Mark, guard_rule
from appliance.specialists.guard import Placeholders
from appliance.specialists.guard_memory import GuardMemory, Numbers
from appliance.types import Principal, Span, SpecialistRef, Task

NAMES = ("Ana Lima", "Jon Roe", "Eve Poe")
FOUND = (*NAMES, "4711")  # a number is found too, where no placeholder can stand
ANA = Principal("user:1", "ana", "user", frozenset({"user"}))
pieces = st.sampled_from((*NAMES, "[NAME 1]", "[NAME 2]", "[NAME", " ", "and ", "a note. ", "x" * 50, "\n", "1]"))


@dataclass
class Settings:
    guard: GuardConfig = field(default_factory=lambda: GuardConfig(lookahead_chars=64, context_chars=100, step_chars=1))


@dataclass
class Site:
    """As much of an appliance as a guard asks."""

    config: Settings = field(default_factory=Settings)
    guard_memory: GuardMemory = field(default_factory=lambda: GuardMemory(GuardConfig()))


@dataclass
class Notes:
    """Takes the exchange's notes."""

    said: list[dict] = field(default_factory=list)
    principal: Principal = ANA

    async def note(self, event: str, attributes: dict) -> None:
        assert event == "guard.decided"
        self.said.append(attributes)


class Entry:
    ref = SpecialistRef("phi-deid", "1.0.0", "ab" * 32, Task.TAG)
    sha256 = "ab" * 32


class Finding(Guard):
    """Finds the names above."""

    asked: tuple[str, ...] = ()

    async def _find(self, texts):
        self.asked = (*self.asked, *texts)
        return [tuple(Span(m.start(), m.end(), "NAME", 1.0) for m in re.finditer("|".join(FOUND), t)) for t in texts]


def guard_of(policy: str, prompt, *, site: Site | None = None, kind=Finding, who: Principal = ANA, **values) -> Finding:
    prompt = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    rule = GuardRule("ward", policy, Entry())
    return kind(site or Site(), Notes(principal=who), rule, GenerationRequest(prompt, who.id, **values))


def answered(guard: Finding, parts: list[str]) -> str:
    async def all_of() -> str:
        await guard.screened()
        shown = [await guard.feed(part, final=number == len(parts) - 1) for number, part in enumerate(parts)]
        return "".join(shown)

    return asyncio.run(all_of())


def test_model_reads_placeholders_and_the_asker_reads_names():
    guard = guard_of("mask", "Ana Lima met Jon Roe.")
    assert asyncio.run(guard.screened()).prompt[0].content == "[NAME 1] met [NAME 2]."
    assert asyncio.run(guard.feed("Dear [NAME 2], [NAME 1] and Eve Poe.", final=True)) == (
        "Dear Jon Roe, Ana Lima and [NAME 3]."
    )
    assert guard.report().prompt == {"NAME": 2} and guard.report().answer == {"NAME": 1}
    assert [said["direction"] for said in guard.exchange.said] == ["prompt", "answer"]
    assert "Lima" not in str(guard.exchange.said) and guard.exchange.said[0]["label_NAME"] == 2


def test_numbers_go_through_the_conversation_and_through_what_tools_said():
    call = {"id": "call_Ana Lima", "function": {"name": "look", "arguments": '{"who": "Jon Roe"}'}}
    turns = (
        Message("user", "Ana Lima"),
        Message("assistant", "[NAME 9]", {"tool_calls": [call]}),
        Message("tool", "Jon Roe and Ana Lima", {"tool_call_id": "Ana Lima"}),
    )
    prompt = asyncio.run(guard_of("mask", turns).screened()).prompt
    assert [turn.content for turn in prompt] == ["[NAME 1]", "[NAME 9]", "[NAME 2] and [NAME 1]"]
    assert prompt[1].fields["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"who": "[NAME 2]"}'}
    assert prompt[1].fields["tool_calls"][0]["id"] == "call_Ana Lima" and prompt[2].fields["tool_call_id"] == "Ana Lima"


def test_prompt_may_hold_any_character_that_nobody_uses():
    turns = (Message("user", "".join(map(chr, range(0xE000, 0xF900)))), Message("user", "Ana Lima"))
    prompt = asyncio.run(guard_of("mask", turns).screened()).prompt
    assert [turn.content for turn in prompt] == [turns[0].content, "[NAME 1]"]


def test_history_that_comes_back_with_names_gets_the_same_numbers():
    first = asyncio.run(guard_of("mask", "Ana Lima asks").screened()).prompt
    later = (Message("user", "Ana Lima asks"), Message("assistant", "Dear Ana Lima"), Message("user", "and Jon Roe?"))
    assert asyncio.run(guard_of("mask", later).screened()).prompt[0] == first[0]


@settings(deadline=None)
@given(st.lists(pieces, max_size=12), st.lists(st.integers(0, 300), max_size=12))
@example(["Eve Poe"], [3])
@example(["x" * 50, "x" * 50, "Eve Poe", " ", "x" * 50, "x" * 50], [102, 104])
@example(["[NAME 1]", "Eve Poe"], [4, 9, 10])
def test_masked_answer_is_the_same_wherever_it_is_cut(parts, cuts):
    text = "".join(parts)
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    cut = [text[start:end] for start, end in pairwise(places)] or [""]
    prompt = "Ana Lima met Jon Roe."
    whole = answered(guard_of("mask", prompt), [text])
    assert answered(guard_of("mask", prompt), cut) == whole
    assert "Eve Poe" not in whole


class Swayed(Guard):
    """Finds what depends on all of the text that it is given: a stream that gave it other texts would show others."""

    async def _find(self, texts):
        return [
            tuple(
                Span(m.start(), m.end(), "NAME", 1.0)
                for m in re.finditer(r"\S+", text)
                if m[0] in ("Poe", "Eve") or (sum(map(ord, text)) + m.start()) % 5 == 0
            )
            for text in texts
        ]


class Titled(Guard):
    """Finds who is given a title, and nobody else."""

    async def _find(self, texts):
        return [
            tuple(Span(m.start(1), m.end(1), "NAME", 1.0) for m in re.finditer(r"Mrs\. (\w+ \w+)", t)) for t in texts
        ]


words_of_any_length = st.lists(
    st.sampled_from((*NAMES, "Mrs. ", "x" * 90, "a ", "note\n", " ", "[NAME 1]")), max_size=60
)


@settings(deadline=None)
@given(words_of_any_length, st.lists(st.integers(0, 3000), max_size=12))
@example(["x" * 90] * 20, [100, 1000])
def test_whoever_finds_a_stream_shows_and_reports_what_the_whole_answer_would(parts, cuts):
    text = "".join(parts)
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    cut = [text[start:end] for start, end in pairwise(places)] or [""]
    site = Site(Settings(GuardConfig(lookahead_chars=64, context_chars=100, step_chars=40, hold_chars_max=400)))
    whole, streamed, by_one = (guard_of("mask", "who?", kind=Swayed, site=site) for _ in range(3))
    shown = answered(whole, [text])
    assert answered(streamed, cut) == shown and streamed.report() == whole.report()
    assert answered(by_one, list(text) or [""]) == shown


def test_value_found_once_in_an_answer_is_hidden_however_much_later_it_comes_again():
    """Far beyond what is read again for context, and where nothing around it gives it away."""

    text = "Mrs. Hannah Okafor came. " + "All was well. " * 100 + "Hannah Okafor left."
    guard = guard_of("mask", "who?", kind=Titled)
    assert answered(guard, [text]).endswith("[NAME 1] left.") and guard.report().answer == {"NAME": 2}


def test_name_that_one_message_gives_away_is_masked_in_all_of_them():
    turns = tuple(Message("user", text) for text in ("Okafor called.", "Mrs. Hannah Okafor called.", "And Okafor?"))
    prompt = asyncio.run(guard_of("mask", turns, kind=Titled).screened()).prompt
    assert [turn.content for turn in prompt] == ["[NAME 1] called.", "Mrs. [NAME 1] called.", "And [NAME 1]?"]


def test_identifier_without_an_end_is_hidden_in_parts_and_holds_nothing_back_for_ever():
    class Everything(Guard):
        async def _find(self, texts):
            return [(Span(0, len(text), "OTHER_ID", 1.0),) if text else () for text in texts]

    site = Site()
    site.config.guard = GuardConfig(lookahead_chars=64, context_chars=100, step_chars=50, hold_chars_max=400)
    guard, held = guard_of("mask", "who?", site=site, kind=Everything), []

    async def read() -> str:
        shown = []
        for _ in range(500):
            shown.append(await guard.feed("secret "))
            held.append(guard._cuts.held_chars)
        return "".join(shown) + await guard.feed("", final=True)

    shown = asyncio.run(read())
    assert "secret" not in shown and shown.startswith("[OTHER_ID 1]") and max(held) < 400 + 64 + 50 + 7


def test_only_what_is_new_is_looked_at():
    site = Site()
    first = guard_of("mask", "Ana Lima asks", site=site)
    shown = answered(first, ["Dear [NAME 1]"])
    turns = (Message("user", "Ana Lima asks"), Message("assistant", shown), Message("user", "and Jon Roe?"))
    later = guard_of("mask", turns, site=site)
    asyncio.run(later.screened())
    assert later.asked == ("Dear Ana Lima", "and Jon Roe?")
    again = guard_of("mask", turns, site=site)
    assert asyncio.run(again.screened()).prompt[2].content == "and [NAME 2]?" and again.asked == ()
    other_policy = guard_of("mark", turns, site=site)
    asyncio.run(other_policy.screened())
    assert len(other_policy.asked) == 3


def test_one_name_has_one_placeholder_through_the_conversation_whoever_wrote_it_first():
    site = Site()
    assert answered(guard_of("mask", "who?", site=site), ["Jon Roe, says Eve Poe"]) == "[NAME 1], says [NAME 2]"
    turns = (
        Message("user", "who?"), Message("assistant", "[NAME 1], says [NAME 2]"), Message("user", "tell Ana Lima"),
    )  # fmt: skip
    second = guard_of("mask", turns, site=site)
    prompt = asyncio.run(second.screened()).prompt
    assert prompt[2].content == "tell [NAME 3]"
    assert asyncio.run(second.feed("Eve Poe, Jon Roe: [NAME 3], [NAME 1].", final=True)) == (
        "[NAME 2], [NAME 1]: Ana Lima, [NAME 1]."
    )
    stranger = guard_of("mask", turns, site=site, who=Principal("user:2", "ben", "user", frozenset({"user"})))
    asyncio.run(stranger.screened())
    assert asyncio.run(stranger.feed("Jon Roe", final=True)) == "[NAME 4]"


def test_numbers_stay_when_the_message_they_came_from_is_left_out_or_found_later():
    site = Site()
    shown = answered(guard_of("mask", "Ana Lima met Jon Roe", site=site), ["so [NAME 2]?"])
    turns = (Message("user", "Ana Lima met Jon Roe"), Message("assistant", shown), Message("user", "Eve Poe, Jon Roe"))
    prompt = asyncio.run(guard_of("mask", turns, site=site).screened()).prompt
    assert [turn.content for turn in prompt] == ["[NAME 1] met [NAME 2]", "so [NAME 2]?", "[NAME 3], [NAME 2]"]


def test_what_the_asker_wrote_is_shown_as_the_model_wrote_it_and_where_it_was_put_back_is_said():
    guard = guard_of("mask", "Ana Lima asks")
    text = answered(guard, ["Ana Lima, ", "so [NAME 1], ", "not Eve Poe"])
    assert text == "Ana Lima, so Ana Lima, not [NAME 2]"
    report = guard.report()
    assert report.answer == {"NAME": 1} and report.answer_marks == (Mark(1, 13, 21, "NAME", "[NAME 1]"),)
    assert report.prompt_marks == (Mark(0, 0, 8, "NAME", "[NAME 1]"),)


@settings(deadline=None)
@given(st.lists(pieces.filter(lambda piece: "Eve" not in piece), max_size=8), st.integers(1, 40))
def test_blocked_answer_never_shows_a_part_of_a_name(parts, size):
    text = "".join(parts).replace("Ana Lima", "she").replace("Jon Roe", "he") + " then Eve Poe came"
    cut = [text[start : start + size] for start in range(0, len(text), size)]
    guard, shown = guard_of("block", "who?"), []

    async def read() -> None:
        await guard.screened()
        for number, part in enumerate(cut):
            shown.append(await guard.feed(part, final=number == len(cut) - 1))

    with pytest.raises(GuardBlocked, match="NAME 1"):
        asyncio.run(read())
    assert text.startswith("".join(shown)) and "Eve" not in "".join(shown)
    assert guard.exchange.said[-1]["direction"] == "answer"


def test_no_more_is_held_back_than_was_set():
    guard = guard_of("mask", "who?")
    text = "word " * 200
    shown = "".join(asyncio.run(guard.feed(text[place : place + 5])) for place in range(0, len(text), 5))
    assert 0 < len(text) - len(shown) <= 64 + 5


def test_block_refuses_the_request_and_says_labels_and_no_names():
    with pytest.raises(GuardBlocked) as refused:
        asyncio.run(guard_of("block", "Ana Lima and Jon Roe").screened())
    assert "2 identifiers (NAME 2)" in refused.value.message and "Lima" not in refused.value.message


def test_mark_changes_nothing_and_says_where():
    guard = guard_of("mark", (Message("system", "be kind"), Message("user", "I am Ana Lima")))
    assert answered(guard, ["Dear ", "Ana Lima"]) == "Dear Ana Lima"
    report = guard.report()
    assert report.prompt_marks == (Mark(1, 5, 13, "NAME"),) and report.answer_marks == (Mark(2, 5, 13, "NAME"),)


def test_answer_bound_to_a_schema_has_the_asker_s_names_as_json_and_no_other():
    schema = {"type": "object"}
    bound = guard_of("mask", "Ana Lima", json_schema=schema)
    assert answered(bound, ['{"to": "[NAME 1]"}']) == '{"to": "Ana Lima"}'
    with pytest.raises(GuardBlocked, match="NAME 1"):
        answered(guard_of("mask", "Ana Lima", json_schema=schema), ['{"to": "Eve Poe"}'])


def test_arguments_of_calls_have_the_asker_s_names_and_no_other():
    guard = guard_of("mask", "Ana Lima")
    asyncio.run(guard.screened())
    said = '{"id": "[NAME 1]", "text": "Dear [NAME 1],\\nEve Poe", "Jon Roe": 5}'
    shown = json.loads(asyncio.run(guard.screened_arguments(said)))
    assert shown == {"id": "Ana Lima", "text": "Dear Ana Lima,\n[NAME 2]", "[NAME 3]": 5}
    asyncio.run(guard.feed("", final=True))
    assert guard.report().answer == {"NAME": 2}


def test_asker_s_name_is_put_into_arguments_as_json():
    guard = guard_of("mask", "Ana Lima")
    asyncio.run(guard.screened())
    guard._numbers = Numbers(Placeholders((("NAME", 1, 'Ana "A"\nLima'),)))
    assert json.loads(asyncio.run(guard.screened_arguments('{"to": "[NAME 1]"}'))) == {"to": 'Ana "A"\nLima'}


@pytest.mark.parametrize(("policy", "said"), [("block", '{"to": "Eve Poe"}'), ("mask", '{"to": 4711}')])
def test_call_that_cannot_be_shown_ends_the_answer(policy, said):
    guard = guard_of(policy, "who?")
    with pytest.raises(GuardBlocked, match="NAME 1"):
        asyncio.run(guard.screened_arguments(said))
    assert guard.exchange.said[-1]["direction"] == "answer"


def test_marked_arguments_are_counted_and_not_changed():
    guard = guard_of("mark", "who?")
    said = '{"to": "Eve Poe"}'
    assert asyncio.run(guard.screened_arguments(said)) == said
    asyncio.run(guard.feed("", final=True))
    assert guard.report().answer == {"NAME": 1} and guard.exchange.said[-1]["found"] == 1


@pytest.mark.parametrize("policy", ["mask", "block"])
def test_probabilities_and_token_ids_would_show_what_is_hidden(policy):
    with pytest.raises(UnknownOption, match="probabilities"):
        guard_of(policy, "who?", logprobs=0)
    with pytest.raises(UnknownOption, match="token ids"):
        guard_of(policy, (1, 2, 3))


class Unknown:
    """An appliance whose rules are given and which has no detector."""

    def __init__(self, policy: str) -> None:
        self.accounts = self.registry = self
        self._rules = GuardRules().with_policy("default", policy)

    def guard_rules(self) -> GuardRules:
        return self._rules

    def get(self, name: str):
        raise SpecialistNotFound(name)


@pytest.mark.parametrize("policy", ["mark", "mask", "block"])
def test_without_a_detector_every_policy_but_allow_lets_nobody_through(policy):
    with pytest.raises(GuardUnavailable) as refused:
        asyncio.run(guard_rule(Unknown(policy), ANA))
    assert "phi-deid" in refused.value.hint
    assert asyncio.run(guard_rule(Unknown("allow"), ANA)).detector is None
