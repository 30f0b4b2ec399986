"""What the Assistant page draws, from what the API answered. Pure; every value is inert (`markup.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ui import views
from ui.answer_text import formatted
from ui.client import Json, Refused
from ui.markup import fragment, label_name, marked_text

DRAWN_TURNS = 30  # of a long conversation: drawing all of it anew with every answer takes long
PATH = "/app/assistant"
_CHAT = "/v1/chat/completions"
_BILLIONTH = 50_000_000  # parameters: less is not worth a figure
_ENDS = {
    "length": "It ends at the limit of its length.",
    "stopped": "You stopped it here.",
    "failed": "It broke off here.",
    "advice": "Nobody was chosen to answer this.",
}


@dataclass(frozen=True, slots=True)
class Choices:
    """Who can answer, in groups of values and names, and which of them is chosen."""

    groups: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    chosen: str


def choices(models: Json, wanted: str = "") -> Choices | None:
    """None: no model that writes is here. One that was removed stays named, so that nobody is surprised."""
    kinds: dict[str, list[tuple[str, str]]] = {"router": [], "model": [], "specialist": []}
    for entry in models["data"]:
        name = str(entry["id"])
        if entry.get("kind") in kinds and (_chats(entry) or name == wanted):
            kinds[entry["kind"]].append((name, _called(entry)))
    if not kinds["model"]:
        return None
    first = kinds["model"][0][0]
    if wanted and wanted not in {value for group in kinds.values() for value, _ in group}:
        kinds["model"].append((wanted, f"{wanted} (not here any more)"))
    named = (("", kinds["router"]), ("Models that write", kinds["model"]), ("Specialists", kinds["specialist"]))
    return Choices(tuple((name, tuple(group)) for name, group in named if group), wanted or first)


def only(model: str) -> Choices:
    """Where no model that writes is here any more."""
    return Choices((("", ((model, f"{model} (not here any more)"),)),), model)


def side(listed: Json, current: str) -> str:
    """The list of conversations."""
    return fragment("chat_side", chats=listed["data"], current=current)


def head(chat: Json | None, chosen: Choices) -> str:
    """Title, what can be done with the conversation, and who answers."""
    title = str(chat["title"]) if chat else ""
    options = {"groups": chosen.groups, "model": chosen.chosen}
    return fragment("chat_head", chat=chat["id"] if chat else "", title=title, **options)


def talk(chat: Json, *, everything: bool = False, answering: bool = False) -> str:
    """The messages. `answering`: the last one is being answered, so nothing else can be done with it."""
    turns: Sequence[Json] = chat["turns"]
    if not turns:
        return fragment("chat_begin")
    shown = turns if everything else turns[-DRAWN_TURNS:]
    guards = {int(turn["at"]): (turn.get("about") or {}).get("guard") for turn in turns}
    drawn = [_turn(turn, guards, last=turn is turns[-1] and not answering) for turn in shown]
    address = f"{PATH}?conversation={chat['id']}" + ("&all=yes" if everything else "")
    hidden = len(turns) - len(shown)
    return fragment("chat_turns", turns=drawn, chat=chat["id"], address=address, hidden=hidden)


def live(by: str, text: str) -> str:
    """The answer that is being written."""
    return fragment("chat_live", by=_SPEAKERS.get(by, by), said=formatted(text) if text.strip() else "")


def state(words: str) -> str:
    """One line for everybody, read out too."""
    return fragment("chat_state", words=words)


def policy(found: Json) -> str:
    """What happens here to names and numbers of persons; nothing where nothing is looked for."""
    words = _POLICIES.get(str(found.get("policy")))
    return fragment("chat_guard", words=words) if words else ""


def refused(refusal: Refused) -> str:
    """What the API said; where the policy about identifiers stopped it, with the ways on from there."""
    return fragment("chat_refused", problem=refusal) if refusal.code == "guard_blocked" else views.problem(refusal)


def editing(at: int) -> str:
    """Which message is being edited, and what that does."""
    return fragment("chat_editing", at=at, number=at // 2 + 1)


def _chats(entry: Json) -> bool:
    """Whether a message is all that it needs to answer."""
    return _CHAT in entry.get("endpoints", (_CHAT,))


def _called(entry: Json) -> str:
    """What stands in the list: the name, and in a word what it is."""
    name = str(entry["id"])
    if entry["kind"] == "router":
        return "Choose for me"
    if entry["kind"] == "specialist":
        return f"{entry.get('name') or name}{'' if _chats(entry) else ' (needs more than a message)'}"
    if entry.get("owned_by") == "upstream":
        return f"{name} (on another server of this site)"
    size = int(entry.get("parameters") or 0)
    return f"{name} ({size / 1e9:.1f} billion parameters)" if size >= _BILLIONTH else name


def _turn(turn: Json, guards: Mapping[int, Any], *, last: bool) -> Mapping[str, Any]:
    at, is_answer = int(turn["at"]), turn["role"] == "assistant"
    finish, text = str(turn.get("finish") or ""), str(turn["text"])
    guard = guards.get(at if is_answer else at + 1) or {}
    model = str(turn.get("model") or "Answer")
    return {
        "at": at,
        "number": at // 2 + 1,
        "role": "assistant" if is_answer else "user",
        "by": _SPEAKERS.get(model, model) if is_answer else "You",
        "time": turn["time"],
        "said": formatted(text) if is_answer else _typed(text, guard.get("question_marks") or ()),
        "views": _guarded(text, guard, is_answer),
        "notes": [*_noted(guard, is_answer), *_left_out(turn), *_ended(finish, text, is_answer)],
        "again": last,
        "record": turn.get("record") if is_answer else None,
        "covers": "The last piece of it was" if finish in ("stopped", "failed") else "The whole answer was",
    }


def _typed(text: str, marks: Sequence[Json]) -> Markup:
    return Markup('<p class="as-typed">') + marked_text(text, marks) + Markup("</p>")


def _guarded(text: str, guard: Mapping[str, Any], is_answer: bool) -> list[tuple[str, Markup]]:
    """Other readings of a message, to unfold: what was marked in an answer, and what the model read or wrote.

    Offsets count in the text, not in its drawing.
    """
    marks = guard.get("answer_marks" if is_answer else "question_marks") or ()
    if not marks:
        return []
    if guard.get("policy") == "mask":
        title = "Show what the model wrote" if is_answer else "Show what the model read"
        return [(title, _typed(*_masked(text, marks)))]
    return [("Show what was marked", _typed(text, marks))] if is_answer else []


def _masked(text: str, marks: Sequence[Json]) -> tuple[str, list[Json]]:
    """The text with the placeholders that the model had in place of what was found, and where they stand."""
    parts: list[str] = []
    places: list[Json] = []
    done = length = 0
    for mark in sorted(marks, key=lambda mark: int(mark["start"])):
        start, end, put = int(mark["start"]), int(mark["end"]), str(mark.get("placeholder") or "")
        if not put or not done <= start < end <= len(text):
            continue
        parts += [text[done:start], put]
        length += start - done + len(put)
        places.append({"start": length - len(put), "end": length, "label": mark["label"]})
        done = end
    return "".join([*parts, text[done:]]), places


def _noted(guard: Mapping[str, Any], is_answer: bool) -> list[str]:
    """What the guard found and did, in a sentence."""
    found = guard.get("answer" if is_answer else "prompt") or {}
    if not found:
        return []
    counted = ", ".join(f"{count} × {label_name(str(label))}" for label, count in sorted(found.items()))
    return [f"{_DID.get((str(guard.get('policy')), is_answer), 'Found')}: {counted}."]


def _left_out(turn: Json) -> list[str]:
    count = int((turn.get("about") or {}).get("left_out") or 0)
    if not count:
        return []
    were = "message was" if count == 1 else f"{count} messages were"
    return [f"The oldest {were} not read for this answer: the conversation is longer than the model's context."]


def _ended(finish: str, text: str, is_answer: bool) -> list[str]:
    empty = ["No text was written."] if is_answer and not text else []
    return [*empty, *([_ENDS[finish]] if finish in _ENDS else [])]


_SPEAKERS = {"auto": "Assistant"}  # over an answer of nobody in particular
# By policy, and whether it is said of an answer.
_DID = {
    ("mark", False): "Found in this message and what was sent with it, and read by the model",
    ("mark", True): "Found in this answer",
    ("mask", False): "Kept from the model, in this message and what was sent with it",
    ("mask", True): "Written by the model and hidden from you",
}
_POLICIES = {
    "mark": "Names and numbers of persons are marked here. The model reads them.",
    "mask": "Names and numbers of persons that are found are kept from the model: it reads placeholders instead.",
    "block": "A message in which a name or number of a person is found is not sent to a model here.",
}
