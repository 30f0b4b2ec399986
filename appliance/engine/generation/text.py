"""Bytes of tokens to text that may be released: whole characters only, and nothing of a stop text. Pure.

stream = TextStream(("STOP",))
stream.feed(b"abc ST")         # "abc "      "ST" may become a stop text
stream.feed(b"AY")             # "STAY"
stream.feed(b"STOP and")       # ""          stream.stopped == "STOP"; what follows it is dropped
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one answer as it grows."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        assert all(stops)
        self._stops = tuple(stops)
        self._longest = max(map(len, self._stops), default=0)
        # Invalid bytes become U+FFFD, as everywhere else; a character that is not complete yet waits for its rest.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped: str | None = None

    def feed(self, piece: bytes) -> str:
        """Take a token's bytes; returns what may be released now."""
        return self._advance(self._decoder.decode(piece))

    @property
    def holding(self) -> bool:
        """Whether text waits that may yet become a stop text, or the rest of a character."""
        return bool(self._held) or bool(self._decoder.getstate()[0])

    def finish(self) -> str:
        """No token follows: release what was held back."""
        released = self._advance(self._decoder.decode(b"", final=True))
        if self.stopped is None:
            released, self._held = released + self._held, ""
        return released

    def _advance(self, text: str) -> str:
        if self.stopped is not None:
            return ""
        if not self._stops:
            return text
        held = self._held + text
        # The one that is complete first ends the answer, however the text was cut; of two, the one that began first.
        found = [(place + len(stop), place, stop) for stop in self._stops if (place := held.find(stop)) >= 0]
        if found:
            _, place, self.stopped = min(found)
            self._held = ""
            return held[:place]
        keep = self._could_become_a_stop(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def _could_become_a_stop(self, text: str) -> int:
        """Length of the longest end of `text` with which some stop text begins."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            ending = text[len(text) - length :]
            if any(len(stop) > length and stop.startswith(ending) for stop in self._stops):
                return length
        return 0
