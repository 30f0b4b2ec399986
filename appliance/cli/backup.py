"""`appliance backup` and `appliance restore`: copies that can be trusted, and the way back from one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from appliance.cli.kit_input import KitFileOption, read_kit
from appliance.cli.terminal import (
    HomeOption,
    JsonOption,
    configured,
    operator,
    print_json,
    print_table,
    print_text,
    reported,
    run,
    say,
    working,
)
from appliance.config import Config
from appliance.service.backup import backups
from appliance.service.backup.shelf import Shelved
from appliance.service.keys import OpenKeys, open_keys

T = TypeVar("T")
_NOTE_BYTES_MAX = 64 * 1024

ToOption = Annotated[
    Path | None, typer.Option("--to", help="Folder of the backups (default: backup.folder).", file_okay=False)
]
FileArgument = Annotated[Path, typer.Argument(help="A backup file.", dir_okay=False)]


def create(to: ToOption = None, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Write an encrypted backup, read it back and record it. A server may run. Needs a recovery kit to exist.

    Example: appliance backup create --to /mnt/backups
    """
    config = configured(home)
    made = _opened(config, lambda opened: backups.create_backup(config, opened.log, opened.root_key, operator(), to))
    if as_json:
        print_json(_row(made))
        return
    print_text(f"{made.path}\n")
    say(
        f"{made.header.about.records} records, {made.size / 2**20:.1f} MiB; may be deleted from {made.expires:%Y-%m-%d}"
    )


def verify(
    path: FileArgument,
    kit: Annotated[bool, typer.Option("--kit", help="Open it with the recovery kit, as a restore would.")] = False,
    kit_file: KitFileOption = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Open all of a backup and keep nothing. Exit status 4: it is damaged or incomplete.

    \b
    Example: appliance backup verify /mnt/backups/cloister-0b6f1c2a-20261126T020000Z-5d0f2a91.cloister-backup
    """
    config = configured(home)
    with reported():
        key = read_kit(kit_file) if kit or kit_file else None
    found = _opened(
        config,
        lambda opened: backups.verify_backup(config, opened.log, opened.root_key, operator(), path, kit_key=key),
    )
    size = sum(entry.size for entry in found.files)
    if as_json:
        print_json({"files": len(found.files), "bytes": size, "whole": True})
    else:
        print_text(f"whole: {len(found.files)} files, {size / 2**20:.1f} MiB\n")


def drill(
    path: Annotated[Path | None, typer.Argument(help="A backup file (default: the newest one).")] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Rehearse a restore in a folder that is thrown away: keys, databases, log, specialists. A server does it weekly.

    Example: appliance backup drill
    """
    config = configured(home)
    backup, checked = _opened(
        config, lambda opened: backups.drill(config, opened.log, opened.root_key, operator(), path)
    )
    if as_json:
        print_json({**_row(backup), "specialists": checked.specialists, "verdict": checked.verdict})
        return
    print_text(f"{backup.path.name} can be restored\n")
    say(f"{checked.records} records (verified: {checked.verdict}), {checked.specialists} specialists")


def list_backups(to: ToOption = None, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the backups of this log, newest first.

    Example: appliance backup list --json
    """
    config = configured(home)
    found = _opened(config, lambda opened: backups.list_backups(config, opened.log, operator(), to))
    if as_json:
        print_json({"data": [_row(each) for each in found]})
        return
    rows = [
        (f"{one.created:%Y-%m-%d %H:%M}", one.header.about.records, f"{one.size / 2**20:.1f} MiB",
         f"{one.expires:%Y-%m-%d}", one.path.name)
        for one in found
    ]  # fmt: skip
    print_table(("made", "records", "size", "expires", "file"), rows)


def prune(
    to: ToOption = None,
    destroyed: Annotated[
        bool, typer.Option("--destroyed", help="Also those made before the newest destruction of keys.")
    ] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Delete backups that have expired. The newest always stays. A server does it after each backup.

    Example: appliance backup prune --destroyed
    """
    config = configured(home)
    gone = _opened(
        config, lambda opened: backups.prune_backups(config, opened.log, operator(), to, destroyed=destroyed)
    )
    if as_json:
        print_json({"deleted": [_row(each) for each in gone]})
        return
    for one in gone:
        print_text(f"{one.path.name}\n")
    say(f"{len(gone)} deleted")


def restore(
    path: FileArgument,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A signed checkpoint that was kept elsewhere; may be given again.")
    ] = None,
    base_model: Annotated[
        Path | None, typer.Option(help="Folder with the base model, should the backup lack it.", exists=True)
    ] = None,
    kit_file: KitFileOption = None,
    home: HomeOption = None,
) -> None:
    """Make a data folder of a backup, on this machine, with the recovery kit. The log goes on in a new epoch.

    The folder named by --home must be new or empty. The kit is asked for, or is the first line of a pipe.

    \b
    Example: appliance restore /mnt/backups/cloister-0b6f1c2a.cloister-backup --home /var/lib/cloister
    """
    from appliance.cli.audit_recovery import read_note
    from appliance.service.backup.restore import Restored, check_restorable
    from appliance.service.backup.restore import restore as restored_from

    target = configured(home).home.root
    with reported():
        notes = [read_note(each) for each in checkpoint or ()]
        check_restorable(path, target)
        key = read_kit(kit_file)

    async def work() -> Restored:
        with working() as step:
            return await restored_from(path, target, key, operator(), notes=notes, base_model=base_model, progress=step)

    done = run(work)
    first, last = done.recovery.lost_from, done.recovery.lost_to
    say(f"ready: {done.home}; epoch {done.recovery.origin.rsplit('/e', 1)[-1]} of the log has begun")
    if last >= first:
        say(f"records {first} to {last} of the epoch before are declared lost")
    if done.root_key_file is not None:
        say(f"the root key of this machine is {done.root_key_file}; what unlocked the old one still unlocks this one:")
        say("  appliance keys list, appliance keys remove-slot")
    say("give the new verifier key (appliance audit checkpoint --key) to auditors and to the witness")


def _opened(config: Config, work: Callable[[OpenKeys], Awaitable[T]]) -> T:
    async def opened() -> T:
        async with open_keys(config) as keys:
            return await work(keys)

    return run(opened)


def _row(one: Shelved) -> dict[str, Any]:
    return {
        "file": str(one.path),
        "backup": one.header.backup_id.hex(),
        "created": one.created.isoformat(timespec="seconds"),
        "expires": one.expires.isoformat(timespec="seconds"),
        "records": one.header.about.records,
        "bytes": one.size,
        "release": one.header.about.release,
    }
