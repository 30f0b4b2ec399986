"""Which stream of answers a tab opened last, and whether it has ended. Pure; what it keeps is bounded.

Gradio ends the stream of a tab with the last event on it (`close_stream`). Until the browser has read that, it takes
the stream for open: the answer to an event that it sends meanwhile would come on a stream that nobody opens, and the
page would wait for it for ever. So streams are numbered, the answer to an event names the one that has ended, and
`app.js` hands that answer on when it has read this very stream to its end.

    streams = EventStreams(limit=1000)
    number = streams.begun("k3v9x0q2a1")      # "1", told with the stream
    streams.ended("k3v9x0q2a1", number)
    streams.last_ended("k3v9x0q2a1")          # "1", told with the answer to an event; None while it is open
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count

NUMBER = b"x-event-stream"
ENDED = b"x-event-stream-ended"
_END = b'"close_stream"'  # inside of a value its quotation marks would be escaped


def is_end(piece: bytes) -> bool:
    """Whether this piece of a stream is Gradio's last."""
    return _END in piece


class EventStreams:
    """The last stream of each tab, of `limit` tabs at most: of those above it, the tabs that were quiet longest."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._numbers = count(1)
        self._last: OrderedDict[str, tuple[str, bool]] = OrderedDict()  # number and whether it ended, oldest first

    def begun(self, tab: str) -> str:
        """The number of a stream that this tab opens now."""
        number = str(next(self._numbers))
        self._last[tab] = number, False
        self._last.move_to_end(tab)
        if len(self._last) > self._limit:
            self._last.popitem(last=False)
        return number

    def ended(self, tab: str, number: str) -> None:
        """The end of this stream is on its way to the tab."""
        if self._last.get(tab) == (number, False):
            self._last[tab] = number, True

    def last_ended(self, tab: str) -> str | None:
        """The number of this tab's last stream, if that has ended; None while it is open, or where there was none."""
        number, ended = self._last.get(tab, ("", False))
        return number if ended else None
