"""`appliance evaluate`: how good a specialist is on labelled data of one's own, alone or beside another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import TaskID

from appliance.audit.gate import Released
from appliance.cli.server_file import read_server_file
from appliance.cli.terminal import (
    HomeOption,
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
from appliance.errors import InputTooLong, InvalidRequest, ServerUnavailable
from appliance.service.appliance import open_appliance
from appliance.service.evaluation import EvaluationRequest, Progress, evaluate, failures
from appliance.service.generalist import Generalist, GeneralistAt
from appliance.specialists.evaluation.judge import Report, report_json
from appliance.specialists.evaluation.report_html import (
    FIGURE_NAMES,
    report_html,
    shown,
    shown_difference,
    shown_figure,
)

GENERALIST = "generalist:"
_KEY_BYTES_MAX = 1024


def evaluate_specialist(
    specialist: Annotated[str, typer.Argument(help="Id of the specialist, as `appliance specialists list` shows.")],
    data: Annotated[
        Path, typer.Argument(metavar="DATA.jsonl", help="Labelled lines; their format is in specialists/README.md.")
    ],
    against: Annotated[
        str, typer.Option(help="Another specialist of the same task; or generalist:MODEL, asked by prompt.")
    ] = "",
    json_file: Annotated[
        str, typer.Option("--json", metavar="FILE|-", help="Write the report as JSON; - prints it instead of tables.")
    ] = "",
    html: Annotated[Path | None, typer.Option(help="Write the report as one HTML file with plots.")] = None,
    swap_names: Annotated[
        bool, typer.Option("--swap-names", help="Also recall of names of several origins, in the same texts.")
    ] = False,
    api_key_file: Annotated[
        Path | None, typer.Option(help="For a generalist: a file with the API key that may ask it.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Judge a specialist on labelled data: figures with intervals, by label, latency and cost. It is recorded.

    A generalist is asked through the API of the server that runs here on the same data folder.

    Example: appliance evaluate bank-intent tickets.jsonl --html report.html
    """
    config = configured(home)
    with reported():
        for place in (Path(json_file) if json_file not in ("", "-") else None, html):
            _check_place(place)
    released = run(lambda: _evaluate(config, specialist, data, against, swap_names, api_key_file))
    report, receipt = released.value, released.receipt
    if json_file == "-":
        print_json(report_json(report))
    else:
        print_report(report)
    if note := failures(report):
        say(note)
    say(f"recorded as {receipt.record_id.hex()}, number {receipt.seq} under a signed checkpoint of {receipt.size}")
    # The files come last: a disk that is full then takes the figures from nobody.
    if json_file and json_file != "-":
        run(lambda: _written(Path(json_file), _json_text(report)))
    if html is not None:
        run(lambda: _written(html, report_html(report)))


async def _evaluate(
    config: Config, specialist: str, data: Path, against: str, swap_names: bool, api_key_file: Path | None
) -> Released[Report]:
    request = EvaluationRequest(specialist, _read(data, config.limits.evaluation_bytes_max), swap_names=swap_names)
    named = (specialist, against) if against and not against.startswith(GENERALIST) else (specialist,)
    with progress_bar() as bar:
        progress = _shown_on(bar)
        async with open_appliance(config, via="cli", specialists=named) as appliance:
            if not against.startswith(GENERALIST):
                return await evaluate(appliance, operator(), _against(request, against or None), progress)
            place = _generalist_at(config, against.removeprefix(GENERALIST), api_key_file)
            async with Generalist(place) as generalist:
                return await evaluate(appliance, operator(), _against(request, generalist), progress)


def _against(request: EvaluationRequest, rival: str | Generalist | None) -> EvaluationRequest:
    return EvaluationRequest(request.specialist, request.data, rival, request.swap_names)


def _generalist_at(config: Config, model: str, api_key_file: Path | None) -> GeneralistAt:
    server = read_server_file(config.home)
    if server is None:
        raise ServerUnavailable(
            "a generalist is asked through the API, and no server runs on this data folder",
            hint="start one in another terminal: appliance serve",
        )
    if api_key_file is None:
        raise InvalidRequest(
            "asking a generalist needs an API key", hint="appliance api-keys create makes one; name its file"
        )
    key = _read(api_key_file, _KEY_BYTES_MAX).decode("ascii", "replace").strip()
    return GeneralistAt(server.url, model, key)


def print_report(report: Report) -> None:
    """The figures as tables."""
    names = [f"{one.contender.name} {one.contender.version}".strip() for one in report.judgements]
    rows: list[list[str]] = []
    for name in dict.fromkeys(name for one in report.judgements for name in one.figures):
        row = [FIGURE_NAMES.get(name, name)]
        row += [shown_figure(one.figures[name]) if name in one.figures else "–" for one in report.judgements]
        if name in report.differences:
            row.append(shown_difference(report.differences[name]))
        rows.append(row)
    for title, field in (("p50 ms", "p50_ms"), ("p95 ms", "p95_ms"), ("seconds per 1,000", "seconds_per_1000")):
        rows.append([title, *(f"{getattr(one.latency, field):g}" for one in report.judgements)])
    columns = (f"{report.items} items", *names, *(["difference (* beyond chance)"] if report.differences else []))
    print_table(columns, rows)
    for judgement, name in zip(report.judgements, names, strict=True):
        if judgement.labels:
            print_table((f"\n{name}", *_columns(judgement.labels)), _label_rows(judgement.labels))
    if report.swapped is not None:
        groups = [(group.origin, group.names, shown(group.recall)) for group in report.swapped.groups]
        print_table(("\nnames of", "names", "recall"), groups)
        print_table(("", ""), [("p of the gap", shown(report.swapped.p_value))])


def _columns(labels: dict[str, dict[str, float]]) -> list[str]:
    return [name.replace("_", " ") for name in next(iter(labels.values()))]


def _label_rows(labels: dict[str, dict[str, float]]) -> list[list[str]]:
    return [
        [label, *(f"{value:g}" if name == "items" else shown(value) for name, value in values.items())]
        for label, values in labels.items()
    ]


def _shown_on(bar: Any) -> Progress:
    tasks: dict[str, TaskID] = {}

    def progress(who: str, done: int, of: int) -> None:
        if who not in tasks:
            tasks[who] = bar.add_task(who, total=of)
        bar.update(tasks[who], completed=done)

    return progress


def _json_text(report: Report) -> str:
    return json.dumps(report_json(report), indent=2, ensure_ascii=False) + "\n"


def _check_place(path: Path | None) -> None:
    """Before the work, which may take an hour: a report needs a folder that is there."""
    if path is not None and not path.parent.is_dir():
        raise InvalidRequest(f"cannot write {path}: there is no folder {path.parent}", hint="make it, or name another")
    if path is not None and path.is_dir():
        raise InvalidRequest(f"cannot write {path}: it is a folder", hint="name a file in it")


async def _written(path: Path, content: str) -> None:
    """All of it under its name, or nothing."""
    draft = path.with_name(path.name + ".partial")
    try:
        draft.write_text(content, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="check the folder") from None


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", hint="check the path and its mode") from None
    if len(content) > bytes_max:
        raise InputTooLong(f"{path} is larger than {bytes_max} bytes", hint="take a sample of it")
    return content
