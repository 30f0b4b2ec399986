"""An answer that is streamed to somebody who goes away ends when what it was made from is closed, and not before."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect

from appliance.api.disconnects import ClosingResponse


class Source:
    """Pieces without an end, and something that takes a while to do when nobody wants more."""

    def __init__(self):
        self.is_closed = False
        self.pieces = self._pieces()

    async def _pieces(self):
        try:
            while True:
                yield b"piece"
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            self.is_closed = True


async def passed_on(source):
    async for piece in source:
        yield piece


def served(source, send, spec_version, gone):
    """The response, as a server runs it whose client is gone when `gone` is set."""
    response = ClosingResponse(passed_on(source.pieces), source=source.pieces, media_type="text/plain", headers={})

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    return response({"type": "http", "asgi": {"spec_version": spec_version}}, receive, send)


@pytest.mark.parametrize("pieces_read", [0, 3])
def test_a_client_that_goes_away_while_a_piece_is_sent(pieces_read):
    async def go():
        source, gone, sent = Source(), asyncio.Event(), []
        await anext(source.pieces)  # as the routes do, which wait for the first

        async def send(message):
            sent.append(message)
            if len(sent) > pieces_read:
                gone.set()
                await asyncio.Event().wait()  # a client that reads no more

        await served(source, send, "2.3", gone)
        return source.is_closed, len(sent)

    assert asyncio.run(go()) == (True, pieces_read + 1)


def test_a_server_that_says_so_when_it_sends():
    async def go():
        source, sent = Source(), []

        async def send(message):
            sent.append(message)
            if len(sent) > 2:
                raise OSError("the client is gone")

        with pytest.raises(ClientDisconnect):
            await served(source, send, "2.4", asyncio.Event())
        return source.is_closed

    assert asyncio.run(go())


def test_a_server_that_is_shut_down_meanwhile():
    async def go():
        source, begun = Source(), asyncio.Event()

        async def send(_):
            begun.set()
            await asyncio.Event().wait()

        await anext(source.pieces)
        serving = asyncio.create_task(served(source, send, "2.3", asyncio.Event()))
        await begun.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        return source.is_closed

    assert asyncio.run(go())
