"""Commands that are imported when they are called: most commands need a few of the libraries that all of them need.

    Group("Accounts of people.", {"list": Command("users:list_users", "List the accounts.")})

Every name and its line of help are known without importing what is behind it, so that `appliance --help` is quick, and
`appliance users list` does not wait for the libraries of `appliance serve`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class Command:
    """The function that is a command, `module:function` below `appliance.cli`, and its line in the list of commands.

    The line, but for its full stop, MUST be how the function's docstring begins: the help of the command itself.
    """

    function: str
    line: str


@dataclass(frozen=True)
class Group:
    """Commands, and groups of them, under one name."""

    line: str
    commands: Mapping[str, Command | Group]


class LazyCommand(TyperCommand):
    """A command in a list of commands; what it takes and does is what `command` does, imported when asked for."""

    def __init__(self, name: str, about: Command) -> None:
        super().__init__(name, short_help=about.line, rich_markup_mode=None)
        self._function = about.function

    @cached_property
    def command(self) -> Any:
        """The command itself, as Typer makes it of the function's signature and docstring."""
        module, _, name = self._function.partition(":")
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        alone.command(self.name)(getattr(import_module(f"appliance.cli.{module}"), name))
        return typer.main.get_command(alone)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Where a call begins: the arguments are read, and the work is done, by the command itself."""
        return self.command.make_context(*arguments, **options)


class LazyGroup(TyperGroup):
    """A group without options of its own."""

    def __init__(self, name: str, about: Group) -> None:
        commands, line = lazily(about.commands), about.line
        super().__init__(
            name=name, help=line, short_help=line, commands=commands, no_args_is_help=True, rich_markup_mode=None
        )


def lazily(commands: Mapping[str, Command | Group]) -> dict[str, Any]:
    """What Typer's groups hold: the commands and groups of a table, by name."""
    return {
        name: LazyGroup(name, about) if isinstance(about, Group) else LazyCommand(name, about)
        for name, about in commands.items()
    }
