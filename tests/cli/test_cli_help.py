"""Every command explains itself with an example; every command that prints data can print JSON."""

import pytest
import typer
from typer.testing import CliRunner

from appliance.cli.main import app


def commands(group, path: tuple[str, ...] = ()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield pytest.param(command.command, (*path, name), id=" ".join((*path, name)))


ALL = list(commands(typer.main.get_command(app)))
PRINTS_DATA = {"list", "show", "verify", "checkpoint", "deidentify", "doctor", "create", "add"}


@pytest.mark.parametrize(("command", "path"), ALL)
def test_command_has_help_with_an_example_of_itself(command, path):
    assert f"Example: appliance {' '.join(path)}" in command.help
    assert all(option.help for option in command.params if option.param_type_name == "option")


@pytest.mark.parametrize(("command", "path"), ALL)
def test_each_example_is_printed_as_one_line_to_be_copied(command, path):
    examples = [line for line in command.help.splitlines() if line.startswith("Example: ")]
    shown = CliRunner().invoke(app, [*path, "--help"]).stdout.splitlines()
    assert [line for line in examples if f"  {line}" not in shown] == []


@pytest.mark.parametrize(("command", "path"), [each for each in ALL if each.values[1][-1] in PRINTS_DATA])
def test_command_that_prints_data_can_print_json(command, path):
    assert "--json" in [name for option in command.params for name in option.opts]


def test_no_command_takes_a_password_or_key_as_an_argument():
    names = [name for param in ALL for option in param.values[0].params for name in option.opts]
    assert not [name for name in names if "password" in name or "secret" in name]
