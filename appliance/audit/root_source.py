"""Where the root key comes from at a start: a key file, a systemd credential, or a person who knows a passphrase.

    root_key = unlock(config)                        # as `keys.source` says; asks only if it says passphrase
    keystore = open_keystore(config.home, root_key)

A passphrase is asked for on the terminal or read from a file descriptor (`config.ask`); it is in no argument, no
environment variable and no file. A credential is a key file that systemd puts into `$CREDENTIALS_DIRECTORY`, from
memory and for this service only (`LoadCredentialEncrypted=`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from appliance.audit.key_slots import PassphraseCost, check_passphrase, passphrase_key, root_key_from_passphrase
from appliance.audit.passphrase_failures import PassphraseFailures
from appliance.audit.root_key import create_root_key, read_root_key
from appliance.config import Ask, Config
from appliance.crypto import keys
from appliance.errors import ConfigInvalid, KeystoreLocked, WrongKey


@dataclass(frozen=True, slots=True, repr=False)
class NewRootKey:
    """What will unlock a keystore that is about to be created; `salt` and `cost` for a passphrase only."""

    key: bytes
    salt: bytes | None = None
    cost: PassphraseCost | None = None


def unlock(config: Config, ask: Ask | None = None) -> bytes:
    """The key from the configured source; `ask` stands in for `config.ask`. That it fits is found at its first use.

    Raises `KeystoreInvalid` or `WrongKey` for a file or a passphrase that is not it, `KeystoreLocked` when nobody can
    be asked or too many were wrong. Takes seconds for a passphrase.
    """
    if config.keys.source != "passphrase":
        return read_root_key(key_file(config))
    return unlock_with(config, asked(ask or config.ask, "passphrase of the keystore"))


def unlock_with(config: Config, passphrase: str) -> bytes:
    """The key of the slot that this passphrase opens, wherever the configuration says that keys come from."""
    failures = failures_of(config)
    failures.require_open(_now())
    try:
        root_key = root_key_from_passphrase(config.home, passphrase)
    except WrongKey:
        failures.note(wrong=True, now_ms=_now())
        raise
    failures.note(wrong=False, now_ms=_now())
    return root_key


def new_root_key(config: Config) -> NewRootKey:
    """What shall unlock a new data folder, from the configured source; a key file that is missing is made."""
    if config.keys.source == "credential":
        return NewRootKey(read_root_key(key_file(config)))
    if config.keys.source == "file":
        path = key_file(config)
        return NewRootKey(read_root_key(path) if path.exists() else create_root_key(path))
    passphrase = asked(config.ask, "new passphrase of the keystore", new=True)
    check_passphrase(passphrase)
    salt, cost = keys.random_id(), cost_of(config)
    return NewRootKey(passphrase_key(passphrase, salt, cost), salt, cost)


def key_file(config: Config) -> Path:
    """The key file of this configuration. Raises `ConfigInvalid` for a credential without systemd."""
    if config.keys.source == "credential":
        if config.credentials is None:
            raise ConfigInvalid(
                "keys.source is 'credential', but this process was given no credentials",
                hint=f"start it by systemd with LoadCredentialEncrypted={config.keys.credential}:FILE",
            )
        return config.credentials / config.keys.credential
    return config.keys.file or config.home.root_key_file


def cost_of(config: Config) -> PassphraseCost:
    """What a guess at a passphrase that is set now will cost."""
    settings = config.keys
    return PassphraseCost(settings.argon2_memory_kib, settings.argon2_time_cost, settings.argon2_parallelism)


def failures_of(config: Config) -> PassphraseFailures:
    """The count of wrong passphrases of this data folder."""
    settings = config.keys
    return PassphraseFailures(
        config.home.passphrase_failures, settings.passphrase_failures_max, settings.passphrase_lock_s
    )


def asked(ask: Ask | None, prompt: str, *, new: bool = False) -> str:
    """What a person answers. Raises `KeystoreLocked` where there is nobody."""
    if ask is None:
        raise KeystoreLocked(
            "the keystore is locked and nobody can be asked for its passphrase",
            hint="run it on a terminal, or give the passphrase on a file descriptor: appliance --passphrase-fd N …",
        )
    return ask(prompt, new)


def _now() -> int:
    return time.time_ns() // 1_000_000
