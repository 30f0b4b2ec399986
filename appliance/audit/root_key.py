"""The root key file: 32 random bytes, mode 0400, that unlock the keystore. It never enters any database.

    key = create_root_key(home.root_key_file)    # `appliance init`
    key = read_root_key(home.root_key_file)      # every other start

The file may lie on another medium (a USB stick, a systemd credential): whoever has it and the keystore can decrypt
the log, so a backup of one must not lie beside a backup of the other.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from appliance.crypto.keys import random_key
from appliance.errors import HomeExists, KeystoreInvalid

ROOT_KEY_BYTES = 32


def create_root_key(path: Path) -> bytes:
    """Write a new key, readable by the owner only, and return it. An existing file is never overwritten."""
    key = random_key()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    except FileExistsError:
        raise HomeExists(f"there is already a root key at {path}", hint="nothing was changed") from None
    except OSError as error:
        raise KeystoreInvalid(
            f"cannot create the root key {path}: {error.strerror}", hint="name a file in a folder that you can write"
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)  # a key whose name is lost with the power would lock the log for ever
    return key


def draft_root_key(path: Path) -> bytes:
    """A new key beside the one at `path`, durable and not yet in its place; one that was left there is replaced."""
    draft = _draft(path)
    draft.unlink(missing_ok=True)
    return create_root_key(draft)


def put_in_place(path: Path) -> None:
    """The draft replaces the key at `path`, at once and durably: at every moment one of the two is there."""
    _draft(path).replace(path)
    _sync_folder(path.parent)


def drop_draft(path: Path) -> None:
    """The draft is not wanted after all."""
    _draft(path).unlink(missing_ok=True)


def _draft(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def read_root_key(path: Path) -> bytes:
    """The key. Raises `KeystoreInvalid` for a missing, unreadable, wrongly sized or widely readable file."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            key = file.read(ROOT_KEY_BYTES + 1)
    except FileNotFoundError:
        raise KeystoreInvalid(
            f"there is no root key at {path}",
            hint="put the key file back; if it is lost: appliance recovery-kit use, with the recovery kit on paper",
        ) from None
    except OSError as error:
        raise KeystoreInvalid(
            f"cannot read the root key {path}: {error.strerror}", hint="run as the owner of the data folder"
        ) from None
    if mode & 0o077:
        raise KeystoreInvalid(f"the root key {path} is readable by others", hint=f"chmod 0400 {path}")
    if len(key) != ROOT_KEY_BYTES:
        raise KeystoreInvalid(
            f"{path} is not a root key: it does not have {ROOT_KEY_BYTES} bytes", hint="name the right key file"
        )
    return key


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
