"""`appliance audit`: look into the log, prove it, verify it, take it away."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.api.routes_audit import record_body
from appliance.api.schemas import VerdictBody, receipt_body
from appliance.cli.terminal import (
    HomeOption,
    JsonOption,
    configured,
    operator,
    print_json,
    print_table,
    print_text,
    run,
    say,
)
from appliance.errors import AuditLogInvalid, InvalidRequest
from appliance.service import audit
from appliance.service.appliance import open_accounts, open_log

commands = typer.Typer(no_args_is_help=True, help="Look into the audit log, prove it, verify it, export it.")

_PASSED = (0, 2)


@commands.command("list")
def list_records(
    limit: Annotated[int, typer.Option(help="How many records at most.", min=1, max=1000)] = 20,
    after: Annotated[int | None, typer.Option(help="Sequence number of the last record already seen.", min=0)] = None,
    event: Annotated[str | None, typer.Option(help="Only this event, as `specialist.deidentify`.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only this actor, as `user:1`.")] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """List records, newest first.

    Example: appliance audit list --event specialist.deidentify --limit 5
    """
    config = configured(home)
    query = audit.RecordQuery(after, limit, event, actor)

    async def read() -> audit.RecordPage:
        async with open_accounts(config) as (directory, log):
            return await audit.list_records(config, directory, log, operator(), query)

    page = run(read)
    if as_json:
        rows = [record_body(view).model_dump(mode="json") for view in page.records]
        print_json({"data": rows, "next": page.next})
        return
    print_table(
        ("seq", "time", "event", "outcome", "actor", "record"),
        [
            (view.seq, f"{view.time:%Y-%m-%d %H:%M:%S}", view.event, view.outcome, view.actor, view.record_id)
            for view in page.records
        ],
    )


@commands.command("show")
def show_record(
    record: Annotated[str, typer.Argument(help="Record id, 32 hexadecimal digits.")],
    receipt: Annotated[bool, typer.Option("--receipt", help="Print its proof file instead.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show one record with its content, or its proof file.

    Example: appliance audit show 4f6d…a1 --receipt > receipt.tlog-proof
    """
    config = configured(home)

    async def read_receipt() -> tuple[Any, str]:
        async with open_accounts(config) as (directory, log):
            return await audit.show_receipt(directory, log, operator(), record)

    async def read_record() -> tuple[Any, bytes | None]:
        async with open_accounts(config) as (directory, log):
            return await audit.show_record(directory, log, operator(), record)

    if receipt:
        proven, proof_file = run(read_receipt)
        if as_json:
            print_json(receipt_body(proven).model_dump(mode="json") | {"proof_file": proof_file})
        else:
            print_text(proof_file)
        return
    view, content = run(read_record)
    body = record_body(view).model_dump(mode="json")
    text = content.decode("utf-8", "replace") if content is not None else None
    if as_json:
        print_json(body | {"content": text})
        return
    attributes = body.pop("attributes")
    print_table(("", ""), [*body.items(), *((f"  {name}", value) for name, value in attributes.items())])
    if text is not None:
        print_text(f"\n{text}\n")


@commands.command("verify")
def verify(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Verify the whole log with the stand-alone verifier. The exit status is the verdict.

    0 intact; 2 intact with authorised gaps; 10 altered; 11 cut off; 12 forked; 13 signature; 14 content missing;
    15 clock; 16 not anchored; 20 wrong key; 30 malformed.

    Example: appliance audit verify --json
    """
    config = configured(home)

    async def check() -> audit.Verdict:
        try:
            async with open_log(config) as log:
                return await audit.verify(config, log, operator())
        except AuditLogInvalid as error:
            say(f"{error.message}; verifying its files as they are")
            verdict = await audit.verify_unopened(config)
            if verdict.exit_code in _PASSED:
                raise  # what keeps the log from opening is not in what the verifier looks at
            return verdict

    verdict = run(check)
    if as_json:
        print_json(
            VerdictBody(
                verdict=verdict.verdict,
                exit_code=verdict.exit_code,
                records=verdict.records,
                first_bad_seq=verdict.first_bad_seq,
                messages=list(verdict.messages),
            ).model_dump()
        )
    else:
        report_verdict(verdict)
    if verdict.exit_code:
        raise typer.Exit(verdict.exit_code)


def report_verdict(verdict: audit.Verdict) -> None:
    """The verdict for a person."""
    say(f"   {verdict.verdict}: {verdict.records} records")
    for message in verdict.messages:
        say(f"   {message}")


@commands.command("checkpoint")
def show_checkpoint(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Print the newest signed checkpoint. Keep copies elsewhere: they expose a log that was rolled back.

    Example: appliance audit checkpoint > checkpoint-$(date +%F).txt
    """
    config = configured(home)

    async def read() -> audit.CheckpointView:
        async with open_log(config) as log:
            return await audit.show_checkpoint(log, operator())

    view = run(read)
    if as_json:
        print_json(
            {
                "checkpoint": view.checkpoint,
                "verifier_key": view.verifier_key,
                "origin": view.origin,
                "size": view.size,
            }
        )
    else:
        say(f"verifier key: {view.verifier_key}")
        print_text(view.checkpoint)


@commands.command("export")
def export(
    target: Annotated[Path, typer.Argument(help="Zip file to write.")],
    home: HomeOption = None,
) -> None:
    """Write the whole log as a zip bundle for `auditverify`; contents stay sealed in it.

    Example: appliance audit export log.zip && python auditverify.py log.zip --pub key.txt --trusted checkpoint.txt
    """
    config = configured(home)
    if target.exists():
        with_hint = InvalidRequest(f"{target} exists already", hint="choose another name; exports are not overwritten")
        run(lambda: _refuse(with_hint))

    async def write() -> None:
        async with open_log(config) as log:
            bundle = await audit.export(config, log, operator())
        with bundle.folder:
            _copy_whole(bundle.path, target)

    run(write)
    say(f"written: {target}")


def _copy_whole(source: Path, target: Path) -> None:
    """All of it under its name, or nothing."""
    draft = target.with_name(target.name + ".partial")
    try:
        shutil.copyfile(source, draft)
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InvalidRequest(
            f"cannot write {target}: {error.strerror}", hint="check the folder and its free space"
        ) from None


async def _refuse(error: InvalidRequest) -> None:
    raise error
