"""The `appliance` command. Each group of commands is a file beside this one; none contains a rule the API lacks.

`commands.py` lists them all; what a command needs is imported when it is called.

appliance --help
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from appliance import __version__
from appliance.cli.commands import COMMANDS
from appliance.cli.lazy import lazily
from appliance.cli.passphrase import use_descriptor


class _Commands(TyperGroup):
    """The group above all others; Typer makes it, with the options of `options` below."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes | {"commands": lazily(COMMANDS)})


app = typer.Typer(
    name="appliance",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a pretty traceback prints local variables: texts and keys
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    passphrase_fd: Annotated[
        int | None,
        typer.Option("--passphrase-fd", help="Read the passphrase of the keystore from this descriptor.", min=0),
    ] = None,
) -> None:
    """Cloister: specialist models, de-identification and a verifiable audit log, on your own machine.

    Example: appliance init && appliance deidentify note.txt
    """
    use_descriptor(passphrase_fd)


def main() -> None:
    """Entry point of the installed command."""
    app()
