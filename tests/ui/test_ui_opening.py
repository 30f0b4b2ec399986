"""A page opens with one event, whatever its parts: of several, Gradio may leave one without its answer."""

import asyncio
from collections import Counter
from types import SimpleNamespace

import gradio as gr
import pytest
from fake_api import FakeApi

from ui.client import Client, Refused
from ui.drawing import Opening
from ui.gradio_pages import build_blocks
from ui.markup import fragment
from ui.policy import PAGES
from ui.record_panel import _record
from ui.settings import UiSettings


def test_nothing_on_any_page_sets_off_two_events():
    blocks = asyncio.run(_built())
    set_off = Counter((function.page, target) for function in blocks.fns.values() for target in function.targets)
    opened = Counter(page for page, (_, trigger) in set_off if trigger == "load")
    assert set(set_off.values()) == {1}
    assert opened["audit"] == opened["site"] == opened["assistant"] == 1
    assert set(opened.values()) == {1}
    # Nor does one event set off the next, which would be sent as the stream of the first closes.
    assert not [function for function in blocks.fns.values() if function.trigger_after is not None]


WAITS = tuple(fragment(f"{name}_waiting") for name in ("activity", "card", "chat", "records", "standing"))
ADDRESSES = (
    {},
    dict.fromkeys(("specialist", "record", "job", "conversation"), "not-here"),
)


@pytest.mark.parametrize("address", ADDRESSES, ids=("plain", "of nothing"))
@pytest.mark.parametrize("role", ["user", "auditor", "admin"])
def test_no_part_of_an_open_page_still_waits_whoever_opened_it(role, address):
    assert asyncio.run(_waiting(role, address)) == {}


async def _waiting(role, address):
    """By page, the places that say that something is coming, when nothing is."""
    fake = FakeApi(users={"m": [role]})
    blocks = build_blocks(Client(fake.app), UiSettings())
    request = SimpleNamespace(
        client=None, cookies={"sid": fake.open_session("m")}, query_params=address, session_hash="tab"
    )
    found = {}
    for function in blocks.fns.values():
        if function.page not in PAGES or [trigger for _, trigger in function.targets] != ["load"]:
            continue
        shown = {output: output.value for output in function.outputs if isinstance(output, gr.Markdown)}
        drawn = function.fn(request)
        for each in [each async for each in drawn] if hasattr(drawn, "__aiter__") else [await drawn]:
            shown |= {output: value for output, value in each.items() if output in shown and value != gr.skip()}
        waiting = [output.elem_id for output, value in shown.items() if value in WAITS or "internal_error" in value]
        if waiting:
            found[function.page] = waiting
    return found


def test_more_digits_than_a_number_of_a_record_can_have_are_no_number():
    asked = []

    class Asked:
        async def record_numbered(self, seq):
            asked.append(seq)
            raise Refused(404, "record_not_found", "there is no such record")

        async def record(self, record_id):
            asked.append(record_id)
            raise Refused(404, "record_not_found", "there is no such record")

    for wanted in ("9" * 18, "9" * 19):
        asyncio.run(_record(Asked(), wanted))
    assert asked == [10**18 - 1, "9" * 19]


async def _built():
    return build_blocks(Client(FakeApi().app), UiSettings())  # Gradio makes a loop for each lock where none runs


def opened_with(parts, followed=None, places=3):
    """What the event of a page shows in `places` texts, once or again and again; None where it leaves one as it is."""
    return asyncio.run(_opened_with(parts, followed, places))


async def _opened_with(parts, followed, places):
    with gr.Blocks() as blocks:
        texts = [gr.Markdown() for _ in range(places)]
        opening = Opening()
        for draw, at in parts:
            opening.show(draw, *(texts[place] for place in at))
        if followed is not None:
            opening.follow(followed[0], *(texts[place] for place in followed[1]))
        opening.wire(blocks)
    (function,) = blocks.fns.values()
    drawn = function.fn("the request")
    every = [each async for each in drawn] if hasattr(drawn, "__aiter__") else [await asyncio.wait_for(drawn, 10)]
    return [[_shown(each, text) for text in texts] for each in every]


def _shown(drawn, text):
    value = drawn.get(text)
    return None if value == gr.skip() else value


def part(*values):
    async def draw(request):
        assert request == "the request"
        return values if len(values) > 1 else values[0]

    return draw


def test_every_part_finds_its_places():
    assert opened_with([(part("a"), [2]), (part("b", "c"), [0, 1])]) == [["b", "c", "a"]]


def test_what_one_part_said_stays_where_another_says_nothing():
    said, silent, skipped = part("a problem", "x"), part("", "y"), part(gr.skip(), "z")
    assert opened_with([(said, [0, 1]), (silent, [0, 2])]) == [["a problem", "x", "y"]]
    assert opened_with([(silent, [0, 2]), (said, [0, 1])]) == [["a problem", "x", "y"]]
    assert opened_with([(skipped, [0, 1]), (silent, [0, 2])]) == [["", "z", "y"]]


def test_a_page_with_nothing_to_say_stays_as_it_is():
    assert opened_with([(part(gr.skip()), [1])]) == [[None, None, None]]


def test_parts_are_shown_before_what_is_followed():
    async def follow(request):
        assert request == "the request"
        yield "1", gr.skip()
        yield gr.skip(), gr.skip()
        yield "2", "done"

    parts = [(part("head"), [0])]
    later = [[None, "1", None], [None, None, None], [None, "2", "done"]]
    assert opened_with(parts, (follow, [1, 2])) == [["head", None, None], *later]
    assert opened_with([], (follow, [1, 2])) == later


def test_what_a_part_said_is_not_emptied_by_what_is_followed():
    async def follow(request):
        yield "", "1"
        yield "a problem", "2"

    parts = [(part("said", "record"), [0, 2])]
    assert opened_with(parts, (follow, [0, 1])) == [
        ["said", None, "record"], [None, "1", None], ["a problem", "2", None],
    ]  # fmt: skip


def test_a_part_that_breaks_says_so_in_its_place_and_the_others_are_shown():
    async def broken(request):
        raise KeyError("what the API did not send")

    ((problem, other, third),) = opened_with([(broken, [0, 2]), (part("other"), [1])])
    assert "could not be shown" in problem
    assert "did not send" not in problem
    assert (other, third) == ("other", None)


def test_parts_are_drawn_at_once():
    first_is_there, second_is_there = asyncio.Event(), asyncio.Event()

    async def one(_):
        first_is_there.set()
        await second_is_there.wait()
        return "one"

    async def other(_):
        second_is_there.set()
        await first_is_there.wait()
        return "other"

    assert opened_with([(one, [0]), (other, [1])]) == [["one", "other", None]]
