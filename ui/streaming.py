"""Answers of the API piece by piece, inside this process: a search that reports its progress, a log of any length.

httpx's own ASGI transport hands an answer over when it is whole. This one hands it over while it is made, with at
most `PIECES_MAX` pieces waiting, so that a slow reader slows the API down instead of filling memory. A reader that
goes away is a disconnected client to the API.

    async with httpx.AsyncClient(transport=StreamingTransport(api, peer), base_url="http://127.0.0.1") as http:
        async with http.stream("GET", "/v1/audit/export") as answer:
            async for piece in answer.aiter_bytes(): ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
from starlette.types import ASGIApp, Message

PIECES_MAX = 4
_LET_GO_S = 15.0  # an application that does not notice the disconnect is cancelled after that


class AnswerCutOff(httpx.RemoteProtocolError):
    """The application ended before its answer did."""


class StreamingTransport(httpx.AsyncBaseTransport):
    """One request at a time per application task. The request's body is sent whole; it is never large here."""

    def __init__(self, app: ASGIApp, client: tuple[str, int]) -> None:
        self._app = app
        self._client = client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = _Answer(self._app, _scope(request, self._client), await request.aread())
        status, headers = await answer.begun()
        return httpx.Response(status, headers=headers, stream=answer)


def _scope(request: httpx.Request, client: tuple[str, int]) -> dict[str, object]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?", 1)[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port or 80),
        "client": client,
        "root_path": "",
    }


class _Answer(httpx.AsyncByteStream):
    """The application running in a task of its own, and the pieces it has sent so far."""

    def __init__(self, app: ASGIApp, scope: dict[str, object], body: bytes) -> None:
        self._pieces: asyncio.Queue[Message | None] = asyncio.Queue(PIECES_MAX)
        self._body: bytes | None = body
        self._gone = asyncio.Event()
        self._task = asyncio.create_task(self._run(app, scope), name="ui-streamed-answer")

    async def begun(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        try:
            message = await self._pieces.get()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if message is None or message["type"] != "http.response.start":
            await self.aclose()
            return 500, []  # what a server answers for an application that failed before it began
        return int(message["status"]), list(message["headers"])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._gone.is_set():  # it failed before it began: the 500 has no body, and nothing will come
            return
        while (message := await self._pieces.get()) is not None:
            yield message.get("body", b"")
            if not message.get("more_body", False):
                return
        raise AnswerCutOff("the server's answer broke off")

    async def aclose(self) -> None:
        self._gone.set()
        while not self._pieces.empty():
            self._pieces.get_nowait()
        try:
            if not self._task.done():
                await asyncio.wait({self._task}, timeout=_LET_GO_S)
        finally:
            self._task.cancel()

    async def _run(self, app: ASGIApp, scope: dict[str, object]) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception:  # noqa: BLE001, S110 - the API has logged it; the reader learns that the answer broke off
            pass
        finally:
            if not self._gone.is_set():
                await self._put(None)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] in {"http.response.start", "http.response.body"}:
            await self._put(message)

    async def _put(self, message: Message | None) -> None:
        """Waits for room; a reader that has gone away makes room for everything."""
        putting, gone = asyncio.ensure_future(self._pieces.put(message)), asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait({putting, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
            gone.cancel()
