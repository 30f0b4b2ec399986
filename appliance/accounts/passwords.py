"""Passwords: which are accepted, how they are hashed (Argon2id) and how many are checked at once.

    passwords = Passwords(config.accounts)
    stored = passwords.hash("correct horse battery staple")
    passwords.verify(stored, "correct horse battery staple")   # True
    passwords.verify(None, "anything")                          # False, and takes as long

Each check takes tens of MiB, so at most `password_checks_at_once` run together; the others wait, for a bounded time.
"""

from __future__ import annotations

import base64
import secrets
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from appliance.config import AccountsConfig
from appliance.errors import InvalidRequest, TooManyAttempts

PASSWORD_CHARS_MAX = 256
_DISTINCT_CHARS_MIN = 4
_WAIT_S = 10.0
_HASH_BYTES, _SALT_BYTES = 32, 16

# Of the published lists only what is long enough to be accepted otherwise. Compared folded and without separators.
_COMMONEST_TEXT = """
    123456789012 1234567890123 12345678901234 123456789123 1234567890abc 1q2w3e4r5t6y 1qaz2wsx3edc q1w2e3r4t5y6
    abcdefghijkl abcdefghijklm abcd12345678 abc123456789 administrator administrator1 admin1234567 admin12345678
    changeme1234 changemenow1 changemeplease correcthorsebatterystaple football1234 iloveyou1234 iloveyouiloveyou
    letmein12345 letmeinletmein monkey123456 mypassword12 mypassword123 p@ssw0rd1234 p@ssword1234 passw0rd1234
    password1234 password12345 password123456 passwordpassword qwerty123456 qwerty1234567 qwertyqwerty qwertyuiop12
    qwertyuiop123 qwertyuiop[] qwertyuiopasdf qwertyasdfgh zaq12wsxcde3 sunshine1234 superman1234 test12345678
    trustno11234 welcome12345 welcome123456 welcomewelcome hospital1234 hospital12345 cloister1234 cloistercloister
"""
_COMMONEST = frozenset(_COMMONEST_TEXT.split())


class Passwords:
    """Hashes and verifies with one site's parameters. Owns the limit on concurrent checks; safe for threads."""

    def __init__(self, config: AccountsConfig) -> None:
        self._length_min = config.password_length_min
        self._hasher = PasswordHasher(
            time_cost=config.argon2_time_cost,
            memory_cost=config.argon2_memory_kib,
            parallelism=config.argon2_parallelism,
            hash_len=_HASH_BYTES,
            salt_len=_SALT_BYTES,
        )
        self._slots = threading.BoundedSemaphore(config.password_checks_at_once)
        self._nobody = _hash_nothing_matches(config)

    def check_new(self, password: str, user_name: str) -> None:
        """Refuse a password that is too short, too long, the user's name, or among the commonest."""
        if not self._length_min <= len(password) <= PASSWORD_CHARS_MAX:
            raise InvalidRequest(
                f"a password has {self._length_min} to {PASSWORD_CHARS_MAX} characters; this one has {len(password)}",
                hint="four or five unrelated words are easy to remember and long enough",
            )
        if _encoded(password) is None:
            raise InvalidRequest("the password has half of a surrogate pair", hint="type it again")
        folded = "".join(char for char in password.casefold() if char not in " -_.")
        plain_name = "".join(char for char in user_name.casefold() if char not in " -_.")
        if password.casefold() == user_name.casefold() or folded == plain_name:
            raise InvalidRequest("the password is the user name", hint="choose another password")
        if folded in _COMMONEST or len(set(folded)) < _DISTINCT_CHARS_MIN:
            raise InvalidRequest("the password is among the first that are tried", hint="choose another password")

    def hash(self, password: str) -> str:
        """The PHC string to store. The password MUST have passed `check_new`."""
        encoded = _encoded(password)
        assert encoded is not None, "check_new accepts only what can be encoded"
        with self._slot():
            return self._hasher.hash(encoded)

    def verify(self, stored: str | None, password: str) -> bool:
        """Whether `password` is the one behind `stored`. None (no such account) takes as long and is False."""
        encoded = _encoded(password)
        if encoded is None or len(password) > PASSWORD_CHARS_MAX:
            return False  # the same for every account, so it tells nothing about any
        with self._slot():
            try:
                matches = self._hasher.verify(stored or self._nobody, encoded)
            except (VerificationError, InvalidHashError):
                return False
        return matches and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether `stored` was made with other parameters than the site's present ones."""
        return self._hasher.check_needs_rehash(stored)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(timeout=_WAIT_S):
            raise TooManyAttempts("too many people are signing in at once", hint="try again", retry_after_s=2.0)
        try:
            yield
        finally:
            self._slots.release()


def _encoded(password: str) -> bytes | None:
    """UTF-8 of the normal form, so that one password typed on two keyboards is one password."""
    try:
        return unicodedata.normalize("NFKC", password).encode()
    except UnicodeEncodeError:
        return None


def _hash_nothing_matches(config: AccountsConfig) -> str:
    """A PHC string of the site's parameters around random bytes: costs a full check and has no known password.

    Written out instead of computed, because computing it would cost every start of the server a hash.
    """
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in (_SALT_BYTES, _HASH_BYTES)
    )
    parameters = f"m={config.argon2_memory_kib},t={config.argon2_time_cost},p={config.argon2_parallelism}"
    return f"$argon2id$v=19${parameters}${salt}${digest}"
