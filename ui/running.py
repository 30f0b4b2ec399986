"""What goes on in a tab until it is over, is stopped or is left: a search, an answer.

sign = running.begin(tab)
async with aclosing(until(lines, sign)) as news:
    async for line in news: ...          # None: no news for a moment

A callback that others may overtake ends with a yield that leaves the page as it is: when it is over, Gradio sends its
last yield once more, which may be long after another callback has drawn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from ui.client import Json, Refused

_LOOK_EVERY_S = 0.5  # what is without news is still asked whether anybody waits for it


class Running:
    """What is under way in each tab, one thing at a time; the guard binds the names of tabs to their session."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Event] = {}

    def begin(self, tab: str) -> asyncio.Event:
        """The stop sign of what begins. What this tab still runs is stopped."""
        self.stop(tab)
        sign = self._running[tab] = asyncio.Event()
        return sign

    def stop(self, tab: str) -> None:
        if (sign := self._running.get(tab)) is not None:
            sign.set()

    def drop(self, tab: str) -> None:
        """Stops what this tab runs, of which nothing more is to be shown."""
        self.stop(tab)
        self._running.pop(tab, None)

    def is_newest(self, tab: str, sign: asyncio.Event) -> bool:
        return self._running.get(tab) is sign

    def end(self, tab: str, sign: asyncio.Event) -> None:
        if self.is_newest(tab, sign):
            del self._running[tab]


async def until(lines: AsyncGenerator[Json], sign: asyncio.Event) -> AsyncGenerator[Json | None]:
    """The lines until the sign to stop; None when there is no news for a moment. Ends the work when it is left."""
    stopping = asyncio.ensure_future(sign.wait())
    coming: asyncio.Future[Json | None] | None = None
    try:
        while not sign.is_set():
            coming = coming or asyncio.ensure_future(_next(lines))
            waited: set[asyncio.Future[Any]] = {coming, stopping}
            done, _ = await asyncio.wait(waited, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            if coming in done:
                finished, coming = coming, None
                if (line := finished.result()) is None:
                    return
                yield line
            elif not done:
                yield None
    finally:
        stopping.cancel()
        if coming is not None:
            coming.cancel()
            with suppress(asyncio.CancelledError, Refused):
                await coming
        await lines.aclose()


async def _next(lines: AsyncGenerator[Json]) -> Json | None:
    return await anext(lines, None)
