"""Slows down the guessing of passwords: a limit per address, a growing delay per account. Owns two bounded tables.

    attempts.admit("ana", "10.0.0.7", now)    # charges the attempt, or raises TooManyAttempts(retry_after_s=…)
    attempts.forgive("ana", "10.0.0.7")       # the password was right: takes the charge back

A delay and not a lock-out: a lock-out would let anybody keep a colleague out. An attempt is charged before the
password is checked, so that a thousand parallel guesses are a thousand charges. In memory only: a restart forgets,
and costs an attacker more than it gives.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from appliance.config import AccountsConfig
from appliance.errors import TooManyAttempts

FREE_ATTEMPTS = 3  # a forgotten caps lock costs nothing
DELAY_MAX_S = 30.0
_ENTRIES_MAX = 10_000
_IPV6_PREFIX = 64  # one customer's network, in which one attacker has every address


@dataclass(slots=True)
class _Account:
    failures: int = 0
    last: float = 0.0


@dataclass(slots=True)
class _Address:
    times: deque[float] = field(default_factory=deque)


_Entry = TypeVar("_Entry", _Account, _Address)


class Attempts:
    """Failed sign-ins of the recent past. Safe for threads."""

    def __init__(self, config: AccountsConfig, *, entries_max: int = _ENTRIES_MAX) -> None:
        self._per_address = config.attempts_per_address
        self._window_s = float(config.attempts_window_s)
        self._entries_max = entries_max
        self._lock = threading.Lock()
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._addresses: OrderedDict[str, _Address] = OrderedDict()

    def admit(self, account: str, address: str, now: datetime) -> None:
        """Charge one attempt. Raises `TooManyAttempts`, and then charges nothing."""
        seconds = now.timestamp()
        with self._lock:
            known = self._entry(self._addresses, group(address), _Address)
            while known.times and not 0 <= seconds - known.times[0] < self._window_s:
                known.times.popleft()
            if len(known.times) >= self._per_address:
                raise _too_many("from this address", known.times[0] + self._window_s - seconds)
            person = self._entry(self._accounts, account, _Account)
            if not 0 <= seconds - person.last < self._window_s:
                person.failures = 0
            wait = person.last + delay_s(person.failures) - seconds
            if person.failures and wait > 0:
                raise _too_many("for this account", wait)
            known.times.append(seconds)
            person.failures += 1
            person.last = seconds

    def forgive(self, account: str, address: str) -> None:
        """The attempt succeeded: it was no failure, and the account starts afresh."""
        with self._lock:
            self._accounts.pop(account, None)
            known = self._addresses.get(group(address))
            if known and known.times:
                known.times.pop()

    def _entry(self, table: OrderedDict[str, _Entry], key: str, new: type[_Entry]) -> _Entry:
        """The entry of `key`, moved to the young end; the oldest gives way when the table is full."""
        entry = table.setdefault(key, new())
        table.move_to_end(key)
        if len(table) > self._entries_max:
            table.popitem(last=False)
        return entry


def delay_s(failures: int) -> float:
    """How long after the last of `failures` failures in a row the next attempt is refused."""
    if failures < FREE_ATTEMPTS:
        return 0.0
    return min(2.0 ** min(failures - FREE_ATTEMPTS, 16), DELAY_MAX_S)


def group(address: str) -> str:
    """The addresses that count as one: a whole IPv6 network of a customer, a single IPv4 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))


def _too_many(where: str, wait_s: float) -> TooManyAttempts:
    seconds = max(1, round(wait_s + 0.5))
    return TooManyAttempts(
        f"too many failed sign-ins {where}", hint=f"try again in {seconds} seconds", retry_after_s=float(seconds)
    )
