"""An answer that is being written, cut for looking at: by its text alone, never by how it arrives. Pure.

    answer = AnswerCuts(config.guard)
    answer.feed(piece, final=False)
    while (look := answer.next_look()) is not None:
        piece = answer.cut(look, spans_found_in(look.text))       # Cut: a text that may be shown, and what is in it

What follows decides what a word is, so every look reaches `lookahead_chars` beyond what it lets go of; what it lets go
of ends between two words and in no span. A look is a function of the answer's text: whoever finds, and however the
answer is cut into pieces, the same is found and shown. A whole answer fed at once is looked at in the same steps.

Bounded: what is held back is less than `hold_chars_max` (or what one look takes) and one piece. A span that grows
beyond is cut there; both parts are spans, so neither is shown. What only a text farther back or farther on gives away
is not found by a look; the caller carries on what was found before (`guard.carry`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.config import GuardConfig
from appliance.types import Span


@dataclass(frozen=True, slots=True)
class Look:
    """What to look at now: `text`, of which the first `shown` characters left before."""

    text: str
    shown: int
    final: bool
    forced: bool


@dataclass(frozen=True, slots=True)
class Cut:
    """A text that may leave now, and the spans in it, which are disjoint and lie in it."""

    text: str
    spans: tuple[Span, ...]


class AnswerCuts:
    """See the module. Owned by the task that serves the answer."""

    def __init__(self, config: GuardConfig) -> None:
        self._config = config
        self._text = ""  # the end of the answer: what is looked at for context, then what is held back
        self._shown = 0  # how much of it left
        self._final = False
        self._extra = 0  # how much farther than usual to look: nothing could be let go of yet

    @property
    def held_chars(self) -> int:
        """How much came and did not leave."""
        return len(self._text) - self._shown

    def feed(self, piece: str, *, final: bool = False) -> None:
        """The next piece of the answer; nothing follows the `final` one."""
        assert not self._final, "the answer is complete"
        self._text += piece
        self._final = final

    def next_look(self) -> Look | None:
        """None: more has to come first, or everything left. The caller MUST hand it to `cut` before it asks again."""
        config = self._config
        reach = config.step_chars + config.lookahead_chars + self._extra
        if self.held_chars >= reach:
            forced = reach >= config.hold_chars_max
            return Look(self._text[: self._shown + reach], self._shown, final=False, forced=forced)
        if self._final and self.held_chars:
            return Look(self._text, self._shown, final=True, forced=False)
        return None

    def cut(self, look: Look, spans: Sequence[Span], whole: Sequence[Span] = ()) -> Cut:
        """What may leave after a look in which `spans` were found; it ends in none of them nor in any of `whole`."""
        kept = [span for span in (*spans, *whole) if span.end > look.shown]
        lookahead = 0 if look.final else self._config.lookahead_chars
        point = len(look.text) if look.final else release_point(look.text, look.shown, kept, lookahead=lookahead)
        if point == look.shown and look.forced:
            point = release_point(look.text, look.shown, whole, lookahead=lookahead)
        self._extra = 0 if point > look.shown else self._extra + self._config.step_chars
        inside = tuple(
            replace(span, start=max(span.start, look.shown) - look.shown, end=min(span.end, point) - look.shown)
            for span in spans
            if max(span.start, look.shown) < min(span.end, point)
        )
        text = look.text[look.shown : point]
        self._let_go(point)
        return Cut(text, inside)

    def _let_go(self, point: int) -> None:
        """Forget what is no context any more; what stays begins with a word, wherever the answer was cut."""
        begin = max(0, point - self._config.context_chars)
        while 0 < begin < point and not self._text[begin - 1].isspace():
            begin += 1
        self._text, self._shown = self._text[begin:], point - begin


def release_point(text: str, released: int, spans: Sequence[Span], *, lookahead: int) -> int:
    """Up to where a text that grows may be shown: `text[released:point]`.

    `spans`: what was found in all of `text` so far. At least `lookahead` characters stay back; the cut lies between
    two words and in no span. MAY be `released`: nothing yet. Words longer than `lookahead` are cut where it must be,
    so that nothing is held back for ever.
    """
    point = max(released, len(text) - lookahead)
    space = next((place for place in range(point, released, -1) if text[place - 1].isspace()), released)
    boundary = _outside(space, spans)
    if boundary <= released and point - released > lookahead:
        boundary = _outside(point, spans)
    return max(released, boundary)


def _outside(place: int, spans: Sequence[Span]) -> int:
    """The last place up to `place` that lies in no span."""
    for span in sorted(spans, key=lambda span: span.start, reverse=True):
        if span.start < place < span.end:
            place = span.start
    return place
