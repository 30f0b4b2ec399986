"""`appliance audit`: look into the log and prove it. Other commands of the group are in the files beside this one."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.api.schemas_audit import receipt_body, record_body
from appliance.audit.header import NUMBER_MAX
from appliance.audit.log import RecordView
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
from appliance.service import audit
from appliance.service.rooms import open_accounts, open_log
from appliance.types import Receipt


def list_records(
    limit: Annotated[int, typer.Option(help="How many records at most.", min=1, max=1000)] = 20,
    after: Annotated[
        int | None, typer.Option(help="Sequence number of the last record already seen.", min=0, max=NUMBER_MAX)
    ] = None,
    event: Annotated[str | None, typer.Option(help="Only this event, as `specialist.deidentify`.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only this actor, as `user:1`.")] = None,
    epoch: Annotated[int | None, typer.Option(help="Of an earlier log, by its number.", min=1)] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """List records, newest first.

    Example: appliance audit list --event specialist.deidentify --limit 5
    """
    config = configured(home)
    query = audit.RecordQuery(after, limit, event, actor, epoch)

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
            (view.seq, f"{view.time:%Y-%m-%d %H:%M:%S}", view.event, view.outcome, shown_actor(view), view.record_id)
            for view in page.records
        ],
    )


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

    async def read_receipt() -> Receipt:
        async with open_accounts(config) as (directory, log):
            return await audit.show_receipt(directory, log, operator(), record)

    async def read_record() -> tuple[RecordView, bytes | None]:
        async with open_accounts(config) as (directory, log):
            return await audit.show_record(directory, log, operator(), record)

    if receipt:
        body = receipt_body(run(read_receipt)).model_dump(mode="json")
        if as_json:
            print_json(body)
        else:
            print_text(body["proof_file"])
        return
    view, content = run(read_record)
    body = record_body(view).model_dump(mode="json")
    text = content.decode("utf-8", "replace") if content is not None else None
    if as_json:
        print_json(body | {"content": text})
        return
    attributes = body.pop("attributes")
    shown = {name: value for name, value in body.items() if name not in ("actor_name", "actor_gone")}
    shown["actor"] = shown_actor(view)
    print_table(("", ""), [*shown.items(), *((f"  {name}", value) for name, value in attributes.items())])
    if text is not None:
        print_text(f"\n{text}\n")


def shown_actor(view: RecordView) -> str:
    """The id of the log, which can be searched for, and who that is."""
    if view.actor_gone:
        return f"{view.actor} (no longer here)"
    return shown_person(view.actor, view.actor_name)


def shown_person(actor: str, name: str | None) -> str:
    """An id of the log and the name of the account that has it."""
    return actor if name is None else f"{actor} ({name})"


def show_checkpoint(
    key: Annotated[bool, typer.Option("--key", help="Print the key that verifies it instead.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
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
    elif key:
        print_text(f"{view.verifier_key}\n")
    else:
        say(f"verifier key: {view.verifier_key}")
        print_text(view.checkpoint)
