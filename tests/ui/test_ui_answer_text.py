"""Guaranteed: what a model writes is shown with its headings, lists, tables and code, and as nothing else: no element,
attribute or address comes from it, every text of it can be read, and it is one line that Markdown parses no further."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_ui_escaping import HOSTILE

from ui import chat_views
from ui.answer_text import FORMATTED_CHARS_MAX, formatted
from ui.client import Refused

ELEMENTS = set("p ul ol li blockquote em strong s thead tbody tr th td h4 br hr code pre table div".split())
REGION = {"tabindex": "0", "role": "group"}
TABLE = "\n| a | b |\n|---|---|\n| 1 |\n"
LINES = ("# ", "## ", "- ", "* ", "1. ", "> ", "```", "    ", "\n", "\n\n", TABLE)
MARKS = (
    "`",
    "~~",
    "**",
    "_",
    "\\",
    "|",
    "[x](http://e.test)",
    "![y](z)",
    "<b>",
    "</p>",
    "<script>",
    "&lt;",
    "a\u202eb",
)
PIECES = st.sampled_from(LINES + MARKS)


class Reader(HTMLParser):
    """What a browser makes of it."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data

    def handle_comment(self, data) -> None:
        raise AssertionError("a comment")

    def handle_decl(self, decl) -> None:
        raise AssertionError("a declaration")


def check(text: str) -> Reader:
    html = formatted(text)
    assert "\n" not in html
    assert not text.strip() or re.match(r"<(p|ul|ol|blockquote|h4|pre|hr|div)\b", html), html[:40]
    read = Reader(html)
    for tag, attributes in read.elements:
        assert tag in ELEMENTS
        if tag == "ol":
            assert set(attributes) <= {"start"} and (attributes.get("start") or "0").isdecimal()
        elif attributes:
            assert (tag, attributes) in [
                ("pre", {**REGION, "aria-label": "Code"}),
                ("div", {**REGION, "aria-label": "Table", "class": "plain-frame"}),
                ("table", {"class": "plain"}),
                ("p", {"class": "as-typed"}),
            ]
    return read


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_hostile_text_brings_no_element_attribute_or_address(text):
    read = check(text)
    if "evil.test" in text:
        assert "evil.test" in read.text  # it can be read, and that is all
    if "<script>" in text:
        assert "<script>" in read.text


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES | st.text(max_size=8), max_size=30).map("".join))
@example("1. a\n2. b\n\n7) c")
@example("> - `a`\n> > # b\n\n    code\n\n***")
def test_whatever_is_written_is_drawn_with_known_elements_that_are_all_closed(text):
    check(text)


def test_markdown_is_drawn():
    html = formatted("# Plan\n\nA **b** *c* `d`\ne\n\n7. f\n\n| g |\n|---|\n| h |\n\n```py\n<i>\n```")
    assert html == (
        "<h4>Plan</h4><p>A <strong>b</strong> <em>c</em> <code>d</code><br>e</p>"
        '<ol start="7"><li>f</li></ol>'
        '<div class="plain-frame" tabindex="0" role="group" aria-label="Table"><table class="plain">'
        "<thead><tr><th>g</th></tr></thead><tbody><tr><td>h</td></tr></tbody></table></div>"
        '<pre tabindex="0" role="group" aria-label="Code"><code>&#60;i&#62;&#10;</code></pre>'
    )


def test_a_very_long_answer_is_drawn_as_it_was_typed():
    text = "**a** " * FORMATTED_CHARS_MAX
    assert Reader(formatted(text)).text == text
    assert [tag for tag, _ in Reader(formatted(text)).elements] == ["p"]


def turn(at: int, role: str, text: str = "hm", **more) -> dict:
    return {"at": at, "role": role, "text": text, "time": "2026-11-26T09:00:00+00:00", **more}


def test_only_the_end_of_a_long_conversation_is_drawn_and_says_so():
    turns = [turn(at, "user" if at % 2 == 0 else "assistant") for at in range(chat_views.DRAWN_TURNS + 6)]
    drawn = chat_views.talk({"id": "ab" * 16, "turns": turns})
    assert drawn.count("<article") == chat_views.DRAWN_TURNS and "6 earlier messages are not drawn" in drawn
    assert chat_views.talk({"id": "ab" * 16, "turns": turns}, everything=True).count("<article") == len(turns)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_hostile_titles_names_and_messages_stay_text(text):
    listed = {"data": [{"id": text, "title": text, "turns": 2, "changed": text, "altered": False}]}
    chosen = chat_views.choices({"data": [{"id": text, "kind": "model"}]}, text + "2")
    chat = {"id": text, "title": text, "turns": [turn(0, "user", text), turn(1, "assistant", text, model=text)]}
    for html in (chat_views.side(listed, ""), chat_views.head(chat, chosen), chat_views.talk(chat)):
        read = Reader(html)
        assert {tag for tag, _ in read.elements}.isdisjoint({"script", "img", "style", "svg", "mark"})
        names = {name for _, attributes in read.elements for name in attributes}
        assert not [name for name in names if name.startswith("on")]


def test_what_the_guard_found_is_marked_and_said_in_a_sentence():
    guard = {
        "policy": "mark", "prompt": {"NAME": 1}, "answer": {"MRN": 1},
        "question_marks": [{"start": 5, "end": 9, "label": "NAME"}],
        "answer_marks": [{"start": 3, "end": 8, "label": "MRN"}],
    }  # fmt: skip
    turns = [turn(0, "user", "Dear <b>!"), turn(1, "assistant", "**x 48213", model="m", about={"guard": guard})]
    drawn = chat_views.talk({"id": "ab" * 16, "turns": turns})
    assert '<mark class="kind-name">&#60;b&#62;&#33;<span class="kind">Name</span></mark>' in drawn
    assert '<mark class="kind-number"> 4821<span' in drawn
    read = Reader(drawn).text
    assert "Found in this message and what was sent with it, and read by the model: 1 × Name." in read
    assert "Found in this answer: 1 × MRN." in read and "Show what was marked" in read


def test_what_was_masked_is_marked_in_one_s_own_words_and_shown_as_the_model_had_it():
    marks = [{"start": 5, "end": 9, "label": "NAME", "placeholder": "[NAME 1]"}]
    guard = {"policy": "mask", "prompt": {"NAME": 1}, "answer": {"MRN": 1}, "question_marks": marks, "answer_marks": []}
    turns = [turn(0, "user", "Dear Ruth!"), turn(1, "assistant", "[MRN 1]", model="m", about={"guard": guard})]
    drawn = chat_views.talk({"id": "ab" * 16, "turns": turns})
    assert '<mark class="kind-name">Ruth<span' in drawn and '<mark class="kind-name">&#91;NAME 1&#93;<span' in drawn
    read = Reader(drawn).text
    assert "Kept from the model, in this message and what was sent with it: 1 × Name." in read
    assert "Show what the model readDear [NAME 1]Name!" in read and "Show what the model wrote" not in read
    assert "Written by the model and hidden from you: 1 × MRN." in read
    turns[1] |= {
        "text": "Hi, Ruth.",
        "about": {"guard": {**guard, "answer_marks": [marks[0] | {"start": 4, "end": 8}]}},
    }
    assert (
        "Show what the model wroteHi, [NAME 1]Name." in Reader(chat_views.talk({"id": "ab" * 16, "turns": turns})).text
    )


def test_turns_that_were_left_out_are_said_and_so_is_the_policy():
    turns = [turn(0, "user"), turn(1, "assistant", model="m", about={"left_out": 4})]
    assert "The oldest 4 messages were not read" in Reader(chat_views.talk({"id": "ab" * 16, "turns": turns})).text
    assert "placeholders" in chat_views.policy({"policy": "mask"}) and chat_views.policy({"policy": "allow"}) == ""


def test_a_refusal_of_the_guard_leads_to_de_identifying():
    drawn = chat_views.refused(Refused(400, "guard_blocked", "the request holds 1 identifier (NAME 1)", "POST /v1/x"))
    assert "holds 1 identifier" in Reader(drawn).text and 'href="/app/deidentify"' in drawn and "/v1/" not in drawn
    assert "try again" in chat_views.refused(Refused(429, "queue_full", "full", "try again"))


def test_who_can_answer_begins_with_the_choice_and_keeps_a_model_that_was_removed():
    listed = [("m", "model"), ("s", "specialist"), ("auto", "router")]
    models = {"data": [{"id": name, "kind": kind} for name, kind in listed]}
    models["data"].append({"id": "q", "kind": "specialist", "name": "Quotes", "endpoints": ["/v1/specialists/q/run"]})
    chosen = chat_views.choices(models, "gone")
    assert chosen.groups == (
        ("", (("auto", "Choose for me"),)),
        ("Models that write", (("m", "m"), ("gone", "gone (not here any more)"))),
        ("Specialists", (("s", "s"),)),
    )
    assert (chosen.chosen, chat_views.choices(models).chosen) == ("gone", "m")
    kept = chat_views.choices(models, "q")
    assert kept.groups[2] == ("Specialists", (("s", "s"), ("q", "Quotes (needs more than a message)")))
    models["data"][0] |= {"parameters": 1_700_000_000}
    models["data"].append({"id": "far", "kind": "model", "owned_by": "upstream"})
    assert chat_views.choices(models).groups[1][1] == (
        ("m", "m (1.7 billion parameters)"), ("far", "far (on another server of this site)"),
    )  # fmt: skip
    assert chat_views.choices({"data": models["data"][1:3]}) is None
