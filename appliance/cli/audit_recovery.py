"""`appliance audit exposure`, `epochs` and `recover`: what is outside, which logs there were, and how to go on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.api.schemas_audit_state import epoch_body, exposure_body
from appliance.audit.header import epoch_of
from appliance.audit.log import EpochView
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
from appliance.errors import AuditError, InvalidRequest, KeyMaterialError
from appliance.service import audit_exposure
from appliance.service.audit_exposure import ExposureView
from appliance.service.audit_recovery import KnownLoss, declare_loss, known_loss, require_told
from appliance.service.rooms import open_log

WORD = "declare-loss"
_NOTE_BYTES_MAX = 64 * 1024


def exposure(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Say how old the newest checkpoint outside this machine is: what came after it could be rewritten here unseen.

    Example: appliance audit exposure --json
    """
    config = configured(home)

    async def look() -> ExposureView:
        try:
            async with open_log(config) as log:
                return await audit_exposure.show_exposure(config, log, operator())
        except (AuditError, KeyMaterialError) as error:
            say(f"{error.message}; looking at its files as they are")
            return await audit_exposure.exposure_unopened(config)

    view = run(look)
    if as_json:
        print_json(exposure_body(view).model_dump(mode="json"))
    else:
        _report_exposure(view)


def _report_exposure(view: ExposureView) -> None:
    window = view.window
    if window.age_s is None:
        print_text("no checkpoint has left this machine")
    else:
        print_text(f"the newest checkpoint outside this machine is {window.age_s:.0f} s old")
    print_text(f" (target {window.target_s:g} s); {window.anchored_size} of {window.size} records are covered\n")
    if window.sinks:
        rows = [
            (sink.sink, sink.size, "never" if sink.age_s is None else f"{sink.age_s:.0f} s", sink.problem or "-")
            for sink in window.sinks
        ]
        print_table(("sink", "records", "age", "problem"), rows)
    else:
        say("run a witness on another machine (appliance witness init) and name it in witness.url and")
        say("witness.verifier_key of config.toml, or a SIEM in siem.host; until then keep checkpoints elsewhere:")
        say("appliance audit checkpoint")
    if window.alarm:
        say("alarm: is the server running, and can it reach the witness and the SIEM?")
    if view.quarantine is not None:
        say(f"quarantined, nothing is recorded: {view.quarantine}")


def epochs(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the logs of this data folder, newest first: a declared loss closes one and begins the next.

    Example: appliance audit epochs
    """
    config = configured(home)

    async def read() -> list[EpochView]:
        async with open_log(config) as log:
            return await audit_exposure.list_epochs(log, operator())

    found = run(read)
    if as_json:
        print_json({"data": [epoch_body(epoch).model_dump(mode="json") for epoch in found]})
        return
    print_table(
        ("epoch", "begun", "records", "origin"),
        [(epoch.number, f"{epoch.begun_time:%Y-%m-%d %H:%M:%S}", epoch.size, epoch.origin) for epoch in found],
    )


def recover(
    declare: Annotated[
        bool,
        typer.Option(f"--{WORD}", help="Close the log as it is and begin the next. Without: only say what is lost."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the word.")] = False,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A signed checkpoint that was kept elsewhere; may be given again.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Go on after a loss that no backup brings back: a new log begins and says which records are missing.

    First restore the newest backup of the data folder; only what it does not bring back is to be declared. The old
    log is kept and stays readable (appliance audit list --epoch N), its signing key signs nothing any more, and
    nothing can be added to it. Holds and retention go on. No server may run.

    Example: appliance audit recover --declare-loss
    """
    config = configured(home)
    with reported():
        kept = [read_note(path) for path in checkpoint or ()]
    known = run(lambda: known_loss(config, kept=kept))
    _explain(known)
    if not declare:
        say(f"nothing was changed; to begin epoch {known.epoch + 1}: appliance audit recover --{WORD}")
        return
    with reported():
        require_told(known)
        if not yes:
            _ask_for_word()
    recovery = run(lambda: declare_loss(config, operator(), kept=kept))
    lost = "none are missing"
    if recovery.lost_to >= recovery.lost_from:
        lost = f"records {recovery.lost_from} to {recovery.lost_to} of the one before are declared lost"
    say(f"epoch {epoch_of(recovery.origin)} has begun; {lost}")
    say("give its verifier key (appliance audit checkpoint) to auditors and witnesses")


def _explain(known: KnownLoss) -> None:
    say(f"epoch {known.epoch}: {known.stored} records are here, signatures are known of {known.remembered}")
    if known.problem:
        say(f"the log cannot be read: {known.problem}")
    if known.quarantine is not None:
        say(f"quarantined: {known.quarantine}")
        if known.untold:
            say("a note that says how much is missing is needed to declare it: give --checkpoint FILE, as the witness")
            say("has it (state.json in its folder), or a receipt's last part")
    if known.unfinished:
        say("a declaration that was cut off will be finished")
    if known.lost is not None:
        first, last = known.lost
        say(f"records {first} to {last} are missing: {last - first + 1} in all. Nobody can show what they said")
    elif not known.problem and not known.untold:
        say("nothing is known to be missing; a checkpoint that was kept elsewhere would say more: --checkpoint FILE")


def _ask_for_word() -> None:
    sys.stderr.write(f"this cannot be taken back. To go on, type {WORD}: ")
    sys.stderr.flush()
    if sys.stdin.readline(100).strip() != WORD:
        raise InvalidRequest("the word was not typed; nothing was changed", hint=f"type {WORD}, or give --yes")


def read_note(path: Path) -> str:
    """A checkpoint file as it was kept. Raises `InvalidRequest`."""
    """A checkpoint file as it was kept. Raises `InvalidRequest`."""
    try:
        with path.open("rb") as file:
            return file.read(_NOTE_BYTES_MAX).decode()
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", hint="name a checkpoint file") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is not a checkpoint", hint="give the file as it was kept") from None
