"""Only clients of the site's own networks are served: everybody else is refused before a byte of theirs is looked at.

    application = OnlyFrom(application, server.client_networks)

A frontier and no sign-in: what is inside still has to say who it is. Answers over TLS tell browsers to stay with it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
_HSTS = (b"strict-transport-security", b"max-age=31536000")
_BODY = b'{"error":{"code":"permission_denied","message":"this network is not served","type":"permission_error"}}'


class OnlyFrom:
    """ASGI in front of everything. A client without an address came through a socket of this machine."""

    def __init__(self, application: Application, networks: Sequence[str], *, secure: bool) -> None:
        self._application = application
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._secure = secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._application(scope, receive, send)
        elif self._is_ours(scope.get("client")):
            await self._application(scope, receive, self._told(send) if self._secure else send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": _BODY})

    def _is_ours(self, client: Sequence[Any] | None) -> bool:
        if not client:
            return True
        try:
            address = ipaddress.ip_address(str(client[0]).partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    @staticmethod
    def _told(send: Send) -> Send:
        async def told(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), _HSTS]}
            await send(message)

        return told
