"""What the Specialists and Ask pages show of the API's answers, as HTML. Pure: no Gradio, no call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ui.answers import refusal_of
from ui.client import Refused, SignedIn
from ui.figures import figures, headline, share
from ui.markup import fragment, marked_text

Answer = Mapping[str, Any]

TASKS = {
    "tag": "Marks passages in a text",
    "classify": "Sorts texts",
    "answer": "Answers a question with a quote",
    "embed": "Turns text into numbers, for search and routing",
}
STATES = {
    "active": ("Active", "good"),
    "awaiting_approval": ("Waiting for approval", "warn"),
    "approved": ("Approved", "plain"),
    "retired": ("Retired", "plain"),
}
AUTO = "auto"
_BARS_MAX = 8
_LABELS_MAX = 24  # as many fit; the rest unfold
_VECTOR_SHOWN = 8
_SHADES = 4


@dataclass(frozen=True, slots=True)
class Tried:
    """One specialist on one input: its card, what it answered or why it refused, and the text that offsets count in."""

    card: Answer
    text: str
    answer: Answer | None = None
    refusal: Refused | None = None


def cards(answer: Answer, waiting: Answer) -> str:
    """Every specialist with what it is for, how good, on what, since when, version, licence and limits; before them
    the versions that wait for approval.
    """
    waits = [version for version in waiting["data"] if version["state"] == "awaiting_approval"]
    return fragment("specialist_cards", cards=[_brief(card) for card in answer["data"]], waiting=waits)


def installed(answer: str | None) -> str:
    """What the API said of a file that the browser sent it, as it came back through the browser. Raises `Refused`."""
    try:
        found = json.loads(answer or "")
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and "error" in found:
        raise refusal_of(400, found)
    if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in ("id", "version", "state")):
        hint = "look whether the list above has it, and choose the file once more if not"
        raise Refused(502, "unreadable_answer", "the server's answer to the file could not be read", hint)
    name = f"{found['id']} {found['version']}"
    if found["state"] == "awaiting_approval":
        return fragment(
            "notice",
            heading="Installed",
            text=f"{name} is here and answers nobody yet: another person has to approve it.",
        )
    state = _state(found["state"])[0].lower()
    return fragment("notice", heading="Nothing changed", text=f"{name} had been installed before. It is {state}.")


def trusted_keys(answer: Answer) -> str:
    """The keys whose signatures count here."""
    return fragment("trusted_keys", keys=answer["data"])


def _brief(card: Answer) -> dict[str, Any]:
    evaluation, shown = headline(card.get("evaluation"))
    return {
        "card": card,
        "task": _task(card),
        "state": _state(card.get("state", "active")),
        "evaluation": evaluation,
        "figures": shown,
        "since": card.get("promoted_at") or card.get("installed_at"),
    }


def specialist(card: Answer) -> str:
    """The whole card of one."""
    evaluations = [{**found, "figures": figures(found["metrics"])} for found in card.get("evaluation") or ()]
    labels = list(card.get("labels") or ())
    return fragment(
        "specialist",
        card=card,
        task=_task(card),
        evaluations=evaluations,
        labels=labels,
        labels_fold=len(labels) > _LABELS_MAX,
        state=_state(card.get("state", "active")),
        routing=_routing(card.get("routing")),
    )


def _routing(found: Answer | None) -> dict[str, Any] | None:
    """How well the router finds this one, if that was measured: shares, and the whole matrix of who was chosen."""
    if not found:
        return None
    shares = (
        ("Its own requests that reach it", found["right"]),
        ("Requests of all specialists that reach the right one", found["right_of_all"]),
        ("Requests for nobody that are declined", found["none_declined"]),
    )
    columns = list(next(iter(found["matrix"].values())))
    return {
        "requests": found["requests"],
        "shares": [share(title, one["share"], one["low"], one["high"]) for title, one in shares],
        "columns": columns,
        "rows": [_matrix_row(label, row) for label, row in found["matrix"].items()],
        "command": found["command"],
    }


def _matrix_row(label: str, row: Mapping[str, int]) -> dict[str, Any]:
    """The shade of a cell is its share of the row, in quarters."""
    whole = max(1, sum(row.values()))
    cells = [(count, -(-_SHADES * count // whole), chosen == label) for chosen, count in row.items()]
    return {"label": label, "cells": cells}


def versions(answer: Answer, specialist: str, user: SignedIn) -> str:
    """Every version with its state. What a person may not do is not offered; the API decides in any case."""
    entries = answer["data"]
    earlier = any(entry["state"] == "retired" for entry in entries)
    rows = [
        {
            **entry,
            "shown": _state(entry["state"]),
            "mine": _is(entry.get("installed_by"), user),
            "key": f"{specialist} {entry['version']}",
        }
        for entry in entries
    ]
    decides = "admin" in user.roles
    return fragment("specialist_versions", versions=rows, specialist=specialist, decides=decides, earlier=earlier)


def decided(decision: str, answer: Answer) -> str:
    """What a decision about a version led to."""
    if decision == "rollback":
        return _rolled_back(answer)
    name, version = answer["id"], answer["version"]
    words = {
        "approve": ("Approved", f"{name} {version} may be made active now."),
        "promote": ("Active", f"{name} {version} answers from now on. Requests under way end with the version before."),
        "verify": ("Verified", f"The file of {name} {version} is the one that was admitted."),
        "remove": ("Removed", f"The file of {name} {version} is gone. Its records stay."),
    }
    heading, text = words[decision]
    return fragment("notice", heading=heading, text=text)


def _rolled_back(answer: Answer) -> str:
    before, now = answer["retired"], answer.get("active")
    text = f"{before['id']} {before['version']} answers no more. "
    text += f"Version {now['version']} answers again." if now else "There was none before it, so none answers now."
    return fragment("notice", heading="Rolled back", text=text)


def try_choice(cards: Sequence[Answer], first: str, second: str, *, auto: bool = False) -> str:
    """Which specialist, and which to compare it with, as two lists."""
    options = [(str(card["id"]), str(card["name"])) for card in cards if card.get("state", "active") == "active"]
    return fragment("try_choice", options=options, first=first, second=second, auto=auto)


def needs(card: Answer | None) -> dict[str, str]:
    """The names of the fields that a specialist's task takes; an empty name is a field that it does not take."""
    if card is None:
        return {"text": "Text", "question": "", "about": ""}
    if card["task"] == "answer":
        return {"text": "Text to answer from", "question": "Question", "about": ""}
    about = str(card.get("context_name") or "")
    label = about.capitalize() + ("" if card.get("context") == "required" else " (optional)") if about else ""
    text = "Sentences, one to a line" if card.get("unit") == "sentence" else "Text"
    return {"text": text, "question": "", "about": label}


def given(card: Answer, text: str, question: str, about: str) -> dict[str, object]:
    """The fields of a request, as the specialist's task takes them."""
    if card["task"] == "answer":
        return {"question": question, "context": text}
    if card.get("unit") == "sentence":
        return {"sentences": [line.strip() for line in text.splitlines() if line.strip()]}
    name = str(card.get("context_name") or "")
    return {"text": text, **({name: about} if name and about.strip() else {})}


def tried(results: Sequence[Tried], route: Answer | None = None) -> str:
    """One result, or two side by side with what they differ in and the figures of both; before them why this one."""
    explained = None if route is None else _explained(route, results)
    return fragment(
        "tried", results=[_result(one) for one in results], difference=_difference(results), route=explained
    )


def _explained(route: Answer, results: Sequence[Tried]) -> dict[str, Any]:
    """The choice in words: who, how sure, who came next, and the examples that the text is like."""
    names = {str(one.card["id"]): str(one.card["name"]) for one in results}
    scores = list(route.get("scores") or ())[:_BARS_MAX]
    reason = str(route["reason"])
    return {
        **route,
        "reason": reason[:1].upper() + reason[1:] + ("" if reason.endswith((".", "!", "?")) else "."),
        "name": names.get(str(route["specialist"]), route["specialist"]),
        "bars": [(one["specialist"], float(one["score"])) for one in scores],
    }


def _result(one: Tried) -> dict[str, Any]:
    evaluation, shown = headline(one.card.get("evaluation"))
    drawn = {
        "card": one.card,
        "evaluation": evaluation,
        "figures": shown,
        "answer": one.answer,
        "refusal": one.refusal,
        "kind": "refused",
        "content": None,
    }
    return drawn if one.answer is None else {**drawn, **_content(one, one.answer)}


def _content(one: Tried, answer: Answer) -> dict[str, Any]:
    """What was found, by the fields that the answer has."""
    if answer.get("spans") is not None:
        return {"kind": "spans", "content": marked_text(one.text, answer["spans"]), "count": len(answer["spans"])}
    if "answer" in answer:
        quote = answer["answer"]
        spans = [] if quote is None else [{**quote, "label": "answer"}]
        return {"kind": "quote", "content": marked_text(one.text, spans), "quote": quote}
    if answer.get("embedding") is not None:
        vector = answer["embedding"]
        begin = ", ".join(f"{float(value):.3f}" for value in vector[:_VECTOR_SHOWN])
        return {"kind": "vector", "content": begin, "count": len(vector)}
    labels = answer.get("labels") or []
    if one.card.get("unit") == "sentence":
        lines = [line.strip() for line in one.text.splitlines() if line.strip()]
        return {"kind": "sentences", "content": list(zip(lines, labels, strict=False))}
    bars = (answer.get("scores") or labels)[:_BARS_MAX]
    shown = [(bar["label"], float(bar["score"])) for bar in bars]
    if one.card.get("multi_label"):
        return {"kind": "labels", "content": shown, "assigned": [label["label"] for label in labels]}
    return {"kind": "label", "content": shown, "label": answer.get("label"), "score": answer.get("score")}


def _difference(results: Sequence[Tried]) -> str:
    """One sentence about two answers to the same text; nothing when they cannot be compared."""
    if len(results) != 2 or any(one.answer is None for one in results):
        return ""
    first, second = (one.answer or {} for one in results)
    if first.get("spans") is not None and second.get("spans") is not None:
        marked = [{(span["start"], span["end"]) for span in answer["spans"]} for answer in (first, second)]
        both, left, right = len(marked[0] & marked[1]), len(marked[0] - marked[1]), len(marked[1] - marked[0])
        return f"{both} passages were marked by both, {left} only by the first, {right} only by the second."
    if "label" in first and "label" in second:
        return "Both say the same." if first["label"] == second["label"] else "They do not say the same."
    return "They do different tasks, so only their answers stand side by side."


def _task(card: Answer) -> str:
    labels = len(card.get("labels") or ())
    words = TASKS.get(str(card["task"]), str(card["task"]))
    return f"{words}, {labels} kinds" if labels else words


def _state(state: str) -> tuple[str, str]:
    return STATES.get(state, (state, "plain"))


def _is(person: object, user: SignedIn) -> bool:
    """Records name a person as `user:7`, sometimes after why a version was admitted."""
    return bool(user.id) and str(person or "").endswith(user.id) and str(person).removesuffix(user.id)[-1:] in {"", ":"}
