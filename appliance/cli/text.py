"""`appliance deidentify` and `appliance run`: text in, findings and receipts out."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import typer
from rich.progress import TaskID

from appliance.api.schemas import deidentify_response, run_response
from appliance.audit.gate import Released
from appliance.audit.proof import proof_file
from appliance.cli.exit_codes import SOME_LINES_FAILED
from appliance.cli.terminal import (
    HomeOption,
    JsonOption,
    configured,
    operator,
    print_json,
    print_text,
    progress_bar,
    run,
    say,
)
from appliance.config import Config
from appliance.errors import ApplianceError, InputNotText, InputTooLong, InvalidRequest
from appliance.service.appliance import Appliance, open_appliance
from appliance.service.requests import Answer, Operation, SpecialistRequest, answer
from appliance.service.routing import answer_routed
from appliance.specialists.router import AUTO
from appliance.types import Receipt

Style = Literal["label", "mask", "surrogate"]
SubjectOption = Annotated[
    str,
    typer.Option(help="Whom the text is about (a case or patient number): its contents can be destroyed by that."),
]
# What a line holds beside "id" and "subject", and what its row holds beside "id" and "receipt": as in the API.
_TEXTS = ("text", "entity", "concept", "question", "context")
_FOUND = frozenset(("spans", "label", "score", "labels", "answer", "embedding", "warnings"))


def deidentify(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A UTF-8 text file; - reads standard input.")],
    style: Annotated[
        Style, typer.Option(help="label: [NAME 1]; mask: one █ a character; surrogate: made-up values.")
    ] = "label",
    specialist: Annotated[str, typer.Option(help="Which specialist marks the identifiers.")] = "phi-deid",
    subject: SubjectOption = "",
    receipt: Annotated[
        Path | None, typer.Option(help="Write the receipt to this file (C2SP tlog-proof); auditverify takes it.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """De-identify one text and print it; what was found and the receipt go to stderr.

    \b
    Example: appliance deidentify note.txt --style surrogate --receipt note.tlog-proof > clean.txt
    """
    wanted = partial(SpecialistRequest, specialist=specialist, operation=Operation.DEIDENTIFY, style=style)
    run(lambda: _deidentify(configured(home), file, partial(wanted, subject=subject), receipt, as_json))


def run_specialist(
    specialist: Annotated[
        str,
        typer.Argument(help="Id of the specialist, as `appliance specialists list` shows; auto: the router chooses."),
    ],
    jsonl: Annotated[
        Path,
        typer.Option(
            "--jsonl",
            help='Input: one {"id": …, "text": …} a line, with "entity" or "concept" where the specialist takes one; '
            'or "sentences"; or "question" and "context". "subject" may be given.',
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Output: one JSON line for each input line, in the same order.")],
    subject: SubjectOption = "",
    home: HomeOption = None,
) -> None:
    """Run a specialist over a file of JSON lines. Exit status 3: some lines failed, and say why.

    Example: appliance run phi-deid --jsonl notes.jsonl --out spans.jsonl
    """
    failed = run(lambda: _run_lines(configured(home), specialist, subject, jsonl, out))
    if failed:
        raise typer.Exit(SOME_LINES_FAILED)


async def _deidentify(
    config: Config, file: str, request_for: Callable[[str], SpecialistRequest], receipt: Path | None, as_json: bool
) -> None:
    text = read_text(file, config.limits.text_chars_max)
    wanted = request_for(text)
    async with open_appliance(config, via="cli", specialists=(wanted.specialist,)) as appliance:
        released = await answer(appliance, operator(), wanted)
    if receipt is not None:
        _write_receipt(receipt, released.receipt)
    if as_json:
        body = deidentify_response(released.value, released.receipt, wanted.style)
        shown = {"text", "spans", "receipt"} | ({"warnings"} if body.warnings else set())
        print_json(body.model_dump(include=shown, mode="json"))
        return
    _summarise(released, text)
    assert released.value.redaction is not None
    print_text(released.value.redaction.text)


def _write_receipt(path: Path, receipt: Receipt) -> None:
    try:
        path.write_text(proof_file(receipt))
    except OSError as error:
        kept = f"it can be had again: appliance audit show {receipt.record_id.hex()} --receipt"
        raise InvalidRequest(f"cannot write the receipt to {path}: {error.strerror}", hint=kept) from None


def _summarise(released: Released[Answer], text: str) -> None:
    found, receipt = released.value, released.receipt
    counts = ", ".join(f"{count} {label}" for label, count in found.counts().items()) or "nothing"
    by = f"{found.specialist.id} {found.specialist.version}"
    for warning in found.warnings:
        say(f"warning: {warning}")
    say(f"found {counts} in {len(text)} characters, {found.elapsed_ms:.0f} ms, by {by}")
    say(f"recorded as {receipt.record_id.hex()}, number {receipt.seq} under a signed checkpoint of {receipt.size}")


def read_text(file: str, chars_max: int) -> str:
    """The text of a file or of standard input. Raises `InvalidRequest` for what cannot be read as UTF-8."""
    bytes_max = 4 * chars_max  # the longest UTF-8 character
    name = "standard input" if file == "-" else file
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(bytes_max + 1)
        else:
            with Path(file).open("rb") as stream:
                raw = stream.read(bytes_max + 1)
    except OSError as error:
        raise InvalidRequest(
            f"cannot read {name}: {error.strerror}", hint="check the path and its permissions"
        ) from None
    if len(raw) > bytes_max:
        raise InputTooLong(
            f"{name} is larger than {bytes_max} bytes", hint="split it, or raise limits.text_chars_max in config.toml"
        )
    return _decode(raw, name)


def _decode(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8")
    except UnicodeDecodeError as error:
        raise InputNotText(
            f"{name} is not valid UTF-8 at byte {error.start}", hint="convert it first: iconv -f WINDOWS-1252 -t UTF-8"
        ) from None


async def _run_lines(config: Config, specialist: str, subject: str, source: Path, target: Path) -> int:
    """Run the whole file; returns how many lines failed. The output appears under its name when it is complete."""
    _check_places(source, target)
    draft = target.with_name(target.name + ".partial")
    failed = 0
    try:
        with source.open("rb") as lines, draft.open("wb") as output, progress_bar() as bar:
            task = bar.add_task(f"{specialist}", total=_count_lines(source))
            named = () if specialist == AUTO else (specialist,)
            async with open_appliance(config, via="cli", specialists=named) as appliance:
                async for row in _answers(appliance, SpecialistRequest(None, specialist, subject=subject), lines):
                    failed += "error" in row
                    output.write(json.dumps(row, allow_nan=False).encode() + b"\n")
                    bar.advance(TaskID(task))
        draft.replace(target)
    except OSError as error:
        raise InvalidRequest(
            f"cannot work on {error.filename or target}: {error.strerror}", hint="check the paths and the free space"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()  # still there only if the run did not come to its end
    if failed:
        say(f"{failed} lines failed; each says why in {target}")
    return failed


def _check_places(source: Path, target: Path) -> None:
    """Before the work: the texts are not overwritten by what was found in them, and the findings have a place."""
    if target.is_dir():
        raise InvalidRequest(f"cannot write {target}: it is a folder", hint="name a file in it")
    if source.exists() and target.exists() and source.samefile(target):
        raise InvalidRequest(f"{target} is what is read: its texts would be lost", hint="name another file with --out")


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")) or 1


async def _answers(appliance: Appliance, common: SpecialistRequest, lines: BinaryIO) -> AsyncIterator[dict[str, Any]]:
    """One output row for each input line, in order, with a bounded number of lines in work."""
    waiting: list[asyncio.Task[dict[str, Any]]] = []
    try:
        for raw in _bounded_lines(lines, appliance.config.limits.jsonl_line_bytes_max):
            waiting.append(asyncio.create_task(_answer_line(appliance, common, raw)))
            if len(waiting) >= appliance.config.limits.jsonl_lines_at_once:
                yield await waiting.pop(0)
        while waiting:
            yield await waiting.pop(0)
    finally:
        for task in waiting:
            task.cancel()
        for task in waiting:
            with contextlib.suppress(asyncio.CancelledError, ApplianceError):
                await task


def _bounded_lines(lines: BinaryIO, bytes_max: int) -> Iterator[bytes | None]:
    """The lines of a file; None for one that is longer than `bytes_max`, of which no more than that is held."""
    while line := lines.readline(bytes_max + 1):
        if len(line) <= bytes_max:
            if line.strip():
                yield line
            continue
        while line and not line.endswith(b"\n"):
            line = lines.readline(bytes_max + 1)
        yield None


async def _answer_line(appliance: Appliance, common: SpecialistRequest, raw: bytes | None) -> dict[str, Any]:
    line: dict[str, Any] = {"id": None}
    try:
        line |= _parse_line(raw, appliance.config.limits.jsonl_line_bytes_max)
        wanted = _request_of(line, common)
        released = (await answer_routed(appliance, operator(), wanted)).released
    except InvalidRequest as error:
        # Only what this one line asked for is wrong; an engine or an audit log that fails ends the run.
        return {"id": line["id"], "error": {"code": error.code, "message": error.message}}
    return {"id": line["id"]} | _findings(released)


def _parse_line(raw: bytes | None, bytes_max: int) -> dict[str, Any]:
    if raw is None:
        raise InputTooLong(f"the line is longer than {bytes_max} bytes")
    try:
        # The standard library takes halves of surrogate pairs, so such a line keeps its id and its text is refused.
        line = json.loads(raw.removeprefix(codecs.BOM_UTF8).decode())
    except UnicodeDecodeError:
        raise InputNotText("the line is not valid UTF-8") from None
    except (ValueError, RecursionError):
        raise InvalidRequest("the line is not JSON") from None
    if not isinstance(line, dict) or "id" not in line:
        raise InvalidRequest('the line is not an object with an "id"')
    try:
        json.dumps(line["id"], allow_nan=False)
    except (ValueError, RecursionError):
        raise InvalidRequest('the "id" of the line is not a value of JSON') from None
    return line


def _request_of(line: dict[str, Any], common: SpecialistRequest) -> SpecialistRequest:
    """The same fields as the body of the API; null is as good as absent, and what has another name is not ours."""
    body = {name: _string(line, name) for name in (*_TEXTS, "subject")}
    sentences = line.get("sentences")
    if sentences is not None and not (isinstance(sentences, list) and all(isinstance(one, str) for one in sentences)):
        raise InvalidRequest('the "sentences" of the line are not a list of texts')
    about = tuple((name, value) for name in ("entity", "concept") if (value := body[name]))
    return replace(
        common,
        text=body["text"],
        subject=body["subject"] or common.subject,
        about=about,
        sentences=None if sentences is None else tuple(sentences),
        question=body["question"],
        context=body["context"],
    )


def _string(line: dict[str, Any], name: str) -> str | None:
    value = line.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f'the "{name}" of the line is not a text')
    return value


def _findings(released: Released[Answer]) -> dict[str, Any]:
    body = run_response(released.value, released.receipt).model_dump(mode="json", exclude_unset=True)
    return {name: value for name, value in body.items() if name in _FOUND} | {"receipt": body["receipt"]}
