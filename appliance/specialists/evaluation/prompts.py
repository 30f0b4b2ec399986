"""How a generalist is asked what a specialist does, and how its reply is read. Pure.

    messages = prompt(item.material, manifest)           # system and user message, as chat completions take them
    findings = read_reply(text, item.material, manifest) # None: it cannot be read as an answer to the task

One prompt per task, the same for every model, written before any was asked. Labels are given as the manifest has them.
A reply is read generously: around what was asked for there may be other words, a code fence, another case.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from appliance.specialists.manifest import Manifest
from appliance.types import Findings, LabelScore, Material, Quote, Span, Task

NOT_FOUND = "NOT FOUND"
NO_LABEL = "none"
_LETTERS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: Literal["system", "user"]
    content: str


def prompt(material: Material, manifest: Manifest) -> tuple[Message, ...]:
    """What is asked. The system message is the same for all items of a task, so that it is read once."""
    return Message("system", _instructions(manifest)), Message("user", _question(material))


def reply_tokens_max(material: Material, manifest: Manifest) -> int:
    """How long a reply may be, in tokens: enough for the format, not for a story."""
    if manifest.task is Task.TAG:
        return 64 + material.chars // 2
    if manifest.unit == "sentence":
        return 32 + 16 * len(material.sentences or ())
    return 160 if manifest.task is Task.ANSWER or manifest.multi_label else 32


def read_reply(reply: str, material: Material, manifest: Manifest) -> Findings | None:
    """The findings in a reply. Scores are 1: a generalist states no probability."""
    if manifest.task is Task.TAG:
        return _read_spans(reply, material.text or "", manifest)
    if manifest.task is Task.ANSWER:
        return _read_quote(reply, material.context or "")
    if manifest.unit == "sentence":
        return _read_sentences(reply, len(material.sentences or ()), manifest.labels)
    if manifest.multi_label:
        return _read_labels(reply, manifest.labels)
    return _read_label(reply, manifest)


def _instructions(manifest: Manifest) -> str:
    listed = ", ".join(manifest.labels)
    about = f" The text is judged with regard to the {manifest.context_name}." if manifest.context_name else ""
    if manifest.task is Task.TAG:
        return (
            f"{manifest.summary} Find every mention in the text of these kinds: {listed}. Reply with a JSON list "
            'only, in the order of the text: [{"text": "the exact words", "label": "the kind"}]. [] if none is there.'
        )
    if manifest.task is Task.ANSWER:
        return (
            "Answer the question with the shortest exact quote from the context that answers it. Reply with the quote "
            f"only, character for character. If the context does not answer the question, reply {NOT_FOUND}."
        )
    if manifest.unit == "sentence":
        return (
            f"Give each numbered sentence one of these labels: {listed}. Reply with one line for each sentence, "
            "in order, as `number: label`, and nothing else."
        )
    if manifest.multi_label:
        return (
            f"{manifest.summary}{about} Which of these labels hold? {listed}. Reply with a JSON list of labels only; "
            "[] if none holds."
        )
    none = f" If none of them fits, reply {NO_LABEL}." if manifest.calibration.abstain_below > 0 else ""
    return f"{manifest.summary}{about} Choose the one label that fits: {listed}.{none} Reply with the label only."


def _question(material: Material) -> str:
    if material.question is not None:
        return f"Context:\n{material.context}\n\nQuestion: {material.question}"
    if material.sentences is not None:
        return "\n".join(f"{number}: {sentence}" for number, sentence in enumerate(material.sentences, start=1))
    about = "".join(f"{name.capitalize()}: {value}\n" for name, value in material.about)
    return f"{about}Text:\n{material.text}"


def _read_label(reply: str, manifest: Manifest) -> Findings | None:
    found = _label_in(
        reply, (*manifest.labels, NO_LABEL) if manifest.calibration.abstain_below > 0 else manifest.labels
    )
    if found is None:
        return None
    if found == NO_LABEL and NO_LABEL not in manifest.labels:
        return Findings("label")
    best = LabelScore(found, 1.0)
    return Findings("label", labels=(best,), best=best)


def _read_labels(reply: str, labels: Sequence[str]) -> Findings | None:
    listed = _json_in(reply, "[", "]")
    if not isinstance(listed, list):
        return None
    known = {_plain(label): label for label in labels}
    found = dict.fromkeys(known[_plain(one)] for one in listed if isinstance(one, str) and _plain(one) in known)
    given = tuple(LabelScore(label, 1.0) for label in found)
    return Findings("labels", labels=given, best=given[0] if given else None)


def _read_sentences(reply: str, count: int, labels: Sequence[str]) -> Findings | None:
    found: list[LabelScore | None] = [None] * count
    for line in reply.splitlines():
        number, _, rest = line.strip().lstrip("-*#( ").partition(":")
        digits = re.match(r"\d+", number)
        label = _label_in(rest, labels)
        if digits and label is not None and 1 <= int(digits[0]) <= count:
            found[int(digits[0]) - 1] = LabelScore(label, 1.0)
    return Findings("sentences", sentences=tuple(found)) if any(found) else None


def _read_quote(reply: str, context: str) -> Findings | None:
    said = reply.strip().strip("`").strip()
    if _plain(said).startswith(_plain(NOT_FOUND)):
        return Findings("answer")
    for candidate in (said, said.strip("\"'“”‘’ "), said.splitlines()[0].strip("\"'“”‘’ ") if said else ""):
        start = context.find(candidate) if candidate else -1
        if start >= 0:
            return Findings("answer", quote=Quote(candidate, start, start + len(candidate), 1.0))
    return None


def _read_spans(reply: str, text: str, manifest: Manifest) -> Findings | None:
    listed = _json_in(reply, "[", "]")
    if not isinstance(listed, list):
        return None
    known = {_plain(label): label for label in manifest.labels}
    spans: list[Span] = []
    place = 0
    for entry in listed:
        words, kind = (entry.get("text"), entry.get("label")) if isinstance(entry, dict) else (None, None)
        if not isinstance(words, str) or not words.strip() or not isinstance(kind, str) or _plain(kind) not in known:
            continue
        start = text.find(words, place)
        if start < 0:  # invented, or out of order: looked for once more from the beginning, where nothing is taken
            start = text.find(words)
        end = start + len(words)
        if start < 0 or any(span.start < end and start < span.end for span in spans):
            continue
        spans.append(Span(start, end, known[_plain(kind)], 1.0))
        place = max(place, end)
    return Findings("spans", spans=tuple(sorted(spans, key=lambda span: span.start)))


def _label_in(reply: str, labels: Sequence[str]) -> str | None:
    """The label that is the reply, or the only one that occurs in it as words; of nested ones the longest."""
    plain = _plain(reply)
    exact = [label for label in labels if _plain(label) == plain]
    if exact:
        return exact[0]
    inside = [label for label in labels if f" {_plain(label)} " in f" {plain} "]
    longest = [one for one in inside if not any(one != other and _plain(one) in _plain(other) for other in inside)]
    return longest[0] if len(longest) == 1 else None


def _plain(text: str) -> str:
    return _LETTERS.sub(" ", text.lower()).strip()


def _json_in(reply: str, opening: str, closing: str) -> Any:
    """The JSON value between the first opening and the last closing bracket; None without one."""
    start, end = reply.find(opening), reply.rfind(closing)
    if start < 0 or end < start:
        return None
    try:
        return json.loads(reply[start : end + 1])
    except (ValueError, RecursionError):
        return None
