"""Labelled data is read for each task, a line that cannot be judged by is refused with its number and no content."""

import io
import json

import pytest

from appliance.errors import GoldInvalid
from appliance.specialists.evaluation.gold import GoldBounds, gold_labels, read_gold
from appliance.specialists.manifest import Base, Manifest
from appliance.types import Material, Span, Task

BOUNDS = GoldBounds(items_max=5, line_bytes_max=500, text_chars_max=100)


def manifest(task=Task.CLASSIFY, **changes) -> Manifest:
    values = {
        "id": "triage",
        "version": "1.0.0",
        "task": task,
        "name": "Triage",
        "summary": "Sorts letters.",
        "labels": () if task in (Task.ANSWER, Task.EMBED) else ("NAME", "DATE"),
        "base": Base(name="minilm", weights_sha256="0" * 64, vocabulary_sha256="0" * 64),
        "licence": "Apache-2.0",
        "created": "2026-01-01",
    }
    return Manifest(**(values | changes))


def read(lines, kind, bounds=BOUNDS):
    raw = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    return read_gold(io.BytesIO(raw), kind, bounds)


def test_tagged_text_with_spans_in_order():
    spans = [{"start": 9, "end": 14, "label": "DATE"}, {"start": 0, "end": 3, "label": "NAME"}]
    (item,) = read([{"id": 1, "text": "Ana came today", "spans": spans}], manifest(Task.TAG))
    assert item.material == Material("Ana came today")
    assert item.spans == (Span(0, 3, "NAME", 1.0), Span(9, 14, "DATE", 1.0))


def test_one_label_or_none_and_what_it_is_about():
    first, second = read(
        [{"text": "a", "label": "NAME", "entity": "ACME"}, {"text": "b", "label": None, "entity": ""}], manifest()
    )
    assert (first.labels, first.material.about) == (("NAME",), (("entity", "ACME"),))
    assert (second.labels, second.material.about) == ((), ())


def test_several_labels_sentences_and_questions():
    (several,) = read([{"text": "a", "labels": ["DATE", "NAME", "DATE"]}], manifest(multi_label=True))
    assert several.labels == ("DATE", "NAME")
    (document,) = read([{"sentences": ["a", "b"], "labels": ["DATE", "DATE"]}], manifest(unit="sentence"))
    assert (document.material.sentences, document.labels) == (("a", "b"), ("DATE", "DATE"))
    found, none = read(
        [
            {"question": "q", "context": "in 2016", "answers": ["2016"]},
            {"question": "q", "context": "c", "answers": []},
        ],
        manifest(Task.ANSWER),
    )
    assert (found.answers, none.answers) == (("2016",), ())


def test_labels_are_listed_as_they_first_appear():
    items = read([{"text": "a", "label": "DATE"}, {"text": "b", "label": "NAME"}], manifest())
    assert gold_labels(items) == ("DATE", "NAME")


def test_empty_lines_and_a_byte_order_mark_are_no_lines():
    assert len(read([b"\xef\xbb\xbf" + b'{"text": "a", "label": "NAME"}\n', b"\n", b"  \n"], manifest())) == 1


GOOD = {"text": "a", "label": "NAME"}


@pytest.mark.parametrize(
    ("lines", "kind", "said"),
    [
        ([GOOD, b"{secret\n"], manifest(), "line 2 .* not JSON"),
        ([GOOD, b"\n", b"[]\n"], manifest(), "line 3 .* not an object"),
        ([b"\xff\n"], manifest(), "line 1 .* UTF-8"),
        ([{"label": "NAME"}], manifest(), 'no "text"'),
        ([{"text": "secret"}], manifest(), 'no "label"'),
        ([{"text": "secret", "label": "SECRET"}], manifest(), "does not know"),
        ([{"text": "a\0", "label": "NAME"}], manifest(), "NUL"),
        ([{"text": "a\ud83d", "label": "NAME"}], manifest(), "surrogate"),
        ([{"text": "s" * 101, "label": "NAME"}], manifest(), "101 characters"),
        ([{"text": "s" * 600, "label": "NAME"}], manifest(), "longer than 500 bytes"),
        ([GOOD] * 6, manifest(), "more than 5"),
        ([b"\n"], manifest(), "no labelled line"),
        ([{"text": "a", "labels": "NAME"}], manifest(multi_label=True), "not a list"),
        ([{"text": "abc", "spans": [{"start": 2, "end": 9, "label": "NAME"}]}], manifest(Task.TAG), "from 2 to 9"),
        ([{"text": "abc", "spans": [{"start": True, "end": 2, "label": "NAME"}]}], manifest(Task.TAG), "whole numbers"),
        (
            [
                {
                    "text": "abc",
                    "spans": [{"start": 0, "end": 2, "label": "NAME"}, {"start": 1, "end": 3, "label": "DATE"}],
                }
            ],
            manifest(Task.TAG),
            "overlap",
        ),
        ([{"sentences": ["a"], "labels": []}], manifest(unit="sentence"), "one label for each"),
        ([{"question": "q", "context": "c", "answers": ["secret"]}], manifest(Task.ANSWER), "not in the context"),
        ([GOOD], manifest(Task.EMBED), "makes vectors"),
    ],
)
def test_line_that_cannot_be_judged_by_is_refused_with_its_number_and_no_content(lines, kind, said):
    with pytest.raises(GoldInvalid, match=said) as refused:
        read(lines, kind)
    assert "secret" not in refused.value.message.lower()
