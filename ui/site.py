"""Puts the server together: the API, the pages and the guard in front of both, as one ASGI application.

    site = create_site(create_api(appliance), UiSettings(site_name="St. Brigid Hospital", version="0.1.0"))
    uvicorn.run(site, host="127.0.0.1", port=8443, timeout_graceful_shutdown=5)

Start and stop follow the API's: its lifespan runs first, then Gradio is loaded behind its back; at the end Gradio
stops first. Paths of the API reach it untouched, apart from security headers on the way out.
"""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.chrome import Chrome
from ui.client import Client
from ui.guard import Guard
from ui.loader import Loader
from ui.pages import create_pages
from ui.sessions import Sessions
from ui.settings import UiSettings


def create_site(api: ASGIApp, settings: UiSettings) -> Site:
    """The one application that uvicorn serves. Nothing is imported or started before its lifespan begins."""
    # It reports every call at INFO; these never leave the process and are in the API's own log already.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    client = Client(api, cookie_name=settings.session_cookie, secure=settings.secure)
    sessions = Sessions(client, fresh_s=settings.session_check_s, limit=settings.sessions_max, clock=time.monotonic)
    loader = Loader(client, settings)
    guard = Guard(
        api=api,
        pages=create_pages(client, sessions, loader, settings),
        sessions=sessions,
        chrome=Chrome(settings),
        settings=settings,
    )
    return Site(api, guard, loader)


class Site:
    """Routes the lifespan to the API and everything else to the guard."""

    def __init__(self, api: ASGIApp, guard: Guard, loader: Loader) -> None:
        self._api = api
        self._guard = guard
        self._loader = loader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._guard(scope, receive, send)
            return

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._loader.stop()
            return message

        async def sending(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._loader.start()
            await send(message)

        await self._api(scope, receiving, sending)
