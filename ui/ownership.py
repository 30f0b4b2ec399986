"""Which browser session a Gradio tab belongs to. Owner of that table; pure apart from the clock it is given.

Gradio lets the browser choose a `session_hash` per tab and binds it to nobody: whoever names it may read its
answers. Here the first session that uses a hash owns it, and nobody else may name it until the claim expires.
Signing out does not free a name: an answer that is still on its way to that tab must not find a new listener.

    tabs = TabOwners(limit=4096, idle_s=3600, clock=time.monotonic)
    tabs.claim("k3v9x0q2a1", owner)   # True: yours now; False: somebody else's, or not a tab's name
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

_TAB = re.compile(r"[A-Za-z0-9_-]{6,64}")


class TabOwners:
    """Bounded: when full, the claim unused for longest is dropped, which can only end that tab's conversation."""

    def __init__(self, *, limit: int, idle_s: float, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._idle_s = idle_s
        self._clock = clock
        self._claims: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # oldest use first

    def claim(self, tab: object, owner: bytes) -> bool:
        """True when `owner` holds `tab` from now on. Anything that cannot be a tab's name is refused."""
        if not isinstance(tab, str) or not _TAB.fullmatch(tab):
            return False
        now = self._clock()
        self._expire(now)
        held = self._claims.get(tab)
        if held is not None and held[0] != owner:
            return False
        self._claims[tab] = (owner, now)
        self._claims.move_to_end(tab)
        while len(self._claims) > self._limit:
            self._claims.popitem(last=False)
        return True

    def __len__(self) -> int:
        return len(self._claims)

    def _expire(self, now: float) -> None:
        while self._claims:
            tab, (_, used) = next(iter(self._claims.items()))
            if now - used < self._idle_s:
                return
            del self._claims[tab]
