"""A client that goes away cancels its work.

Starlette only reports a disconnect to whoever calls `receive`; while a request is served nobody does, so
`unless_disconnected` listens beside the work and cancels it. While an answer is streamed Starlette does listen, but
leaves what it streamed from to the garbage collector: `ClosingResponse` closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from appliance.errors import RequestCancelled

T = TypeVar("T")


class ClosingResponse(StreamingResponse):
    """Streams `content`, which is made from `source`; ends when both are closed, read to the end or not.

    Whoever waits for the end of the response finds what they did on being closed done: a record written, a slot free.
    """

    def __init__(
        self,
        content: AsyncGenerator[str | bytes],
        *,
        source: AsyncGenerator[Any],
        media_type: str,
        headers: dict[str, str],
    ) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self._to_close = content, source  # both: closing a generator that never began runs nothing of it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            for generator in self._to_close:
                await generator.aclose()


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. Raises `RequestCancelled` after cancelling it when the client is gone first."""
    working = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        working.cancel()
        # The work still closes its exchange in the log before it lets go.
        await asyncio.wait({working})
        if not working.cancelled() and working.exception() is None:
            return working.result()
        raise RequestCancelled("the client closed the connection before the answer was ready")
    finally:
        listening.cancel()
        if not working.done():
            working.cancel()


async def _disconnected(request: Request) -> None:
    """Return when the client is gone. The body has been read already, so nothing else arrives."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
