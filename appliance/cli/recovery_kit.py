"""`appliance recovery-kit`: the key on paper that opens backups, and the log where every other key is lost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.kit_input import KitFileOption, read_kit, read_kit_text
from appliance.cli.terminal import (
    HomeOption,
    JsonOption,
    configured,
    operator,
    print_json,
    print_text,
    reported,
    run,
    say,
)
from appliance.service import recovery_kit
from appliance.service.keys import open_keys

_TRIES = 3


def create(
    replace: Annotated[bool, typer.Option("--replace", help="End the kit that there is.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Print a new recovery kit, once, and keep it only after it was typed back. Put the paper into a safe.

    In a script, the kit is printed to standard output and read back from standard input.

    Example: appliance recovery-kit create
    """
    config = configured(home)

    async def work() -> int:
        async with open_keys(config) as opened:
            await recovery_kit.refuse_kit(opened, operator(), replace=replace)
            draft = recovery_kit.new_kit()
            print_text(f"{draft.text}\n")
            sys.stdout.flush()
            say("write it down, or print it; it is shown once and stored nowhere")
            return await recovery_kit.keep_kit(opened, operator(), draft, _typed_back(draft), replace=replace)

    slot = run(work)
    if as_json:
        print_json({"slot": slot})
    say(f"slot {slot} takes this kit; keep it in a safe, not beside the backups that it opens")


def check(kit_file: KitFileOption = None, home: HomeOption = None) -> None:
    """Say which slot a recovery kit opens. Changes nothing. Exit status 20: none.

    Example: appliance recovery-kit check
    """
    config = configured(home)
    with reported():
        key = read_kit(kit_file)
    slot = run(lambda: recovery_kit.check_kit(config, operator(), key))
    print_text(f"opens slot {slot}\n")


def use(
    file: Annotated[Path | None, typer.Option(help="The new key file (default: where keys.file says).")] = None,
    kit_file: KitFileOption = None,
    home: HomeOption = None,
) -> None:
    """Make a new key file in place of one that is lost, with the recovery kit: after a board or TPM was replaced.

    Example: appliance recovery-kit use
    """
    config = configured(home)
    with reported():
        key = read_kit(kit_file)
    path, slot = run(lambda: recovery_kit.use_kit(config, operator(), key, file))
    print_text(f"{path}\n")
    say(f"slot {slot} takes it; take away what was lost: appliance keys list, appliance keys remove-slot")


def _typed_back(draft: recovery_kit.KitDraft) -> str:
    """What was typed, in at most three tries."""
    for left in reversed(range(_TRIES)):
        typed = read_kit_text("type it back")
        if recovery_kit.typed_right(draft, typed) or not left or not typed:
            return typed
        say(f"that is not what was shown; {left} more {'try' if left == 1 else 'tries'}")
    return ""
