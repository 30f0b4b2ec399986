"""`appliance keys`: what unlocks the log, and the keys above its keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from appliance.audit.key_slots import RECOVERY, Slot
from appliance.audit.keystore import PublicKey
from appliance.audit.root_source import asked
from appliance.cli.passphrase import read_new_passphrase
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
)
from appliance.config import Config
from appliance.service import keys
from appliance.service.keys import KeysView, OpenKeys

T = TypeVar("T")


class Level(StrEnum):
    """Which key is replaced."""

    KEK = "kek"
    SIGNING = "signing"
    ROOT = "root"


class Reason(StrEnum):
    """Why."""

    SCHEDULED = "scheduled"
    COMPROMISED = "compromised"


def list_keys(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List what unlocks the log, and the keys that sign it. Needs no key itself.

    Example: appliance keys list --json
    """
    config = configured(home)
    view = run(lambda: keys.list_keys(config, operator()))
    if as_json:
        print_json(_body(view))
        return
    print_table(("slot", "kind", "created", "cost of a guess"), [_slot_row(slot) for slot in view.slots])
    print_table(("signing key", "since", "until"), [_signing_row(key) for key in view.signing_keys])
    if len(view.generations) > 1:
        say("a rotation of the wrapping key goes on or was interrupted; the next start of the server finishes it")


def add_passphrase(home: HomeOption = None) -> None:
    """Let another passphrase unlock the log. It is asked for, or read from standard input when that is a pipe.

    Example: appliance keys add-passphrase
    """
    config = configured(home)
    with reported():
        passphrase = read_new_passphrase()
    slot = _changed(config, lambda opened: keys.add_passphrase(opened, operator(), passphrase))
    say(f"slot {slot} takes this passphrase; to be asked for it at each start, set keys.source = 'passphrase'")


def change_passphrase(home: HomeOption = None) -> None:
    """Replace a passphrase. The new one is asked for, or read from standard input when that is a pipe.

    The old one is asked for on the terminal or read from --passphrase-fd.

    Example: appliance keys change-passphrase
    """
    config = configured(home)
    with reported():
        old = asked(config.ask, "passphrase to be replaced")
        new = read_new_passphrase()
    slot = _changed(config, lambda opened: keys.change_passphrase(opened, operator(), old, new))
    say(f"slot {slot} takes the new passphrase; the old one opens only copies of the keystore from before")


def add_file(
    path: Annotated[Path, typer.Argument(help="The key file; made if there is none.", dir_okay=False)],
    home: HomeOption = None,
) -> None:
    """Let another key file unlock the log: on another medium, or for systemd-creds.

    Example: appliance keys add-file /media/usb/cloister.key
    """
    config = configured(home)
    slot = _changed(config, lambda opened: keys.add_file(opened, operator(), path))
    say(f"slot {slot} takes the key in {path}; keep it on another medium than the data folder")


def remove_slot(
    number: Annotated[int, typer.Argument(help="As `appliance keys list` prints it.", min=0)], home: HomeOption = None
) -> None:
    """Take away a way to unlock the log. The one in use stays, so there is always one that works.

    Example: appliance keys remove-slot 1
    """
    config = configured(home)
    _changed(config, lambda opened: keys.remove_slot(opened, operator(), number))
    say(f"slot {number} is gone; copies of the keystore from before still open with what it took")


def rotate(
    level: Annotated[Level, typer.Option(help="kek: wraps all others. signing: signs the log. root: unlocks it.")],
    reason: Annotated[Reason, typer.Option(help="Recorded; a compromised signing key stops at once.")] = (
        Reason.SCHEDULED
    ),
    home: HomeOption = None,
) -> None:
    """Replace a key above the keys of records. No record changes. For `root`, stop the server and remove other slots.

    Example: appliance keys rotate --level kek
    """
    config = configured(home)
    if level is Level.ROOT:
        run(lambda: keys.rotate_root(config, operator(), reason.value))
    else:
        which: keys.Level = "kek" if level is Level.KEK else "signing"
        _changed(config, lambda opened: keys.rotate(opened, operator(), which, reason.value))
    say(_ROTATED[level])


def distrust(home: HomeOption = None) -> None:
    """Stop trusting the signing key, which was stolen: a new one signs, and the log says from where on.

    Example: appliance keys distrust
    """
    config = configured(home)
    _changed(config, lambda opened: keys.distrust(opened, operator()))
    say(_ROTATED[Level.SIGNING])


def check(
    file: Annotated[Path | None, typer.Option(help="A key file (default: what unlocks the log at a start).")] = None,
    passphrase: Annotated[bool, typer.Option("--passphrase", help="Ask for a passphrase and check that.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Say which slot a key opens. Changes nothing. Exit status 20: none.

    Example: appliance keys check --file /media/usb/cloister.key
    """
    config = configured(home)
    with reported():
        typed = asked(config.ask, "passphrase") if passphrase else None
    slot = run(lambda: keys.check_key(config, operator(), path=file, passphrase=typed))
    if as_json:
        print_json({"slot": slot})
    else:
        print_text(f"opens slot {slot}\n")


_ROTATED = {
    Level.KEK: "every key is wrapped anew; the wrapping key before is gone",
    Level.SIGNING: "a new key signs; give its verifier key (appliance keys list) to auditors and witnesses",
    Level.ROOT: "a new root key unlocks the log; copy the key file to another medium, the old copy opens nothing new",
}


def _changed(config: Config, work: Callable[[OpenKeys], Awaitable[T]]) -> T:
    async def change() -> T:
        async with keys.open_keys(config) as opened:
            return await work(opened)

    return run(change)


def _body(view: KeysView) -> dict[str, Any]:
    return {
        "slots": [
            {
                "slot": slot.number,
                "kind": slot.kind,
                "use": slot.use,
                "created": _day(slot.created_ms),
                "memory_kib": _memory(slot),
            }
            for slot in view.slots
        ],
        "wrapping_generations": list(view.generations),
        "signing_keys": [
            {
                "verifier_key": key.verifier_key,
                "created": _day(key.created_ms),
                "retired": None if key.retired_ms is None else _day(key.retired_ms),
            }
            for key in view.signing_keys
        ],
    }


def _slot_row(slot: Slot) -> tuple[str, str, str, str]:
    memory = _memory(slot)
    kind = "recovery kit" if slot.use == RECOVERY else slot.kind
    return str(slot.number), kind, _day(slot.created_ms)[:10], f"{memory // 1024} MiB" if memory else "-"


def _signing_row(key: PublicKey) -> tuple[str, str, str]:
    return key.verifier_key, _day(key.created_ms)[:10], "-" if key.retired_ms is None else _day(key.retired_ms)[:10]


def _memory(slot: Slot) -> int | None:
    return slot.cost.memory_kib if slot.cost else None


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
