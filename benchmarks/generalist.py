"""Specialist against generalist: the same questions to both, on this machine, and what each answer costs.

    python -m appliance.training.gold --data DATA --out GOLD               # held-back parts as labelled lines
    python -m benchmarks.generalist --home FOLDER --gold GOLD --model MODEL --api-key-file KEY

The data folder has the specialists installed; a server with the decoder MODEL runs on it (`appliance serve`), and is
asked through its own API by one prompt per task (`specialists/evaluation/prompts.py`). Prints for each specialist its
main figure, the generalist's, their difference with its interval, and seconds per 1,000 documents of both; `--json`
writes the whole reports. A specialist without a file in GOLD is left out and named.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance.accounts.actions import local_operator
from appliance.cli.server_file import read_server_file
from appliance.config import load_config
from appliance.errors import ApplianceError, ServerUnavailable
from appliance.service.appliance import Appliance, open_appliance
from appliance.service.evaluation import Asks, EvaluationRequest, evaluate
from appliance.service.generalist import Generalist, GeneralistAt
from appliance.specialists.evaluation.judge import Report, report_json
from appliance.specialists.evaluation.report_html import shown_difference, shown_figure

# The figure that a task is about.
MAIN_FIGURES = ("character_f1", "span_f1", "accuracy", "macro_f1", "f1")
PREFERRED = {"phi-deid": "character_f1", "biomed-ner": "span_f1", "contract-clause": "macro_f1"}
OPERATOR = local_operator(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generalist")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--gold", type=Path, required=True, help="folder with <specialist>.jsonl")
    parser.add_argument("--model", required=True, help="an installed decoder, as the API knows it")
    parser.add_argument("--api-key-file", type=Path, required=True)
    parser.add_argument("--items", type=int, default=100, help="of each file, the first so many lines")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        reports = asyncio.run(run(options))
    except ApplianceError as error:
        print(f"appliance: error: {error}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return 1
    print(table(reports, options.model))
    if options.json is not None:
        options.json.write_text(json.dumps([report_json(report) for report in reports], indent=2) + "\n")
    return 0


async def run(options: argparse.Namespace) -> list[Report]:
    """Against the server of the data folder."""
    config = load_config(options.home)
    server = read_server_file(config.home)
    if server is None:
        raise ServerUnavailable("no server runs on this data folder", hint="start one: appliance serve")
    place = GeneralistAt(server.url, options.model, options.api_key_file.read_text().strip())
    async with open_appliance(config, via="cli", specialists=()) as appliance, Generalist(place) as generalist:
        return await compare(appliance, generalist, options.gold, options.items)


async def compare(appliance: Appliance, generalist: Asks, gold: Path, items: int) -> list[Report]:
    """One report for each installed specialist that has labelled lines."""
    reports = []
    for entry in appliance.registry.list():
        path = gold / f"{entry.ref.id}.jsonl"
        if not path.exists():
            print(f"{entry.ref.id} is left out: {path} does not exist", file=sys.stderr)
            continue
        data = b"".join(path.read_bytes().splitlines(keepends=True)[:items])
        released = await evaluate(appliance, OPERATOR, EvaluationRequest(entry.ref.id, data, against=generalist))
        reports.append(released.value)
    return reports


def table(reports: Sequence[Report], model: str) -> str:
    """Markdown, one row for each specialist."""
    lines = [
        f"| Specialist | Figure | Specialist | {model} | Difference | s per 1,000 | {model} | Ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        mine, theirs = report.judgements
        name = main_figure(report)
        ratio = theirs.latency.seconds_per_1000 / max(mine.latency.seconds_per_1000, 1e-9)
        cells = (
            report.specialist,
            f"{name} of {report.items}",
            shown_figure(mine.figures[name]),
            shown_figure(theirs.figures[name]),
            shown_difference(report.differences[name]),
            f"{mine.latency.seconds_per_1000:g}",
            f"{theirs.latency.seconds_per_1000:g}",
            f"{ratio:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main_figure(report: Report) -> str:
    """Which figure stands for the whole."""
    figures = report.judgements[0].figures
    preferred = PREFERRED.get(report.specialist)
    return preferred if preferred in figures else next(name for name in MAIN_FIGURES if name in figures)


if __name__ == "__main__":
    sys.exit(main())
