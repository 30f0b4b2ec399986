"""Stands in front of everything: nothing reaches a page or Gradio that `policy.py` does not name. Pure ASGI.

Order of refusals, first to last: websocket (closed), unknown host 421, unknown path 404, cross-site change 403,
no session 401 or sign-in, somebody else's tab 403, body too large 413. On the way back every answer gets the
headers of `headers.py`, a page gets its nonce and its chrome, a stream ends when its session does, and the answer to
an event says which stream of its tab has ended (`event_streams.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.chrome import Chrome, new_nonce
from ui.client import Refused
from ui.event_streams import ENDED, NUMBER, EventStreams, is_end
from ui.headers import Header, for_api, for_page
from ui.markup import page
from ui.ownership import TabOwners
from ui.policy import MOUNT, SAFE_METHODS, Area, area_of, host_name, same_origin
from ui.sessions import Holder, Sessions
from ui.settings import UiSettings

_CACHING = {Area.ASSET: "forever", Area.PUBLIC: "never"}
_HTML = b"text/html; charset=utf-8"
SESSION_ENDED = b": the session ended\n\n"  # a comment to every reader of events; `app.js` leaves the page at it
_UNTOLD_S = 30.0  # how long an answer under way goes on while the API is too busy to tell whether its session lives
_NEEDS_SESSION = frozenset({Area.DOWNLOAD, Area.UPLOAD, Area.PAGE, Area.ASSET, Area.GRADIO})


@dataclass(slots=True)
class _Request:
    """What the guard knows of one request. Only the guard sees it."""

    scope: Scope
    area: Area
    headers: dict[bytes, str]
    nonce: str = field(default_factory=new_nonce)
    cookie: str | None = None
    holder: Holder | None = None


class Guard:
    """`api` and `pages` are ASGI applications; `sessions` decides who is signed in; `chrome` dresses pages."""

    def __init__(
        self,
        *,
        api: ASGIApp,
        pages: ASGIApp,
        sessions: Sessions,
        chrome: Chrome,
        settings: UiSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._pages = pages
        self._sessions = sessions
        self._chrome = chrome
        self._settings = settings
        self._clock = clock
        self._tabs = TabOwners(limit=settings.sessions_max, idle_s=settings.tab_idle_s, clock=clock)
        self._streams = EventStreams(limit=settings.sessions_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if host_name(headers.get(b"host", "")) not in self._settings.allowed_hosts:
            await self._answer(send, 421, "this server does not answer for that host name")
            return
        area = area_of(scope["method"], scope["path"])
        if area is None:
            await self._answer(send, 404, "there is nothing here")
        elif area is Area.API:
            await self._api(scope, receive, self._api_send(send))
        else:
            request = _Request(scope, area, headers, cookie=self._session_cookie(headers))
            await self._page(request, receive, send)

    async def _page(self, request: _Request, receive: Receive, send: Send) -> None:
        if request.scope["method"] not in SAFE_METHODS and not same_origin(request.headers):
            await self._answer(send, 403, "this request came from another site and was refused")
            return
        if request.area in _NEEDS_SESSION:
            try:
                request.holder = await self._sessions.find(request.cookie)
            except Refused as refusal:
                if request.area is Area.PAGE:
                    await self._answer(send, 503, self._busy_page(request, refusal), type_=_HTML)
                else:
                    await self._refuse(request, send, 503, f"{refusal.message}; try again in a moment")
                return
            if request.holder is None:
                await self._send_to_sign_in(request, send)
                return
        passing = self._page_send(request, send)
        tab: str | None = None
        if request.area is not Area.UPLOAD:  # which is passed on as it comes and counted by its page
            body = await self._read_body(request, receive)
            if body is None:
                await self._refuse(request, send, 413, "the request is too large")
                return
            if request.area is Area.GRADIO:
                tabs = _tabs_named(request, body)
                if not self._owns_all(request, tabs):
                    reload = "this browser tab belongs to another session; reload the page"
                    await self._refuse(request, send, 403, reload)
                    return
                tab = str(tabs[0])
            receive = _replay(body, receive)
        scope = {**request.scope, "state": {**request.scope.get("state", {}), "holder": request.holder}}
        # Pages are rewritten on the way out, so they must arrive uncompressed.
        if request.area is not Area.ASSET:
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]

        async def refuse(send: Send) -> None:
            await self._send_to_sign_in(request, send)

        watch = _Watch(self._sessions, request, self._settings.session_check_s, self._clock, refuse)
        passing = watch.send(passing)
        await self._pages(
            scope, watch.receive(receive), passing if tab is None else self._numbered(request, tab, passing)
        )

    def _owns_all(self, request: _Request, tabs: list[object]) -> bool:
        assert request.holder is not None
        return bool(tabs) and all(self._tabs.claim(tab, request.holder.key) for tab in tabs)

    def _numbered(self, request: _Request, tab: str, send: Send) -> Send:
        """Numbers the streams of this tab, and says with the answer to an event which of them has ended.

        Nothing may be waited for between Gradio's decision that a stream ends and this note of it.
        """
        path = request.scope["path"]
        number = self._streams.begun(tab) if path.endswith("/queue/data") else ""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = number or self._streams.last_ended(tab)
                if told is not None:
                    header = (NUMBER if number else ENDED, told.encode())
                    message = {**message, "headers": [*message["headers"], header]}
            elif number and is_end(message.get("body", b"")):
                self._streams.ended(tab, number)
            await send(message)

        return sending if path.endswith(("/queue/data", "/queue/join")) else send

    async def _read_body(self, request: _Request, receive: Receive) -> bytes | None:
        """The whole body, at most `body_bytes_max`; None when there is more. Pages have no large bodies."""
        body = bytearray()
        more = request.scope["method"] not in SAFE_METHODS
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return b""
            body += message.get("body", b"")
            if len(body) > self._settings.body_bytes_max:
                return None
            more = message.get("more_body", False)
        return bytes(body)

    def _session_cookie(self, headers: dict[bytes, str]) -> str | None:
        try:
            morsel = SimpleCookie(headers.get(b"cookie", "")).get(self._settings.session_cookie)
        except CookieError:
            return None
        return morsel.value if morsel is not None and morsel.value.isascii() else None

    async def _send_to_sign_in(self, request: _Request, send: Send) -> None:
        if request.area in {Area.PAGE, Area.DOWNLOAD}:
            await self._answer(send, 303, "sign in first", location="/login")
        else:
            await self._answer(send, 401, "sign in first")

    def _busy_page(self, request: _Request, refusal: Refused) -> str:
        """The way back is the page that was asked for."""
        shown = Refused(503, refusal.code, refusal.message, refusal.hint or "try again in a moment")
        query = request.scope.get("query_string", b"").decode("latin-1")
        back = request.scope["path"] + (f"?{query}" if query else "")
        return page("message", site=self._settings.site_name, heading="The server is busy", problem=shown, back=back)

    async def _refuse(self, request: _Request, send: Send, status: int, text: str) -> None:
        """Gradio's script shows the person the `detail` of a refusal; what is not JSON it cannot read."""
        if request.area is Area.GRADIO:
            await self._answer(send, status, json.dumps({"detail": text}), type_=b"application/json")
        else:
            await self._answer(send, status, text)

    async def _answer(
        self,
        send: Send,
        status: int,
        text: str,
        *,
        location: str | None = None,
        type_: bytes = b"text/plain; charset=utf-8",
    ) -> None:
        body = text.encode()
        headers: list[Header] = [
            (b"content-type", type_),
            (b"content-length", str(len(body)).encode()),
        ]
        if location:
            headers.append((b"location", location.encode()))
        ours = for_page(headers, nonce=new_nonce(), caching="never", secure=self._settings.secure)
        await send({"type": "http.response.start", "status": status, "headers": ours})
        await send({"type": "http.response.body", "body": body})

    def _api_send(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": for_api(message["headers"], secure=self._settings.secure)}
            await send(message)

        return sending

    def _page_send(self, request: _Request, send: Send) -> Send:
        """Adds headers; holds back a Gradio page until it is whole, to dress it."""
        held: list[Message] = []
        document = bytearray()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                caching = _caching(request)
                ours = for_page(message["headers"], nonce=request.nonce, caching=caching, secure=self._settings.secure)
                message = {**message, "headers": ours}
                whole_page = request.scope["method"] == "GET" and message["status"] == 200
                if request.area is Area.PAGE and whole_page and _is_html(ours):
                    held.append(message)
                else:
                    await send(message)
                return
            if not held:
                await send(message)
                return
            document.extend(message.get("body", b""))
            if message.get("more_body", False):
                return
            start = held[0]
            assert request.holder is not None
            whole = self._chrome.dress(
                bytes(document), nonce=request.nonce, path=request.scope["path"], user=request.holder.user
            )
            kept = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
            kept.append((b"content-length", str(len(whole)).encode()))
            await send({**start, "headers": kept})
            await send({"type": "http.response.body", "body": whole})

        return sending


def _tabs_named(request: _Request, body: bytes) -> list[object]:
    """Every tab that a call names, in its address and in its body; what is no name is among them, to be refused."""
    path = request.scope["path"]
    named: list[object] = [*parse_qs(request.scope.get("query_string", b"").decode("latin-1")).get("session_hash", [])]
    if "/heartbeat/" in path:
        named.append(path.rsplit("/", 1)[-1])
    if request.scope["method"] == "POST":
        try:
            sent = json.loads(body)
        except (ValueError, RecursionError):  # not JSON, or nested without end
            sent = None
        named.append(sent.get("session_hash") if isinstance(sent, dict) else None)
    return named


class _Watch:
    """Ends an answer that outlives its session: after the cut nothing is sent and the application is told to stop.

    A stream of events tells its page of it. An answer that says how long it is cannot be ended early: it begins when
    its first piece is there, and is refused instead where the session ended before; cut later, it is left unfinished,
    and the server closes the connection.
    """

    def __init__(
        self,
        sessions: Sessions,
        request: _Request,
        every_s: float,
        clock: Callable[[], float],
        refuse: Callable[[Send], Awaitable[None]],
    ) -> None:
        self._sessions = sessions
        self._request = request
        self._every_s = every_s
        self._clock = clock
        self._refuse = refuse
        self._checked = self._valid_at = clock()
        self._start: Message | None = None  # of an answer of known length, until its first piece
        self._early_end: bytes | None = b""
        self._cut = False

    def receive(self, receive: Receive) -> Receive:
        async def receiving() -> Message:
            return {"type": "http.disconnect"} if self._cut else await receive()

        return receiving

    def send(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if self._cut:
                return
            if message["type"] == "http.response.start":
                self._early_end = _early_end(message["headers"])
                if self._early_end is None:
                    self._start = message
                    return
            if message["type"] == "http.response.body" and not await self._valid():
                self._cut = True
                await self._end(send)
                return
            if self._start is not None:
                start, self._start = self._start, None
                await send(start)
            await send(message)

        return sending

    async def _end(self, send: Send) -> None:
        if self._start is not None:
            await self._refuse(send)
        elif self._early_end is not None:
            await send({"type": "http.response.body", "body": self._early_end, "more_body": False})

    async def _valid(self) -> bool:
        now = self._clock()
        if self._request.holder is None or now - self._checked < self._every_s:
            return True
        self._checked = now
        try:
            if await self._sessions.find(self._request.cookie) is None:
                return False
        except Refused:
            return now - self._valid_at < _UNTOLD_S
        self._valid_at = now
        return True


def _caching(request: _Request) -> str:
    path = request.scope["path"]
    if path.startswith("/ui/static/") or path == f"{MOUNT}/theme.css":
        return "revalidate"
    return _CACHING.get(request.area, "never")


def _early_end(headers: list[Header]) -> bytes | None:
    """The last piece of an answer that ends early; None where its length was told, so that it cannot."""
    told = {name.lower(): value for name, value in headers}
    if b"content-length" in told:
        return None
    return SESSION_ENDED if told.get(b"content-type", b"").startswith(b"text/event-stream") else b""


def _is_html(headers: list[Header]) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in headers)


def _replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """The body that was already read, then whatever the connection says next."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return waiting.pop() if waiting else await receive()

    return receiving
