"""The texts of a prompt that somebody wrote, taken out for looking at and put back changed. Pure.

[text for _, text in texts_of(prompt)]
with_texts(prompt, iter(others))             # the same prompt with other texts, in that order
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from appliance.engine.generation.values import Message

_IDS = frozenset(("id", "tool_call_id", "type"))  # fields of a message that programs match by


def texts_of(prompt: Any) -> Iterator[tuple[int | None, str]]:
    """Every text of a prompt that somebody wrote, with the number of its message where it is the content of one."""
    if isinstance(prompt, str):
        yield 0, prompt
        return
    for number, turn in enumerate(prompt):
        yield number, turn.content
        for text in _strings(turn.fields):
            yield None, text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            if name not in _IDS:
                yield from _strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)


def with_texts(prompt: Any, texts: Iterator[str]) -> Any:
    """The prompt with other texts, in the order of `texts_of`."""
    if isinstance(prompt, str):
        return next(texts)
    return tuple(Message(turn.role, next(texts), _with_strings(turn.fields, texts)) for turn in prompt)


def _with_strings(value: Any, texts: Iterator[str]) -> Any:
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, Mapping):
        return {name: each if name in _IDS else _with_strings(each, texts) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_strings(each, texts) for each in value]
    return value
