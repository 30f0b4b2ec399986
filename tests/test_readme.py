"""The README cannot drift: its commands exist, its links lead somewhere, its make targets are targets."""

import re
from pathlib import Path

import pytest
import typer

from appliance.cli.main import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("appliance/**/README.md"), *ROOT.glob("benchmarks/README.md")])


def commands(group, path=()):
    for name, command in group.commands.items():
        yield " ".join((*path, name))
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


KNOWN = set(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_that_a_document_names_exist(document):
    named = re.findall(r"(?:^|`|\| )appliance ([a-z-]+(?: [a-z-]+)?)", document.read_text(), re.M)
    unknown = [name for name in named if name not in KNOWN and name.split(" ")[0] not in KNOWN]
    assert unknown == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_document_lead_to_files(document):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert named
    assert named <= targets


def test_ci_runs_the_same_test_command():
    assert "exec make test\n" in (ROOT / ".ci" / "run").read_text()
