"""`appliance init`: create the data folder, with its keys, tables, base model and bundled specialists."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from appliance import __version__
from appliance.cli.terminal import HomeOption, configured, operator, reported, run, say, working
from appliance.config import Config
from appliance.errors import HomeExists
from appliance.service import initialise as initialisation
from appliance.service.events import new_event
from appliance.service.home import check_marker, hold_server_lock
from appliance.service.rooms import open_log
from appliance.types import Outcome


def init(
    bundle: Annotated[
        Path | None,
        typer.Option(help="Folder with model.safetensors and vocab.txt, for a site without a network.", exists=True),
    ] = None,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="Do nothing if the folder is complete.")] = False,
    home: HomeOption = None,
) -> None:
    """Create the data folder: keys, tables, the base model (fetched once, checked by hash), bundled specialists.

    Example: appliance init --home /var/lib/cloister
    """
    config = configured(home)
    with reported():
        try:
            with working() as step:
                initialisation.initialise(config, bundle=bundle, progress=step)
        except HomeExists:
            if if_missing:
                return
            raise

    run(lambda: _record(config, "appliance.initialised"))
    say(f"ready: {config.home.root}")
    say(f"the root key is {config.home.root_key_file}; keep a copy on another medium, or nobody can read the log")


async def _record(config: Config, event: str) -> None:
    async with open_log(config) as log:
        await log.append(new_event(event, operator().id, Outcome.COMPLETED, {"version": __version__}))


def upgrade(
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Only try it on a copy, and check what comes of it; a server may run.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Bring a data folder of an older release up to this one. Stop its server first; make a backup before.

    Example: appliance upgrade --home /var/lib/cloister
    """
    config = configured(home)
    if rehearse:
        _rehearse(config)
        return
    with reported():
        check_marker(config.home)
        with hold_server_lock(config.home):
            with working() as step:
                initialisation.upgrade(config, progress=step)
            asyncio.run(_record(config, "appliance.upgraded"))
    say(f"ready: {config.home.root}")


def _rehearse(config: Config) -> None:
    from appliance.audit.root_source import unlock
    from appliance.service.backup.rehearsal import rehearse_upgrade

    with reported():
        check_marker(config.home)
        root_key = unlock(config)
    checked = run(lambda: rehearse_upgrade(config, root_key))
    say(f"a copy was brought up to this release: {checked.records} records ({checked.verdict})")
