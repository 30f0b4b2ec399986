"""Guaranteed: whatever a note, a label, a name or a record holds, the pages show it as text. Shown by parsing what
the templates produce: the visible text is the input, and no element, attribute or line end comes from it. The
browser test repeats the hostile examples in Chromium, behind Gradio's Markdown parser."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ui import audit_views
from ui.client import Refused, SignedIn
from ui.markup import fragment, inert, kind_class, label_name, marked_text, page

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</div></mark></span><h1>free</h1>",
    '" onmouseover="alert(1)" x="',
    "' autofocus onfocus='alert(1)",
    "&lt;b&gt; &amp; &#60;script&#62; &NewLine;",
    "**bold** _it_ `code` ~~gone~~ # head\n- list\n1. one\n> quote\n| a | b |\n|---|---|",
    "\n\n    indented code\n\n```mermaid\ngraph TD\n```\n\n<script>alert(1)</script>\n\n",
    "[x](javascript:alert(1)) ![x](http://evil.test/?q=1) <http://evil.test> www.evil.test",
    "[ref]: http://evil.test\n[ref]",
    "$$\\href{javascript:alert(1)}{x}$$ \\(x\\) \\[x\\] $x$",
    "{{ 7 * 7 }} {% raw %} ${7*7} <%= 7 %>",
    "\u202egnp.exe\u202c \u2066isolate\u2069 \u200bzero\u200b \ufeffbom",
    "\0nul \x1b[31mred\x07",
    "\u2028line\u2029paragraph\x85next\x0bvertical\x0cfeed",
    '__i18n__{"key":"common.submit"} common.submit',
    "<![CDATA[x]]> <!-- x --> <?php ?> <!DOCTYPE html>",
    "שלום עולם مرحبا بالعالم e\u0301\u0302\u0303 👩‍⚕️",
    "w" * 5000,
]
AUDITOR = SignedIn("a.stone", ("auditor",), "", "", "", "user:3")
CONTROLS = re.compile(r"\u27e8U\+([0-9A-F]{4,6})\u27e9")


class Reader(HTMLParser):
    """What a browser makes of it: elements with attributes, and text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.text = ""
        self.other: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, tuple(attrs)))

    def handle_data(self, data) -> None:
        self.text += data

    def handle_comment(self, data) -> None:
        self.other.append(data)

    def handle_decl(self, decl) -> None:
        self.other.append(decl)

    def handle_pi(self, data) -> None:
        self.other.append(data)


def seen(text: str) -> str:
    """What a reader of `text` should see: line ends as one kind, controls as their code."""
    return inert_text(re.sub(r"\r\n?", "\n", text))


def inert_text(text: str) -> str:
    return Reader(str(inert(text))).text


any_text = st.text(st.characters(), max_size=200)


@settings(deadline=None)
@given(any_text)
def test_any_text_is_read_back_as_itself_with_its_controls_made_visible(text: str) -> None:
    read = Reader(str(inert(text)))
    assert (read.elements, read.other) == ([], [])
    restored = CONTROLS.sub(lambda match: chr(int(match[1], 16)), read.text)
    expected = CONTROLS.sub(lambda match: chr(int(match[1], 16)), re.sub(r"\r\n?", "\n", text))
    assert restored == expected


@settings(deadline=None)
@given(any_text)
@example("\n\n<b>")
def test_escaped_text_has_no_character_that_a_parser_acts_on(text: str) -> None:
    assert not re.search(r"[<>\"'`*_\[\]()!$\\{}|~\n\r\t.:/@=+-]", str(inert(text)))
    assert not re.search(r"&(?!#\d+;)", str(inert(text)))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_a_note_adds_no_element(text: str) -> None:
    middle = len(text) // 2
    spans = [{"start": middle, "end": middle + 1, "label": text[:40] or "X", "score": 1.0}]
    drawn = fragment("marked", marked=marked_text(text, spans), found=1)
    assert [tag for tag, _ in Reader(drawn).elements] == ["div", "mark", "span"]
    assert "\n" not in drawn
    assert drawn.startswith("<div")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_values_of_a_record_stay_values(text: str) -> None:
    named = ("event", "outcome", "actor", "actor_name", "exchange_id", "record_id", "time")
    record = dict.fromkeys(named, text)
    plain = dict.fromkeys(record, "x")
    shape = {"seq": 3, "actor_gone": False, "has_content": True, "attributes": {text: text}, "content": text}
    hostile = Reader(audit_views.record({**record, **shape}, exposure=None, user=AUDITOR))
    calm_record = {**plain, **shape, "attributes": {"x": "x"}, "content": "x"}
    calm = Reader(audit_views.record(calm_record, exposure=None, user=AUDITOR))
    names = [(tag, [name for name, _ in attributes]) for tag, attributes in hostile.elements]
    assert names == [(tag, [name for name, _ in attributes]) for tag, attributes in calm.elements]
    assert seen(text) in hostile.text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_in_a_refusal_or_a_form_stay_text(text: str) -> None:
    refusal = Refused(400, text, text, text)
    for html in (
        fragment("problem", problem=refusal, signed_out=False),
        page("login", site=text, username=text, notice=text, problem=refusal),
        page("setup", site=text, username=text, open=True, problem=refusal),
        page("message", site=text, heading=text, problem=refusal, back="/"),
    ):
        read = Reader(html)
        assert not [tag for tag, _ in read.elements if tag in {"img", "h3", "iframe", "svg:script", "b"}]
        assert sum(tag == "script" for tag, _ in read.elements) <= 1
        assert not [name for _, attributes in read.elements for name, _ in attributes if name.startswith("on")]
        assert seen(text).strip() in read.text or seen(text).strip() == ""


@pytest.mark.parametrize(
    ("message", "as_it_is"),
    [
        ("the text is empty", False),
        ("'m.keller' may not do this", True),
        ("`appliance models list` shows those that are here", True),
        ("appliance models verify small", True),
        ("", True),
    ],
)
def test_a_message_that_begins_with_a_name_or_a_command_gets_no_capital_letter(message: str, as_it_is: bool) -> None:
    refusal = Refused(400, "a_code", message, message or None)
    documents = (
        fragment("problem", problem=refusal, signed_out=False),
        page("login", site="", username="", notice=None, problem=refusal),
    )
    for html in documents:
        classes = [dict(attributes).get("class") for tag, attributes in Reader(html).elements if tag == "strong"]
        assert ("verbatim" in classes) is as_it_is


@st.composite
def text_with_spans(draw):
    text = draw(st.text(st.characters(exclude_categories=("Cs",)), max_size=80))
    offsets = st.integers(-3, len(text) + 3)
    spans = draw(st.lists(st.tuples(offsets, offsets, st.sampled_from(["NAME", "DATE", "<b>"])), max_size=8))
    return text, [{"start": start, "end": end, "label": label} for start, end, label in spans]


@settings(deadline=None)
@given(text_with_spans())
def test_marking_never_changes_the_text_whatever_the_spans(case) -> None:
    text, spans = case
    drawn = str(marked_text(text, spans))
    without_labels = re.sub(r'<span class="kind">[^<]*</span>', "", drawn)
    assert Reader(without_labels).text == inert_text(text)


def test_offsets_count_code_points() -> None:
    text = "👩‍⚕️ Ruth שרה"
    start = text.index("Ruth")
    drawn = str(marked_text(text, [{"start": start, "end": start + 4, "label": "NAME"}]))
    assert '<mark class="kind-name">Ruth<' in drawn


@pytest.mark.parametrize(
    ("label", "shown", "tint"),
    [("NAME", "Name", "kind-name"), ("HEALTH_PLAN", "Health plan", "kind-number"), ("MRN", "MRN", "kind-number"),
     ("OTHER_ID", "Other ID", "kind-other"), ("<b>", "<b>", "kind-other"), ("", "", "kind-other")],
)  # fmt: skip
def test_labels_have_readable_names_and_a_known_tint(label: str, shown: str, tint: str) -> None:
    assert (label_name(label), kind_class(label)) == (shown, tint)
