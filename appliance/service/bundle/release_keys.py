"""Keys that make releases: root keys that name release keys, and release keys that sign bundles. On the maker's side.

    key = create_key(path, "root-a")                 # a file for a safe; prints its verifier key
    text = root_text(Root(...)); note = sign_root(text, key)
    note = add_signature(note, other_key)            # two of three people, each on their own machine

Verification is `bundleverify.py`'s alone, which shares no code with this.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from appliance.crypto import signing
from appliance.crypto.note import NOTE_BYTES_MAX, NoteSigner, is_name, parse_verifier_key, split_note, verifier_key
from appliance.errors import HomeExists, InvalidRequest

KEY_FORMAT = "cloister-release-key/1"
ROOT_FORMAT = "cloister-root/1"
_KEY_BYTES_MAX = 1024


@dataclass(frozen=True, slots=True)
class ReleaseKey:
    """A key pair of a person or a build machine."""

    name: str
    seed: bytes = field(repr=False)

    @property
    def verifier_key(self) -> str:
        """Its public half as text."""
        return verifier_key(self.name, signing.public_key(self.seed))


@dataclass(frozen=True, slots=True)
class RootPlan:
    """What a root says: which keys sign roots (`threshold` of them), which sign bundles, until when."""

    version: int
    expires: date
    threshold: int
    root_keys: tuple[str, ...]
    release_keys: tuple[str, ...]


def create_key(path: Path, name: str) -> ReleaseKey:
    """A new key in a new file, mode 0400. Raises `HomeExists`, `InvalidRequest`."""
    if not is_name(name) or not name.isascii() or len(name) > 60:
        raise InvalidRequest("a key's name has no spaces and no plus sign", hint="as: root-ana, release-2026")
    key = ReleaseKey(name, signing.generate_seed())
    text = f"{KEY_FORMAT} {name} {base64.b64encode(key.seed).decode()}\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    except FileExistsError:
        raise HomeExists(f"there is a file at {path} already", hint="nothing was changed") from None
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="name another file") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return key


def read_key(path: Path) -> ReleaseKey:
    """The key of a file. Raises `InvalidRequest`."""
    try:
        with path.open("rb") as file:
            words = file.read(_KEY_BYTES_MAX).decode("ascii").split()
        kind, name, encoded = words
        seed = base64.b64decode(encoded, validate=True)
        if kind != KEY_FORMAT or not is_name(name) or len(seed) != signing.SEED_BYTES:
            raise ValueError
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", hint="name the key file") from None
    except (ValueError, UnicodeDecodeError, binascii.Error):
        raise InvalidRequest(f"{path} is no release key", hint="make one: appliance bundle key NAME FILE") from None
    return ReleaseKey(name, seed)


def root_text(plan: RootPlan) -> str:
    """The text that root keys sign. Raises `InvalidRequest` for what no machine would accept."""
    if plan.version < 1 or not 2 <= plan.threshold <= len(plan.root_keys) or not plan.release_keys:
        raise InvalidRequest(
            "a root has a version from 1, at least two root keys that must sign, and a release key",
            hint="give --root-key three times, --release-key once, --threshold 2",
        )
    names = [_key_name(key) for key in (*plan.root_keys, *plan.release_keys)]
    materials = [key.split("+", 2)[2] for key in (*plan.root_keys, *plan.release_keys)]
    if len(set(names)) != len(names) or len(set(materials)) != len(materials):
        raise InvalidRequest("two keys of a root have one name, or are one key", hint="each has its own")
    lines = [
        ROOT_FORMAT,
        f"version {plan.version}",
        f"expires {plan.expires.isoformat()}",
        f"threshold {plan.threshold}",
    ]
    lines += [f"root {key}" for key in plan.root_keys] + [f"release {key}" for key in plan.release_keys]
    return "\n".join(lines) + "\n"


def sign_text(text: str, keys: Sequence[ReleaseKey]) -> str:
    """A signed note of `text` with one line for each key."""
    return text + "\n" + "".join(str(NoteSigner(key.name, key.seed).line(text)) for key in keys)


def add_signature(note: str, key: ReleaseKey) -> str:
    """The note with a signature of `key` too; one that it has already is replaced. Raises `InvalidRequest`."""
    try:
        text, lines = split_note(note)
    except ValueError:
        raise InvalidRequest("this is no signed text", hint="name what `appliance bundle root` wrote") from None
    others = [line for line in lines if line.name != key.name]
    return text + "\n" + "".join(str(line) for line in (*others, NoteSigner(key.name, key.seed).line(text)))


def read_note_file(path: Path) -> str:
    """A signed text from a file. Raises `InvalidRequest`."""
    try:
        with path.open("rb") as file:
            return file.read(NOTE_BYTES_MAX).decode()
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", hint="name the root's file") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is no signed text", hint="name the root's file") from None


def _key_name(text: str) -> str:
    try:
        return parse_verifier_key(text)[0]
    except ValueError:
        raise InvalidRequest("a key is not in the form name+id+key", hint="`appliance bundle key` prints it") from None
