"""Labelled data for an evaluation: JSON lines to values, each line checked, errors with the line's number. Pure.

    items = read_gold(stream, manifest, bounds)      # GoldInvalid, naming the line

| Task | A line |
|---|---|
| `tag` | `{"text", "spans": [{"start", "end", "label"}]}` |
| `classify` | `{"text", "label"}`, null: out of scope; with `entity` or `concept` where the specialist takes one |
| `classify`, several labels | `{"text", "labels": […]}`, which may be empty |
| `classify`, sentences | `{"sentences": […], "labels": […]}`, one label for each |
| `answer` | `{"question", "context", "answers": […]}`, texts out of the context; empty: it holds none |

`id` and other fields may be there and are ignored. Offsets count Unicode code points.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

from appliance.errors import GoldInvalid
from appliance.specialists.manifest import Manifest
from appliance.types import Material, Span, Task

CONTEXT_FIELDS = ("entity", "concept")


@dataclass(frozen=True, slots=True)
class GoldItem:
    """One labelled item: what a contender is given, and what is true. Only the task's own part says something.

    `spans` of a tagger; `labels` of a classifier: one, none (out of scope) or several, or one for each sentence;
    `answers` of a question.
    """

    material: Material
    spans: tuple[Span, ...] = ()
    labels: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GoldBounds:
    """How much labelled data is read at most."""

    items_max: int
    line_bytes_max: int
    text_chars_max: int


def read_gold(lines: BinaryIO, manifest: Manifest, bounds: GoldBounds) -> tuple[GoldItem, ...]:
    """Every line that is not empty. Raises `GoldInvalid` for the first that is wrong, and for none or too many."""
    if manifest.task is Task.EMBED:
        raise GoldInvalid(
            f"{manifest.id} makes vectors: nothing about one text is right or wrong", hint="evaluate another specialist"
        )
    items: list[GoldItem] = []
    number = 0
    while raw := lines.readline(bounds.line_bytes_max + 1):
        number += 1
        if len(raw) > bounds.line_bytes_max:
            raise _wrong(number, f"it is longer than {bounds.line_bytes_max} bytes")
        if not raw.strip():
            continue
        if len(items) == bounds.items_max:
            raise GoldInvalid(
                f"there are more than {bounds.items_max} labelled lines",
                hint="take a sample, or raise limits.evaluation_items_max in config.toml",
            )
        items.append(item_of(_parsed(raw, number), manifest, number, bounds.text_chars_max))
    if not items:
        raise GoldInvalid(
            "there is no labelled line", hint='each line is a JSON object, such as {"text": …, "label": …}'
        )
    return tuple(items)


def item_of(line: dict[str, Any], manifest: Manifest, number: int, text_chars_max: int) -> GoldItem:
    """One line as a value. Raises `GoldInvalid`, naming the line and the field, never quoting it."""
    if manifest.task is Task.ANSWER:
        item = _question(line, number)
    elif manifest.task is Task.TAG:
        item = _tagged(line, manifest, number)
    elif manifest.unit == "sentence":
        item = _sentences(line, manifest, number)
    else:
        item = _classified(line, manifest, number)
    if item.material.chars > text_chars_max:
        raise _wrong(number, f"it has {item.material.chars} characters of text; this site takes {text_chars_max}")
    return item


def gold_labels(items: Iterable[GoldItem]) -> tuple[str, ...]:
    """Every label that is true somewhere, in order of first appearance."""
    found: dict[str, None] = {}
    for item in items:
        found |= dict.fromkeys(span.label for span in item.spans) | dict.fromkeys(item.labels)
    return tuple(found)


def _tagged(line: dict[str, Any], manifest: Manifest, number: int) -> GoldItem:
    text = _text(line, "text", number)
    listed = line.get("spans")
    if not isinstance(listed, list):
        raise _wrong(number, '"spans" is not a list')
    spans = []
    for place, entry in enumerate(listed, start=1):
        if not isinstance(entry, dict) or not all(type(entry.get(name)) is int for name in ("start", "end")):
            raise _wrong(number, f'span {place} has no whole numbers "start" and "end"')
        start, end, label = entry["start"], entry["end"], entry.get("label")
        if not 0 <= start < end <= len(text):
            raise _wrong(number, f"span {place} goes from {start} to {end}, the text has {len(text)} characters")
        spans.append(Span(start, end, _known(label, manifest, number, f"span {place}"), 1.0))
    spans.sort(key=lambda span: (span.start, span.end))
    if any(before.end > after.start for before, after in pairwise(spans)):
        raise _wrong(number, "two spans overlap")
    return GoldItem(Material(text), spans=tuple(spans))


def _classified(line: dict[str, Any], manifest: Manifest, number: int) -> GoldItem:
    about = tuple((name, line[name]) for name in CONTEXT_FIELDS if isinstance(line.get(name), str) and line[name])
    material = Material(_text(line, "text", number), about)
    if manifest.multi_label:
        listed = line.get("labels")
        if not isinstance(listed, list):
            raise _wrong(number, '"labels" is not a list')
        labels = tuple(dict.fromkeys(_known(label, manifest, number, '"labels"') for label in listed))
        return GoldItem(material, labels=labels)
    if "label" not in line:
        raise _wrong(number, 'it has no "label" (null: out of scope)')
    label = line["label"]
    return GoldItem(material, labels=() if label is None else (_known(label, manifest, number, '"label"'),))


def _sentences(line: dict[str, Any], manifest: Manifest, number: int) -> GoldItem:
    sentences, labels = line.get("sentences"), line.get("labels")
    if not isinstance(sentences, list) or not all(isinstance(one, str) and one.strip() for one in sentences):
        raise _wrong(number, '"sentences" is not a list of texts')
    if not isinstance(labels, list) or len(labels) != len(sentences) or not sentences:
        raise _wrong(number, '"labels" has not one label for each sentence')
    known = tuple(_known(label, manifest, number, '"labels"') for label in labels)
    return GoldItem(Material(sentences=tuple(sentences)), labels=known)


def _question(line: dict[str, Any], number: int) -> GoldItem:
    question, context = _text(line, "question", number), _text(line, "context", number)
    answers = line.get("answers")
    if not isinstance(answers, list) or not all(isinstance(one, str) and one.strip() for one in answers):
        raise _wrong(number, '"answers" is not a list of texts (empty: the context holds no answer)')
    if not all(one in context for one in answers):
        raise _wrong(number, 'one of "answers" is not in the context, character for character')
    return GoldItem(Material(question=question, context=context), answers=tuple(dict.fromkeys(answers)))


def _parsed(raw: bytes, number: int) -> dict[str, Any]:
    try:
        line = json.loads(raw.removeprefix(codecs.BOM_UTF8).decode())
    except UnicodeDecodeError:
        raise _wrong(number, "it is not valid UTF-8") from None
    except (ValueError, RecursionError):
        raise _wrong(number, "it is not JSON") from None
    if not isinstance(line, dict):
        raise _wrong(number, "it is not an object")
    return line


def _text(line: dict[str, Any], name: str, number: int) -> str:
    text = line.get(name)
    if not isinstance(text, str) or not text.strip():
        raise _wrong(number, f'it has no "{name}"')
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise _wrong(number, f'its "{name}" is not text: it has a NUL character or half of a surrogate pair')
    return text


def _known(label: object, manifest: Manifest, number: int, where: str) -> str:
    if not isinstance(label, str) or label not in manifest.labels:
        raise _wrong(number, f"{where} has a label that {manifest.id} does not know")
    return label


def _wrong(number: int, reason: str) -> GoldInvalid:
    return GoldInvalid(
        f"line {number} of the labelled data cannot be used: {reason}",
        hint="the format for each task is in appliance/specialists/README.md",
    )
