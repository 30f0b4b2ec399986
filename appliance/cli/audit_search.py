"""`appliance audit search` and `activity`: look for records, and see how much was recorded when."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.progress import TaskID

from appliance.api.schemas_audit import record_body
from appliance.api.schemas_keeping import bucket_body
from appliance.audit.log import ActivityBucket, RecordView, SearchProgress
from appliance.cli.audit import shown_actor
from appliance.cli.terminal import (
    HomeOption,
    JsonOption,
    configured,
    operator,
    print_json,
    print_table,
    progress_bar,
    reported,
    run,
    say,
)
from appliance.config import Config
from appliance.errors import InvalidRequest
from appliance.service import audit_search
from appliance.service.audit_search import AuditSearch
from appliance.service.rooms import open_accounts, open_log

_BAR_CHARS = 40


def search(
    from_: Annotated[
        str, typer.Option("--from", help="Committed from this time on: 2026-04-01 or 2026-04-01T08:00Z.")
    ] = "",
    to: Annotated[str, typer.Option("--to", help="Committed before this time.")] = "",
    event: Annotated[str, typer.Option(help="Only this event, as `session.sign_in`.")] = "",
    actor: Annotated[str, typer.Option(help="Only this actor, as `user:1`.")] = "",
    outcome: Annotated[str, typer.Option(help="Only this outcome, as `refused`.")] = "",
    exchange: Annotated[str, typer.Option(help="Only this exchange.")] = "",
    specialist: Annotated[str, typer.Option(help="Only exchanges with this specialist.")] = "",
    subject: Annotated[str, typer.Option(help="Only contents about this case or patient number.")] = "",
    text: Annotated[str, typer.Option(help="Only contents that hold this text; opens them one by one.")] = "",
    epoch: Annotated[int | None, typer.Option(help="In an earlier log, by its number.", min=1)] = None,
    limit: Annotated[int, typer.Option(help="How many records at most.", min=1, max=audit_search.HITS_MAX)] = 100,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Search records, newest first, with a progress bar. The search itself is recorded first.

    \b
    Example: appliance audit search --event specialist.deidentify --from 2026-04-01 --text Müller
    """
    config = configured(home)
    with reported():
        wanted = AuditSearch(
            parsed_time(from_),
            parsed_time(to),
            event=event,
            actor=actor,
            outcome=outcome,
            exchange_id=exchange,
            specialist=specialist,
            subject=subject,
            text=text,
            epoch=epoch,
            limit=limit,
        )
    views, end = run(lambda: _search(config, wanted))
    if as_json:
        rows = [record_body(view).model_dump(mode="json") for view in views]
        print_json({"data": rows, "scanned": end.scanned, "complete": end.complete})
        return
    rows_of = [
        (view.seq, f"{view.time:%Y-%m-%d %H:%M:%S}", view.event, view.outcome, shown_actor(view), view.record_id)
        for view in views
    ]
    print_table(("seq", "time", "event", "outcome", "actor", "record"), rows_of)
    say(f"{len(views)} found, {end.scanned} opened" + ("" if end.complete else "; there may be more"))


async def _search(config: Config, wanted: AuditSearch) -> tuple[list[RecordView], SearchProgress]:
    views, end = [], SearchProgress(0, 0)
    async with open_accounts(config) as (directory, log):
        steps = await audit_search.search(directory, log, operator(), wanted)
        with progress_bar() as bar:
            task = TaskID(bar.add_task("searching", total=None))
            async with aclosing(steps) as found:
                async for step in found:
                    if isinstance(step, RecordView):
                        views.append(step)
                    else:
                        end = step
                        bar.update(task, completed=step.scanned, total=max(1, step.total))
    return views, end


def activity(
    from_: Annotated[str, typer.Option("--from", help="Begin (default: a day ago).")] = "",
    to: Annotated[str, typer.Option("--to", help="End, not included (default: now).")] = "",
    buckets: Annotated[int, typer.Option(help="Into how many pieces.", min=1, max=1000)] = 24,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show how many records were committed when. No record is opened for it.

    \b
    Example: appliance audit activity --from 2026-04-01 --to 2026-04-02 --buckets 24
    """
    config = configured(home)
    with reported():
        end = parsed_time(to) or datetime.now(UTC)
        begin = parsed_time(from_) or _day_before(end)

    async def read() -> list[ActivityBucket]:
        async with open_log(config) as log:
            return await audit_search.show_activity(log, operator(), begin, end, buckets)

    found = run(read)
    starts = [datetime.fromtimestamp(bucket.start_ms / 1000, UTC) for bucket in found]
    if as_json:
        bodies = [bucket_body(*pair).model_dump(mode="json") for pair in zip(found, starts, strict=True)]
        print_json({"from": begin, "to": end, "buckets": bodies})
        return
    most = max((_all_of(bucket) for bucket in found), default=0) or 1
    rows: list[tuple[Any, ...]] = [
        (
            f"{start:%Y-%m-%d %H:%M}",
            bucket.exchange,
            bucket.administration,
            bucket.public,
            "#" * (_all_of(bucket) * _BAR_CHARS // most),
        )
        for bucket, start in zip(found, starts, strict=True)
    ]
    print_table(("from", "exchange", "administration", "public", ""), rows)


def parsed_time(text: str) -> datetime | None:
    """A time as a person writes it; without a zone UTC. Raises `InvalidRequest`."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{text[:40]!r} is not a time", hint="write 2026-04-01 or 2026-04-01T08:30Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _day_before(end: datetime) -> datetime:
    try:
        return end - timedelta(days=1)
    except OverflowError:
        raise InvalidRequest("nothing is a day before that end", hint="give the begin too: --from") from None


def _all_of(bucket: ActivityBucket) -> int:
    return bucket.exchange + bucket.administration + bucket.public
