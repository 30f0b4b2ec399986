"""When a tab's stream of answers ended, for as long as its browser may not have read that. Pure apart from its clock.

Gradio ends the stream of a tab with the last event on it (`close_stream`). Until the browser has read that, it takes
the stream for open: the answer to an event that it sends meanwhile would come on a stream that nobody opens, and the
page would wait for it for ever. So whoever takes an event tells the browser of it only when the end must be known.

    ends = StreamEnds(clock=time.monotonic)
    ends.ended("k3v9x0q2a1")
    ends.unread_s("k3v9x0q2a1")   # 0.5: how long the next event of this tab is to be held
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

READ_S = 0.5  # a browser reads what was sent so long ago before what is sent now
_END = b'"close_stream"'  # inside of a value its quotation marks would be escaped


def is_end(piece: bytes) -> bool:
    """Whether this piece of a stream is Gradio's last."""
    return _END in piece


class StreamEnds:
    """Bounded: what ended longer ago than `READ_S` is forgotten with the next one."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ended: OrderedDict[str, float] = OrderedDict()  # oldest first

    def ended(self, tab: str) -> None:
        """The end of its stream is on its way to this tab."""
        now = self._clock()
        self._ended[tab] = now
        self._ended.move_to_end(tab)
        while now - next(iter(self._ended.values())) >= READ_S:
            self._ended.popitem(last=False)

    def unread_s(self, tab: str) -> float:
        """Seconds until this tab has read that its stream ended; 0.0 where none ended just now."""
        ended = self._ended.get(tab)
        return 0.0 if ended is None else max(0.0, ended + READ_S - self._clock())

    def __len__(self) -> int:
        return len(self._ended)
