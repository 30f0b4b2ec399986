"""What one caller may send and how much runs at once, enforced before any route sees the request (pure ASGI)."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.error_responses import error_response
from appliance.errors import InputTooLong, QueueFull

# Probes must answer while everything else is busy: that is what they are for.
_UNBOUNDED_PATHS = frozenset({"/healthz", "/readyz"})


class _BodyTooLarge(Exception):
    """Raised inside `receive` to stop reading; never leaves this module."""


class RequestLimits:
    """Refuses bodies over `body_bytes_max` with 413 and requests over `in_flight_max` with 429.

    `uploads`: the paths that take whole files, with the bytes that each may have.
    """

    def __init__(
        self, app: ASGIApp, *, body_bytes_max: int, in_flight_max: int, uploads: Mapping[str, int] | None = None
    ) -> None:
        self.app = app
        self.body_bytes_max = body_bytes_max
        self.uploads = dict(uploads or {})
        self.in_flight_max = in_flight_max
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _UNBOUNDED_PATHS:
            await self.app(scope, receive, send)
            return
        if self.in_flight >= self.in_flight_max:
            busy = QueueFull("the appliance is serving as many requests as it may", retry_after_s=1.0)
            await error_response(busy)(scope, receive, send)
            return
        self.in_flight += 1
        try:
            await self._with_bounded_body(scope, receive, send)
        finally:
            self.in_flight -= 1

    async def _with_bounded_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_upload = scope["path"] in self.uploads
        bytes_max = self.uploads.get(scope["path"], self.body_bytes_max)
        key = "specialists.file_bytes_max or teaching.table_bytes_max" if is_upload else "limits.body_bytes_max"
        too_long = error_response(
            InputTooLong(
                f"the request body is larger than {bytes_max} bytes",
                hint=f"send less, or raise {key} in config.toml",
            )
        )
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > bytes_max:
            await too_long(scope, receive, send)
            return
        received = 0
        answered = False

        async def bounded_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > bytes_max:
                raise _BodyTooLarge
            return message

        async def noting_send(message: Message) -> None:
            nonlocal answered
            answered = answered or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, bounded_receive, noting_send)
        except _BodyTooLarge:
            if not answered:
                await too_long(scope, receive, send)
