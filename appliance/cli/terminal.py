"""How the command speaks: results to stdout, everything else to stderr, lower case, no full stop.

appliance: error: the text is empty
hint: send at least one character that is not a space
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from appliance.accounts.actions import local_operator
from appliance.cli.exit_codes import exit_code_of
from appliance.cli.passphrase import asking
from appliance.config import Config, load_config
from appliance.errors import ApplianceError
from appliance.types import Principal

T = TypeVar("T")
_PIPE_COLUMNS = 400

HomeOption = Annotated[
    str | None,
    typer.Option("--home", help="Data folder (default: APPLIANCE_HOME, or the user's data folder).", metavar="FOLDER"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]

# In a pipe there is no width to fit: cells are never folded there.
stdout = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def operator() -> Principal:
    """Who runs this command: recorded by user number, with every role (see `accounts/actions.py`)."""
    return local_operator(os.getuid())


def configured(home: str | None) -> Config:
    """The configuration of the named data folder, and how to ask for a passphrase should it need one.

    One that is not valid becomes a message and an exit status.
    """
    with reported():
        return dataclasses.replace(load_config(home), ask=asking())


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run one asynchronous use case to its end; an error becomes a message and an exit status."""
    with reported():
        return asyncio.run(_awaited(work))


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


@contextmanager
def reported() -> Iterator[None]:
    """Turn an `ApplianceError` into its message on stderr and its exit status."""
    try:
        yield
    except ApplianceError as error:
        fail(error)
    except KeyboardInterrupt:
        stderr.print("appliance: interrupted")
        raise typer.Exit(130) from None


def fail(error: ApplianceError) -> NoReturn:
    """Say what happened and what to do, and exit."""
    report(error)
    raise typer.Exit(exit_code_of(error))


def report(error: ApplianceError) -> None:
    """Say what happened and what to do."""
    # Rich would read square brackets in a path as markup; these are plain lines.
    sys.stderr.write(f"appliance: error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")


def say(message: str) -> None:
    """A line of progress for a person, on stderr."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


@contextmanager
def working(indent: str = "") -> Iterator[Callable[[str], None]]:
    """Progress of long work: a line for each step and, on a terminal, a clock beside the one that is running."""
    columns = (TextColumn(f"{indent}  {{task.description}}"), SpinnerColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not sys.stderr.isatty()) as clock:

        def step(line: str) -> None:
            for task in clock.task_ids:
                clock.remove_task(task)
            say(f"{indent}{line}")
            clock.add_task("working")

        yield step


def print_json(value: Any) -> None:
    """One JSON document on stdout. Control and bidirectional characters of data are escaped."""
    sys.stdout.write(json.dumps(value, ensure_ascii=True, indent=2, default=str) + "\n")


def print_text(text: str) -> None:
    """Text exactly as it is, to stdout."""
    sys.stdout.write(text)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A plain table on stdout; cells come from data, so nothing in them is markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(printable(str(cell)) for cell in row))
    stdout.print(table, markup=False)


def printable(text: str) -> str:
    """`text` without characters that move the cursor or reorder the line."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def progress_bar() -> Progress:
    """A bar on stderr with count and time; in a pipe it stays silent but for its last state."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=stderr,
    )
