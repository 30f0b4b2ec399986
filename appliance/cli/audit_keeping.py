"""`appliance audit hold`, `retention`, `shred`, `erasures`: what is kept, how long, and what is destroyed."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from appliance.api.schemas_keeping import (
    certificate_body,
    erasure_body,
    hold_body,
    retention_body,
    retention_run_body,
)
from appliance.audit.log import AuditLog, Certificate
from appliance.cli.audit import shown_person
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
from appliance.errors import InvalidRequest
from appliance.service import audit_holds, audit_retention
from appliance.service.audit_checks import month_text
from appliance.service.audit_holds import HoldDetail
from appliance.service.audit_retention import Rule
from appliance.service.rooms import open_accounts, open_log

T = TypeVar("T")

ReasonOption = Annotated[
    str, typer.Option(help="Why, as a code of small letters and digits; it stands in clear in the log.")
]


def _with_log(config: Config, work: Callable[[AuditLog], Awaitable[T]]) -> T:
    async def opened() -> T:
        async with open_log(config) as log:
            return await work(log)

    return run(opened)


def place_hold(
    reason: ReasonOption,
    subject: Annotated[list[str] | None, typer.Option(help="Case or patient number; may be repeated.")] = None,
    record_class: Annotated[
        list[str] | None, typer.Option("--class", help="exchange or administration; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Place a legal hold: nothing that it covers is destroyed until two people release it.

    \b
    Example: appliance audit hold place --subject MRN-4711 --reason litigation-2026-04
    """
    detail = _with_log(
        configured(home),
        lambda log: audit_holds.place_hold(
            log, operator(), subjects=subject or [], classes=record_class or [], reason=reason
        ),
    )
    if as_json:
        print_json(hold_body(detail).model_dump(mode="json"))
    else:
        say(f"hold {detail.hold} is in force since record {detail.view.set_seq}")


def list_holds(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List every legal hold, newest first. Subjects are counted, never named.

    Example: appliance audit hold list --json
    """
    config = configured(home)

    async def read() -> list[HoldDetail]:
        async with open_accounts(config) as (directory, log):
            return await audit_holds.list_holds(directory, log, operator())

    details = run(read)
    bodies = [hold_body(detail) for detail in details]
    if as_json:
        print_json({"data": [body.model_dump(mode="json") for body in bodies]})
        return
    rows = [
        (
            body.hold,
            "released"
            if body.released
            else f"release asked by {shown_person(body.release_requested.by, body.release_requested.by_name)}"
            if body.release_requested
            else "in force",
            body.subjects,
            " ".join(body.classes),
            body.reason,
            f"{body.set.time:%Y-%m-%d}",
            shown_person(body.set.by or "", body.set.by_name),
        )
        for body in bodies
    ]
    print_table(("hold", "state", "subjects", "classes", "reason", "since", "by"), rows)


def release_hold(
    hold: Annotated[str, typer.Argument(help="Hold, 16 hexadecimal digits, as `appliance audit hold list` shows.")],
    home: HomeOption = None,
) -> None:
    """Ask for the release of a hold, or approve what another person asked for within a week.

    Example: appliance audit hold release 8c1f0a93d2e4b576
    """
    release = _with_log(configured(home), lambda log: audit_holds.release_hold(log, operator(), hold))
    if release.state == "requested":
        say(f"asked for the release of {hold}; another person must approve it within {audit_holds.REQUEST_DAYS} days")
    else:
        say(f"released {hold}")


def show_retention(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show how long each class is kept, and the months whose time has come.

    Example: appliance audit retention show --json
    """
    rules = _with_log(configured(home), lambda log: audit_retention.list_retention(log, operator()))
    _print_rules(rules, as_json)


def change_retention(
    record_class: Annotated[str, typer.Argument(metavar="CLASS", help="exchange or administration.")],
    months: Annotated[int, typer.Argument(help="Months; never fewer than now.", min=1, max=1200)],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Keep a class of records longer. A shorter time is refused.

    Example: appliance audit retention set exchange 96
    """
    rules = _with_log(
        configured(home), lambda log: audit_retention.change_retention(log, operator(), record_class, months)
    )
    _print_rules(rules, as_json)


def run_retention(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Destroy now what has expired. A server does the same by itself.

    Example: appliance audit retention run
    """
    done = _with_log(configured(home), lambda log: audit_retention.run_retention_now(log, operator()))
    if as_json:
        print_json(retention_run_body(done).model_dump(mode="json", by_alias=True))
        return
    for purged in done.purged:
        say(f"destroyed {purged.records} records of class {purged.record_class}, {month_text(purged.month)}")
    for held in done.held:
        say(f"kept under hold {held.hold}: class {held.record_class}, {month_text(held.month)}")
    say(f"{len(done.purged)} destroyed, {len(done.held)} held")


def shred(
    subject: Annotated[str, typer.Argument(help="Case or patient number, as texts were sent with.")],
    reason: ReasonOption,
    certificate: Annotated[
        Path | None, typer.Option(help="File for the certificate (default: shred-<number>.json here).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Destroy the keys of all content about one subject, for ever, and write a certificate of it.

    Example: appliance audit shred MRN-4711 --reason request-17 --yes
    """
    config = configured(home)
    with reported():
        _refuse_certificate(certificate)  # before anything is destroyed
    if not yes:
        typer.confirm("destroy all content about this subject, for ever?", abort=True, err=True)
    done = _with_log(config, lambda log: audit_retention.shred(log, operator(), subject, reason))
    if as_json:
        print_json(certificate_body(done).model_dump(mode="json"))
    else:
        print_text(f"{done.statement}\n")
    path = certificate or _unused_name(done)
    with reported():
        _write_certificate(path, done)
    say(f"grade {done.grade}; {done.records} records; certificate: {path}")


def erasures(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List every destruction that was announced, newest first.

    Example: appliance audit erasures --json
    """
    found = _with_log(configured(home), lambda log: audit_retention.list_erasures(log, operator()))
    if as_json:
        print_json({"data": [erasure_body(each).model_dump(mode="json") for each in found]})
        return
    rows = [
        (each.seq, f"{each.time:%Y-%m-%d %H:%M}", each.kind, each.erased, "done" if each.done else "goes on")
        for each in found
    ]
    print_table(("record", "time", "kind", "records", "state"), rows)


def _print_rules(rules: list[Rule], as_json: bool) -> None:
    body = retention_body(rules)
    if as_json:
        print_json(body.model_dump(mode="json", by_alias=True))
        return
    rows = [(rule.record_class, rule.months, rule.oldest or "", " ".join(rule.expired)) for rule in body.classes]
    print_table(("class", "months", "oldest", "expired"), rows)


def _refuse_certificate(path: Path | None) -> None:
    """Raise `InvalidRequest` where a certificate could not be written, as far as that is known before."""
    if path is not None and (path.exists() or path.is_symlink()):
        raise InvalidRequest(f"{path} exists already", hint="choose another name for the certificate")
    folder = Path.cwd() if path is None else path.absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidRequest(
            f"the certificate cannot be written to {folder}; nothing was destroyed",
            hint="name a file in a folder that exists and can be written: --certificate FILE",
        )


def _unused_name(certificate: Certificate) -> Path:
    """Numbers begin anew with every log: another's certificate may lie here."""
    path = Path(f"shred-{certificate.seq}.json")
    return Path(f"shred-{certificate.seq}-{certificate.record_id}.json") if path.exists() else path


def _write_certificate(path: Path, certificate: Certificate) -> None:
    text = json.dumps(certificate_body(certificate).model_dump(mode="json"), indent=2) + "\n"
    try:
        with path.open("x") as file:
            file.write(text)
    except OSError as error:
        raise InvalidRequest(
            f"the content is destroyed, but {path} could not be written: {error.strerror}",
            hint=f"the log has it: record {certificate.seq}; `appliance audit erasures` lists it",
        ) from None
