"""A client that goes away cancels its work.

Starlette only reports a disconnect to whoever calls `receive`; while a request is served nobody does, so this module
listens beside the work and cancels it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from appliance.errors import RequestCancelled

T = TypeVar("T")


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
