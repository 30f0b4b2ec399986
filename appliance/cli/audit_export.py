"""`appliance audit verify`, `check-receipt` and `export`: prove the log, and take it away."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from appliance.api.schemas_audit_state import verdict_body
from appliance.audit.formats.write import Progress
from appliance.audit.receipt_check import CheckedReceipt
from appliance.cli.server_file import read_server_file
from appliance.cli.terminal import (
    HomeOption,
    JsonOption,
    configured,
    operator,
    print_json,
    print_text,
    progress_bar,
    reported,
    run,
    say,
    stderr,
    working,
)
from appliance.errors import AuditError, HomeInUse, InvalidRequest, KeyMaterialError
from appliance.service import audit_export
from appliance.service.audit_exposure import EXIT_CODES, PROOF_CHARS_MAX, verdict_of
from appliance.service.audit_exposure import check_receipt as compare
from appliance.service.audit_verify import PASSED, Verdict, verify_unopened
from appliance.service.audit_verify import verify as verify_log
from appliance.service.rooms import open_log


class Format(StrEnum):
    """What is written."""

    BUNDLE = "bundle"
    TILES = "tiles"
    JSONL = "jsonl"
    FHIR = "fhir"
    FHIR_BUNDLE = "fhir-bundle"
    SYSLOG = "syslog"
    CEF = "cef"


def verify(
    full: Annotated[bool, typer.Option("--full", help="Every record of every epoch again, not only new ones.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Verify what is new in the log with the stand-alone verifier. The exit status is the verdict.

    0 intact; 2 intact with authorised gaps; 10 altered; 11 cut off; 12 forked; 13 signature; 14 content missing;
    15 clock; 16 not anchored; 20 wrong key; 30 malformed. A log that does not open, or whose keys are locked, is
    verified as it lies there.

    Example: appliance audit verify --full --json
    """
    config = configured(home)

    async def check() -> Verdict:
        try:
            async with open_log(config) as log:
                return await verify_log(config, log, operator(), full=full)
        except (AuditError, HomeInUse) as error:
            say(f"{error.message}; verifying its files as they are")
            verdict = await verify_unopened(config, full=full)
            if verdict.exit_code in PASSED:
                raise  # what keeps the log from opening is not in what the verifier looks at
            return verdict
        except KeyMaterialError as error:
            say(f"{error.message}; verifying without the keys, and this is not recorded")
            return await verify_unopened(config, full=full)

    verdict = run(check)
    if as_json:
        print_json(verdict_body(verdict).model_dump())
    else:
        report_verdict(verdict)
    if verdict.exit_code:
        raise typer.Exit(verdict.exit_code)


def report_verdict(verdict: Verdict) -> None:
    """The verdict for a person."""
    new = f", {verdict.records - verdict.since} since the last verification" if verdict.incremental else ""
    say(f"   {verdict.verdict}: {verdict.records} records{new}")
    for message in verdict.messages:
        say(f"   {message}")


def check_receipt(
    file: Annotated[Path, typer.Argument(help="The .tlog-proof file; - for standard input.", allow_dash=True)],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Compare a receipt that somebody kept with the log. One that contradicts the log stops all recording.

    Exit status: 0 in the log; 11 the log was cut; 12 it was rewritten; 13 not a receipt of this log; 16 of an
    earlier epoch.

    Example: appliance audit check-receipt receipt.tlog-proof
    """
    config = configured(home)
    with reported():
        proof_text = _read(file)

    async def compare_it() -> CheckedReceipt:
        async with open_log(config) as log:
            return await compare(config, log, operator(), proof_text)

    found = run(compare_it)
    verdict = verdict_of(found)
    if as_json:
        print_json({"verdict": verdict, "seq": found.seq, "message": found.message})
    else:
        print_text(f"{verdict}: {found.message}\n")
    if verdict in ("truncated", "forked"):
        server = " (a running server stops within seconds)" if read_server_file(config.home) else ""
        say(f"nothing is recorded any more{server}; see: appliance audit recover")
    if EXIT_CODES[verdict]:
        raise typer.Exit(EXIT_CODES[verdict])


def export(
    target: Annotated[Path, typer.Argument(help="What to write; it must not exist.")],
    format_: Annotated[Format, typer.Option("--format", help="What to write it as.")] = Format.BUNDLE,
    from_: Annotated[
        str, typer.Option("--from", help="Records from this time on: 2026-04-01 or 2026-04-01T08:00Z.")
    ] = "",
    to: Annotated[str, typer.Option("--to", help="Records before this time.")] = "",
    content: Annotated[bool, typer.Option("--content", help="With what was typed and answered; jsonl only.")] = False,
    epoch: Annotated[int | None, typer.Option(help="Of an earlier log, by its number.", min=1)] = None,
    all_epochs: Annotated[
        bool, typer.Option("--all-epochs", help="This log and all before it in one bundle, as auditverify takes it.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Write the log to a file, whole or not at all; nothing is overwritten. The export is recorded first.

    A bundle (for auditverify) and the tiles of its tree hold the whole log with contents sealed; they are a zip file
    where the name ends in .zip, else a folder. The other formats hold what records say of themselves, by time.

    \b
    Example: appliance audit export log.zip && python auditverify.py log.zip --pub key.txt --trusted checkpoint.txt
    Example: appliance audit export all.zip --all-epochs
    Example: appliance audit export march.jsonl --format jsonl --from 2026-03-01 --to 2026-04-01
    """
    config = configured(home)
    with reported():
        wanted = audit_export.parse_request(
            format_.value, from_=from_, to=to, epoch=epoch, content=content, all_epochs=all_epochs
        )
        audit_export.check_target(target)  # before anything is said to have begun

    async def write(progress: Progress | None) -> None:
        async with open_log(config) as log:
            await audit_export.export_to(config, log, operator(), wanted, target, progress=progress)

    with _shown(format_) as progress:
        run(lambda: write(progress))
    say(f"written: {target}")


@contextmanager
def _shown(format_: Format) -> Iterator[Progress | None]:
    """A bar where records are counted, on a terminal; a clock where the whole log is copied."""
    if format_ in (Format.BUNDLE, Format.TILES):
        with working() as step:
            step("copying the log")
            yield None
        return
    if not stderr.is_terminal:
        yield None
        return
    with progress_bar() as bar:
        task = bar.add_task("exporting", total=None)
        yield lambda written, at_most: bar.update(task, completed=written, total=at_most)


def _read(file: Path) -> str:
    try:
        if str(file) == "-":
            raw = sys.stdin.buffer.read(PROOF_CHARS_MAX + 1)
        else:
            with file.open("rb") as opened:
                raw = opened.read(PROOF_CHARS_MAX + 1)
        return raw.decode()
    except OSError as error:
        raise InvalidRequest(f"cannot read {file}: {error.strerror}", hint="name the .tlog-proof file") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{file} is not a receipt", hint="give the .tlog-proof file as it was received") from None
