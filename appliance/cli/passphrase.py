"""Passphrases reach the command from a terminal or from a file descriptor, never from an argument or a variable.

appliance --passphrase-fd 3 audit list 3< /run/passphrase
"""

from __future__ import annotations

import getpass
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import InvalidRequest, KeystoreLocked

if TYPE_CHECKING:
    from appliance.config import Ask

_LINE_BYTES_MAX = 8192
_TERMINAL = Path("/dev/tty")
_descriptor: ContextVar[int | None] = ContextVar("passphrase_fd", default=None)


def use_descriptor(descriptor: int | None) -> None:
    """The value of the global option `--passphrase-fd`, for the command that follows it."""
    _descriptor.set(descriptor)


def asking() -> Ask:
    """How this command learns the passphrase of the keystore; it is asked for once and remembered while it runs."""
    answers: list[str] = []
    descriptor = _descriptor.get()

    def ask(prompt: str, new: bool) -> str:
        if not answers:
            answers.append(_first_line(descriptor) if descriptor is not None else _typed(prompt, twice=new))
        return answers[0]

    return ask


def read_new_passphrase(prompt: str = "new passphrase") -> str:
    """A passphrase to be set: typed twice, or the first line of a pipe on standard input."""
    if sys.stdin.isatty():
        return _typed(prompt, twice=True)
    return sys.stdin.readline(_LINE_BYTES_MAX).rstrip("\r\n")


def _typed(prompt: str, *, twice: bool) -> str:
    if not _has_terminal():
        raise KeystoreLocked(
            "the keystore is locked and there is no terminal to ask for its passphrase on",
            hint="give it on a file descriptor: appliance --passphrase-fd N …",
        )
    with _interruptible():
        try:
            passphrase = getpass.getpass(f"{prompt}: ")
            if twice and getpass.getpass("the same again: ") != passphrase:
                raise InvalidRequest("the two passphrases differ", hint="nothing was changed; try again")
        except EOFError:
            raise KeystoreLocked("no passphrase was given", hint="type it and press Enter") from None
    return passphrase


def _has_terminal() -> bool:
    # getpass would fall back to standard input, which may be somebody's note, and show what is typed.
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the prompt at once: asyncio's own handler would wait for the line to be finished."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _first_line(descriptor: int) -> str:
    line = b""
    try:
        while b"\n" not in line and len(line) < _LINE_BYTES_MAX:
            piece = os.read(descriptor, _LINE_BYTES_MAX)
            if not piece:
                break
            line += piece
        return line.split(b"\n", 1)[0].rstrip(b"\r").decode()
    except OSError as error:
        raise InvalidRequest(
            f"cannot read the passphrase from file descriptor {descriptor}: {error.strerror}",
            hint="open it in the shell: appliance --passphrase-fd 3 … 3< FILE",
        ) from None
    except UnicodeDecodeError:
        raise InvalidRequest("the passphrase is not UTF-8 text", hint="check what the descriptor reads") from None
