"""How many wrong passphrases were tried on this data folder, so that a person at a keyboard cannot go on guessing.

    failures = PassphraseFailures(home.passphrase_failures, failures_max=5, lock_s=60)
    failures.require_open(now_ms)      # raises KeystoreLocked
    failures.note(wrong=True, now_ms=now_ms)

A small file beside the keystore, without any secret: `{"failures":2,"locked_until_ms":0,"unrecorded":2}`. It holds up
whoever uses the commands; a thief of the files guesses elsewhere, at the price of the derivation. Failures cannot be
recorded while the log is locked: they wait here for the next unlocking.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.errors import HomeReadOnly, KeystoreLocked

STATE_BYTES_MAX = 1024


class _State(msgspec.Struct, frozen=True):
    failures: int = 0  # since the last right one
    locked_until_ms: int = 0
    unrecorded: int = 0


@dataclass(frozen=True, slots=True)
class PassphraseFailures:
    """See the module. Safe to use from several processes."""

    path: Path
    failures_max: int
    lock_s: float

    def require_open(self, now_ms: int) -> None:
        """Raise `KeystoreLocked` while no passphrase is taken. A clock that was set back locks no longer than once."""
        if not self.path.exists():
            return
        with self._locked() as descriptor:
            left_s = min((_read(descriptor).locked_until_ms - now_ms) / 1000, self.lock_s)
        if left_s > 0:
            raise KeystoreLocked(
                f"too many wrong passphrases: none is taken for {left_s:.0f} s",
                hint="wait, then try again; a key file opens the keystore at once",
                retry_after_s=left_s,
            )

    def note(self, *, wrong: bool, now_ms: int) -> None:
        """Count a wrong passphrase; a right one ends the count. From `failures_max` on, each wrong one locks."""
        if not wrong and not self.path.exists():
            return
        with self._locked() as descriptor:
            state = _read(descriptor)
            if wrong:
                failures = state.failures + 1
                locked_until_ms = now_ms + int(self.lock_s * 1000) if failures >= self.failures_max else 0
                state = _State(failures, locked_until_ms, state.unrecorded + 1)
            else:
                state = _State(0, 0, state.unrecorded)
            _write(descriptor, state)

    def unrecorded(self) -> int:
        """Wrong passphrases that no record of the log tells of yet."""
        if not self.path.exists():
            return 0
        with self._locked() as descriptor:
            return _read(descriptor).unrecorded

    def recorded(self, count: int) -> None:
        """A record now tells of `count` of them."""
        with self._locked() as descriptor:
            state = _read(descriptor)
            _write(descriptor, msgspec.structs.replace(state, unrecorded=max(0, state.unrecorded - count)))

    @contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            # Where failures cannot be counted, nobody may guess.
            raise HomeReadOnly(
                f"{self.path} cannot be written: {error.strerror}", hint="run as the owner of the data folder"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # held for microseconds
            yield descriptor
        finally:
            os.close(descriptor)


def _read(descriptor: int) -> _State:
    try:
        return msgspec.json.decode(os.pread(descriptor, STATE_BYTES_MAX, 0), type=_State)
    except (msgspec.DecodeError, UnicodeError):
        return _State()  # new, or cut by a power loss


def _write(descriptor: int, state: _State) -> None:
    content = msgspec.json.encode(state)
    os.pwrite(descriptor, content, 0)
    os.ftruncate(descriptor, len(content))
    os.fsync(descriptor)
