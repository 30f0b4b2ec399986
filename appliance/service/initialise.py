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
from appliance.audit.keystore import create_keystore, open_keystore
from appliance.audit.root_key import create_root_key, read_root_key
from appliance.config import Config, Home
from appliance.errors import HomeExists, WrongKey
from appliance.service.home import FORMAT_VERSION, check_writable, home_error
from appliance.specialists.base_model import ensure_base_model
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
    progress("creating keys")
    _create_keys(home)
    progress("creating tables")
    migrations.upgrade(home.root)
    ensure_base_model(home, bundle=bundle, progress=progress)
    progress("installing bundled specialists")
    install_bundled(home)
    _write_marker(home)


def install_bundled(home: Home) -> None:
    """Put the specialists that come with this release into the registry; one that is there already stays."""
    engine = open_database(home.database, mode="rw")
    try:
        registry = Registry(engine, home)
        for path in sorted(BUNDLED.glob("*/*.gguf")):
            registry.install(path, trust="bundled")
    finally:
        engine.dispose()


def _create_folders(home: Home) -> None:
    try:
        for folder in home.folders():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.root.chmod(0o700)
    except OSError as error:
        raise home_error(home, error) from None
    check_writable(home)


def _create_keys(home: Home) -> None:
    if home.keystore.exists() and not home.root_key_file.exists():
        raise WrongKey(
            f"{home.keystore} exists but its root key {home.root_key_file} does not",
            hint="put the root key back; a new one could not open what is recorded",
        )
    if not home.root_key_file.exists():
        create_root_key(home.root_key_file)
    root_key = read_root_key(home.root_key_file)
    if home.keystore.exists():
        open_keystore(home, root_key).close()
    else:
        create_keystore(home, root_key)


def _write_marker(home: Home) -> None:
    marker = {"format": FORMAT_VERSION, "created": datetime.now(UTC).isoformat(timespec="seconds")}
    draft = home.marker.with_suffix(".new")
    with draft.open("w") as file:
        file.write(json.dumps(marker, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(home.marker)
