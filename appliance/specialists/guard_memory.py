"""What the guard found before: verdicts of texts, and who has which placeholder in a conversation. In memory only.

    memory = GuardMemory(config.guard)
    key = memory.verdict_key(text, policy, entry.sha256)
    spans = memory.verdict(key)                        # None: not looked at yet, or forgotten
    memory.keep_verdict(key, spans)

    said = memory.conversation(principal.id, entry.sha256)     # a chain over the turns, so no other conversation has it
    said = memory.after(said, "user", "Ana Lima asks")
    memory.keep_numbers(said, numbers);  memory.numbers(said)

Texts are known by a digest under a key that is drawn at the start and leaves this process no more than anything else
here does. Verdicts hold places and labels; numbers hold the identifiers themselves, as the conversation's owner sent
them. Both are bounded together, the least recently used goes first, and everything goes `remembered_s` after its last
use. Forgetting costs time and, after a restart, a new number for what a model wrote; never a wrong one.

Owned by the event loop: no method blocks and none may be called from another thread.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from appliance.config import GuardConfig
from appliance.crypto.keys import keyed_hash, random_key
from appliance.specialists.guard import NOBODY, Placeholders
from appliance.types import Span

Key = bytes


@dataclass(frozen=True, slots=True)
class Numbers:
    """Who has which placeholder in a conversation: what its owner wrote, and what the model wrote beyond that."""

    asker: Placeholders = NOBODY
    model: Placeholders = NOBODY


@dataclass(frozen=True, slots=True)
class _Entry:
    value: tuple[Span, ...] | Numbers
    cost: int
    used: float


class GuardMemory:
    """See the module."""

    def __init__(self, config: GuardConfig, now: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._now = now
        self._secret = random_key()
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()  # the least recently used first
        self._cost = 0

    @property
    def size(self) -> int:
        """What is remembered now: verdicts, and identifiers in them and in numbers."""
        return self._cost

    def verdict_key(self, text: str, policy: str, detector_sha256: str) -> Key:
        """The name of a text for one detector under one policy."""
        return self._digest(b"text", policy.encode(), detector_sha256.encode(), text.encode())

    def verdict(self, key: Key) -> tuple[Span, ...] | None:
        """What was found in that text."""
        value = self._take(key)
        return value if isinstance(value, tuple) else None

    def keep_verdict(self, key: Key, spans: tuple[Span, ...]) -> None:
        """Remember what was found."""
        self._put(key, spans, 1 + len(spans))

    def conversation(self, principal: str, detector_sha256: str) -> Key:
        """Where the chain over somebody's turns begins."""
        return self._digest(b"conversation", principal.encode(), detector_sha256.encode())

    def after(self, said: Key, role: str, text: str) -> Key:
        """The chain with one more turn."""
        return self._digest(b"turn", said, role.encode(), text.encode())

    def numbers(self, said: Key) -> Numbers | None:
        """Who had which placeholder after these turns."""
        value = self._take(said)
        return value if isinstance(value, Numbers) else None

    def keep_numbers(self, said: Key, numbers: Numbers) -> None:
        """Remember who has which placeholder after these turns."""
        self._put(said, numbers, 1 + len(numbers.asker.entries) + len(numbers.model.entries))

    def _digest(self, *parts: bytes) -> Key:
        return keyed_hash(self._secret, b"".join(len(part).to_bytes(8, "big") + part for part in parts))

    def _take(self, key: Key) -> tuple[Span, ...] | Numbers | None:
        self._forget()
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self._entries[key] = _Entry(entry.value, entry.cost, self._now())
        return entry.value

    def _put(self, key: Key, value: tuple[Span, ...] | Numbers, cost: int) -> None:
        old = self._entries.pop(key, None)
        self._cost -= old.cost if old else 0
        if cost <= self._config.remembered_max:
            self._entries[key] = _Entry(value, cost, self._now())
            self._cost += cost
        self._forget()

    def _forget(self) -> None:
        """Drop what is too old or too much."""
        since = self._now() - self._config.remembered_s
        while self._entries:
            oldest = next(iter(self._entries.values()))
            if self._cost <= self._config.remembered_max and oldest.used >= since:
                return
            self._entries.popitem(last=False)
            self._cost -= oldest.cost
