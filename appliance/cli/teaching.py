"""`appliance specialists teach` and `train`: a specialist from a table of one's own, or from a recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from appliance.api.schemas_specialists import version_body
from appliance.cli.specialist_life import read_upload
from appliance.cli.terminal import (
    HomeOption,
    JsonOption,
    configured,
    operator,
    print_json,
    print_table,
    printable,
    reported,
    run,
    say,
    stderr,
)
from appliance.config import Config
from appliance.errors import InvalidRequest, TableRefused
from appliance.service import recipes, training
from appliance.service.recipes import RecipeRun
from appliance.service.rooms import open_log
from appliance.service.specialist_life import admit_taught
from appliance.service.specialists import open_registry
from appliance.service.training import TeachRequest

_LABELS_SHOWN = 12
_NO_ONE = "the columns were not confirmed"


def teach(
    specialist: Annotated[str, typer.Argument(help="Id of the specialist, new or known: small letters and dashes.")],
    table: Annotated[Path, typer.Argument(help="A CSV file with a column of texts and one of labels.")],
    text_column: Annotated[str, typer.Option(help="The column of texts (default: detected).")] = "",
    label_column: Annotated[str, typer.Option(help="The column of labels (default: detected).")] = "",
    name: Annotated[str, typer.Option(help="What people see (default: the id).")] = "",
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="A cell may hold several labels, with ; between.")
    ] = False,
    lora: Annotated[
        bool, typer.Option("--lora", help="Train adapters too: minutes, often better; needs the extra `training`.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Take the detected columns without asking.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Teach a specialist from rows that you labelled, in minutes and without a GPU; somebody else then approves it.

    Example: appliance specialists teach complaint-router tickets.csv --yes
    """
    config = configured(home)
    wanted = TeachRequest("", specialist, name, text_column or None, label_column or None, multi_label, lora)
    with reported():
        content = read_upload(table, config.teaching.table_bytes_max)

    async def look() -> dict[str, Any]:
        async with open_log(config) as log:
            return await training.examine(config, log, operator(), content, wanted)

    checked = run(look)
    _show_table(checked)
    with reported():
        _confirm(checked, wanted, yes)
    chosen = TeachRequest("", specialist, name, checked["text_column"], checked["label_column"], multi_label, lora)
    report, card = run(lambda: _teach(config, content, chosen))
    if as_json:
        print_json({"report": report, "version": version_body(card).model_dump(mode="json")})
        return
    _show_report(report)
    say(f"installed {card['id']} {card['version']}; it awaits approval by somebody else:")
    say(f"  appliance specialists approve {card['id']} {card['version']} --user NAME")


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, as in appliance/training/recipes.")],
    data: Annotated[Path, typer.Option(help="Folder with the collections that the recipe names.")],
    base: Annotated[Path, typer.Option(help="Folder with model.safetensors and vocab.txt of the base.")],
    out: Annotated[Path, typer.Option(help="Working folder; the same command continues what it holds.")],
    device: Annotated[
        Literal["cpu", "cuda"], typer.Option(help="Where to compute; cuda is a GPU of NVIDIA's.")
    ] = "cpu",
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that make texts, for recipes that make some.")
    ] = 1,
    minutes: Annotated[
        float, typer.Option(min=0.01, max=100_000, help="End by then, whatever the recipe says.")
    ] = 120.0,
    home: HomeOption = None,
) -> None:
    """Train a specialist from a recipe, with progress. Needs the extra `training`; installing is another step.

    \b
    Example: appliance specialists train appliance/training/recipes/bank-intent.toml --data DATA --base BASE --out OUT
    """
    config = configured(home)
    wanted = RecipeRun(recipe, data, base, out, device, workers, minutes)

    async def work() -> Path:
        async with open_log(config) as log:
            return await recipes.train_recipe(log, operator(), wanted, say)

    file = run(work)
    say(f"wrote {file}; sign and install it: appliance specialists install {file}")


async def _teach(config: Config, content: bytes, wanted: TeachRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=stderr
    )
    async with open_log(config) as log:
        with open_registry(config) as registry, bar:
            task = bar.add_task("teaching", total=1.0)
            report, file = await training.teach_recorded(
                config,
                log,
                operator(),
                content,
                wanted,
                training.next_version(registry, wanted.id),
                lambda done, step: bar.update(task, completed=done, description=step),
                {},
            )
            return report, await admit_taught(registry, log, operator(), file, {"table_sha256": report["table_sha256"]})


def _show_table(checked: dict[str, Any]) -> None:
    rows, texts, encoding = checked["rows"], checked["texts"], checked["encoding"]
    say(f"{rows} rows, {texts} different texts, {encoding}")
    say(f"texts: column {checked['text_column']!r}; labels: column {checked['label_column']!r}")
    shown = ", ".join(f"{printable(one['label'])} {one['rows']}" for one in checked["labels"][:_LABELS_SHOWN])
    left = len(checked["labels"]) - _LABELS_SHOWN
    say(f"labels: {shown}" + (f" and {left} more" if left > 0 else ""))
    for problem in checked["problems"]:
        where = f" (lines {', '.join(str(line) for line in problem['lines'])} …)" if problem["lines"] else ""
        say(f"{problem['severity']}: {problem['message']}{where}")


def _confirm(checked: dict[str, Any], wanted: TeachRequest, yes: bool) -> None:
    """A person confirms what was detected; named columns are confirmed already. Refusals come first."""
    refusal = next((one for one in checked["problems"] if one["severity"] == "refusal"), None)
    if refusal is not None:
        raise TableRefused(refusal["message"], hint="correct the table, or name its columns")
    if yes or (wanted.text_column and wanted.label_column):
        return
    if not sys.stdin.isatty():
        raise InvalidRequest(_NO_ONE, hint="give --text-column and --label-column, or --yes for the detected ones")
    if not typer.confirm("learn from these columns?", err=True):
        raise InvalidRequest(_NO_ONE, hint="name them: --text-column and --label-column")


def _show_report(report: dict[str, Any]) -> None:
    print_table(
        ("measured on held-out texts", "", "95 %"),
        [
            (name.replace("_", " "), f"{one['value']:.3f}", f"{one['low']:.3f} to {one['high']:.3f}")
            for name, one in report["metrics"].items()
        ],
    )
    print_table(
        ("label", "texts", "recall", "precision", "f1"),
        [
            (
                one["label"],
                one["items"],
                f"{one['recall']['value']:.3f}",
                f"{one['precision']['value']:.3f}",
                f"{one['f1']:.3f}",
            )
            for one in report["per_label"]
        ],
    )
    for problem in report["problems"]:
        say(f"{problem['severity']}: {problem['message']}")
