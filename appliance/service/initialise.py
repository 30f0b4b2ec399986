"""Creating a data folder, once.

    initialise(config, progress=print)       # folders, keys, tables, base model, bundled specialists

`home.json` is written last, so its existence means that the folder is complete; an interrupted `initialise` is
repeated, and each step keeps what it finds. A root key is never made anew beside an existing keystore.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import migrations
from appliance.audit.key_slots import list_slots
from appliance.audit.keystore import create_keystore, open_keystore
from appliance.audit.root_source import new_root_key, unlock
from appliance.config import Config, Home
from appliance.errors import HomeExists
from appliance.service.home import FORMAT_VERSION, check_home, check_writable, home_error
from appliance.specialists.base_fetch import ensure_base_model
from appliance.specialists.registry import Registry
from appliance.storage.database import open_database

BUNDLED = Path(__file__).parents[1] / "bundled"

Progress = Callable[[str], None]


def initialise(config: Config, *, progress: Progress, bundle: Path | None = None) -> None:
    """Create the data folder. `bundle` is a folder that holds the base model's files, for sites without a network.

    Raises `HomeExists` if it is complete already, `HomeReadOnly`, `HomeFull`, `BaseModelUnavailable`.
    """
    home = config.home
    if home.marker.exists():
        raise HomeExists(f"{home.root} is an appliance's data folder already", hint="choose another folder with --home")
    progress(f"creating the data folder {home.root}")
    _create_folders(home)
    progress("creating tables")
    migrations.upgrade(home.root)
    progress("creating keys")
    _create_keys(config)
    ensure_base_model(home, bundle=bundle, progress=progress)
    progress("installing bundled specialists")
    install_bundled(config)
    _write_marker(home)


def install_bundled(config: Config) -> None:
    """Put the specialists that come with this release into the registry; one that is there already stays."""
    engine = open_database(config.home.database, mode="rw")
    try:
        registry = Registry(engine, config.home, config.specialists)
        for path in sorted(BUNDLED.glob("*/*.gguf")):
            registry.install(path, trust="bundled")
    finally:
        engine.dispose()


def _create_folders(home: Home) -> None:
    try:
        for folder in home.folders():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)  # also one that somebody made before, under another umask
    except OSError as error:
        raise home_error(home, error) from None
    check_writable(home)


def _create_keys(config: Config) -> None:
    """Keys under what `keys.source` names. Those that an interrupted run made stay; a key that does not fit them is
    refused here, and never made anew beside them."""
    if list_slots(config.home):
        open_keystore(config.home, unlock(config))
        return
    new = new_root_key(config)
    create_keystore(config.home, new.key, origin=config.audit.origin, salt=new.salt, cost=new.cost)


def _write_marker(home: Home) -> None:
    marker = {"format": FORMAT_VERSION, "created": datetime.now(UTC).isoformat(timespec="seconds")}
    draft = home.marker.with_suffix(".new")
    with draft.open("w") as file:
        file.write(json.dumps(marker, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(home.marker)


def upgrade(config: Config, *, progress: Progress) -> None:
    """Bring the tables of an older release up to this one and install what is bundled with it.

    The caller holds the server's lock. Raises a `HomeError`; `HomeTooNew` before anything is touched.
    """
    check_home(config.home)
    progress("upgrading tables")
    migrations.upgrade(config.home.root)
    progress("installing bundled specialists")
    install_bundled(config)
