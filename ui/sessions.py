"""Is this browser session valid, asked of the API and remembered for a moment. Owner of that short memory.

A page is sixty requests; each must be refused without a session, and none should cost a question to the database.
Checking never counts as activity: only what a person does through the API keeps a session awake.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ui.client import Client, Refused, SignedIn

_COOKIE_CHARS_MAX = 512


@dataclass(frozen=True, slots=True)
class Holder:
    """A valid session: `key` names it in tables (a digest, never the secret)."""

    key: bytes
    user: SignedIn


class Sessions:
    """`find` answers from memory for `fresh_s` seconds, then asks again; `forget` ends that at once."""

    def __init__(self, client: Client, *, fresh_s: float, limit: int, clock: Callable[[], float]) -> None:
        self._client = client
        self._fresh_s = fresh_s
        self._limit = limit
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Holder | None]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Holder | None]] = {}

    async def find(self, cookie: str | None) -> Holder | None:
        """The holder of this cookie, or None when it opens nothing. Raises `Refused` when the API cannot tell."""
        if not cookie or len(cookie) > _COOKIE_CHARS_MAX:
            return None
        key = hashlib.sha256(cookie.encode()).digest()
        known = self._known.get(key)
        if known is not None and self._clock() - known[0] < self._fresh_s:
            return known[1]
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.create_task(self._ask(key, cookie))
            self._asking[key] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)  # one visitor going away must not fail the others that wait

    def forget(self, cookie: str | None) -> None:
        if cookie:
            self._known.pop(hashlib.sha256(cookie.encode()).digest(), None)

    async def _ask(self, key: bytes, cookie: str) -> Holder | None:
        try:
            user = await self._client.visitor(cookie=cookie, address=None).session()
        except Refused as refusal:
            if not refusal.signed_out:
                raise  # nothing is known and nothing is remembered; a busy API signs nobody out
            holder = None
        else:
            holder = Holder(key, user)
        self._known[key] = (self._clock(), holder)
        self._known.move_to_end(key)
        while len(self._known) > self._limit:
            self._known.popitem(last=False)
        return holder
