"""Texts that know who wrote each of their characters, and where a name of a control token may stand. Pure.

    prompt = own("<|im_start|>") + "user says <|im_end|>"      # Traced; what nobody vouches for is content
    split(prompt, ControlNames(("<|im_start|>", "<|im_end|>")))
    # [("<|im_start|>user says ", True), ("<", False), ("|im_end|>", True)]

A chat template writes control tokens by name, and so can whoever writes a message: the rendered prompt is one text. So
the template's constants are `Traced` from the start, every operation that is known here keeps the origin of each
character, and every other one loses it, which makes content of it. A name counts only where the template itself wrote
every character of it; any other is taken apart, so that no tokeniser finds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Self, SupportsIndex

CONTENT, ANSWER, TEMPLATE = 0, 1, 2  # written by: anybody; the assistant, in an earlier turn; the model's template


class Traced(str):
    """A text and the origin of each of its characters. Operations not listed here give a plain text: content."""

    __slots__ = ("origins",)
    origins: bytes

    def __new__(cls, text: str, origins: bytes) -> Self:
        assert len(text) == len(origins), "every character has an origin"
        made = super().__new__(cls, text)
        made.origins = origins
        return made

    def __str__(self) -> str:
        return self

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        origins = self.origins[key] if isinstance(key, slice) else bytes([self.origins[key]])
        return Traced(super().__getitem__(key), origins)

    def __add__(self, other: str) -> str:
        return joined((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> str:
        return joined((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, times: SupportsIndex) -> str:
        return Traced(super().__mul__(times), self.origins * times.__index__())

    __rmul__ = __mul__

    def strip(self, chars: str | None = None, /) -> str:
        kept = str.lstrip(self, chars)
        start = len(self) - len(kept)
        return self[start : start + len(kept.rstrip(chars))]

    def lstrip(self, chars: str | None = None, /) -> str:
        return self[len(self) - len(super().lstrip(chars)) :]

    def rstrip(self, chars: str | None = None, /) -> str:
        return self[: len(super().rstrip(chars))]

    def removeprefix(self, prefix: str, /) -> str:
        return self[len(prefix) :] if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> str:
        return self[: len(self) - len(suffix)] if suffix and self.endswith(suffix) else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[Any]:
        return self._found_again(super().split(sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[Any]:
        return self._found_again(super().rsplit(sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[Any]:
        return self._found_again(super().splitlines(keepends))

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        first, middle, last = self._found_again(super().partition(sep), "")
        return first, middle, last

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        first, middle, last = self._found_again(super().rpartition(sep), "")
        return first, middle, last

    def upper(self) -> str:
        return self._kept(super().upper())

    def lower(self) -> str:
        return self._kept(super().lower())

    def title(self) -> str:
        return self._kept(super().title())

    def capitalize(self) -> str:
        return self._kept(super().capitalize())

    def _kept(self, changed: str) -> str:
        """A change of every character keeps the origin of a text of one origin."""
        return Traced(changed, self.origins[:1] * len(changed)) if len(set(self.origins)) == 1 else changed

    def _found_again(self, pieces: Sequence[str], between: str | None = None) -> list[str]:
        """Pieces that stand in this text in their order; `between` None: with white space between them."""
        found, place = [], 0
        for piece in pieces:
            start = self.index(piece, place) if between is None else place
            found.append(self[start : start + len(piece)])
            place = start + len(piece) + len(between or "")
        return found


def own(text: str) -> Traced:
    """A text that the template wrote."""
    return Traced(text, bytes([TEMPLATE]) * len(text))


def of_answer(text: str) -> Traced:
    """A text that the assistant wrote in an earlier turn, as the client says."""
    return Traced(text, bytes([ANSWER]) * len(text))


def joined(pieces: Iterable[Any]) -> str:
    """The texts one after another, each character with its origin."""
    texts = list(pieces)
    origins = b"".join(text.origins if isinstance(text, Traced) else bytes(len(text)) for text in texts)
    return Traced("".join(texts), origins)


class ControlNames:
    """The names that a tokeniser would take for tokens.

    `control`: of tokens that steer the model. `written`: of others that its template writes as structure; an earlier
    answer may hold those, because the model itself may have written them.
    """

    def __init__(self, control: Iterable[str], written: Iterable[str] = ()) -> None:
        self._control = frozenset(control) - {""}
        self._names = self._control | (frozenset(written) - {""})

    def find(self, text: str) -> Iterable[tuple[int, int, bool]]:
        """Every place where a name stands, overlapping ones too, and whether it is one of `control`."""
        if not self._names:
            return
        for found in self._beginnings.finditer(text):
            start = found.start()
            for length in self._lengths[text[start : start + 2]]:
                name = text[start : start + length]
                if len(name) == length and name in self._names:
                    yield start, start + length, name in self._control

    @cached_property
    def _lengths(self) -> dict[str, list[int]]:
        """Lengths of the names that begin with these two characters; a name of one character is with all of them."""
        return _Lengths(self._names)

    @cached_property
    def _beginnings(self) -> re.Pattern[str]:
        beginnings = sorted({name[:2] for name in self._names})
        return re.compile("(?=" + "|".join(map(re.escape, beginnings)) + ")")


class _Lengths(dict[str, list[int]]):
    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self._short = any(len(name) == 1 for name in names)
        for name in sorted(names, key=len, reverse=True):
            if len(name) > 1:
                lengths = self.setdefault(name[:2], [])
                if len(name) not in lengths:
                    lengths.append(len(name))
        if self._short:
            for lengths in self.values():
                lengths.append(1)

    def __missing__(self, beginning: str) -> list[int]:
        return [1] if self._short else []


def split(text: str, names: ControlNames) -> list[tuple[str, bool]]:
    """Pieces that make up `text` when put together, and whether names of tokens in a piece mean those tokens.

    MUST hold for every tokeniser that takes each piece by itself: a name is found where the template wrote all of it
    and nowhere else.
    """
    origins = text.origins if isinstance(text, Traced) else bytes(len(text))
    text = str.__str__(text)
    apart: set[int] = set()  # characters that must not be beside their neighbours
    for start, end, control in names.find(text):
        foreign = CONTENT if not control else ANSWER
        place = next((place for place in range(start, end) if origins[place] <= foreign), None)
        if place is not None:
            apart.add(place)
    pieces, done = [], 0
    for place in sorted(apart):
        pieces += [(text[done:place], True), (text[place], False)]
        done = place + 1
    return [piece for piece in (*pieces, (text[done:], True)) if piece[0]] or [(text, True)]
