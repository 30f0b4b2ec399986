"""Signed bytes are never rewritten: no revision but the one that creates them may touch the frozen tables.

The scripts are read as syntax trees. A frozen table may be named in the `op.create_table` that makes it and in foreign
keys that point at it; every other operation on one, and every `batch_alter_table`, which copies a table, is refused.
The command line is run from the checkout, as a developer would.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import migrations
from appliance.config import Home
from appliance.storage.revisions import DATABASES
from appliance.storage.tables import FROZEN_TABLES

CHECKOUT = Path(__file__).parents[2]
VERSIONS = sorted((migrations.SCRIPTS / "versions").glob("[0-9]*.py"))
CREATING = "0001_first_light"


def offences(source, *, creating):
    """Operations of a revision that would rewrite a frozen table."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "op"):
            continue
        named = {leaf.value for argument in node.args for leaf in ast.walk(argument) if isinstance(leaf, ast.Constant)}
        words = {word for value in named if isinstance(value, str) for word in value.replace(".", " ").split()}
        if node.func.attr == "f" or (creating and node.func.attr == "create_table"):
            continue
        if words & set(FROZEN_TABLES):
            found.append(f"line {node.lineno}: op.{node.func.attr}")
    return found


@pytest.mark.parametrize("script", VERSIONS, ids=lambda path: path.stem)
def test_no_revision_rewrites_a_frozen_table(script):
    assert offences(script.read_text(), creating=script.stem == CREATING) == []


ADDING = {"create_table", "create_index", "f", "add_column"}


def takings(source):
    """What a revision does besides adding; and columns that a release which does not know them could not leave out."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "op":
            if node.func.attr not in ADDING:
                found.append(f"line {node.lineno}: op.{node.func.attr}")
            if node.func.attr == "add_column" and not _may_be_left_out(node):
                found.append(f"line {node.lineno}: a column that must be given")
    return found


def _may_be_left_out(add_column):
    column = next(each for each in add_column.args if isinstance(each, ast.Call))
    said = {keyword.arg: keyword.value for keyword in column.keywords}
    needed = isinstance(said.get("nullable"), ast.Constant) and said["nullable"].value is False
    return not needed or "server_default" in said


@pytest.mark.parametrize("script", VERSIONS, ids=lambda path: path.stem)
def test_a_revision_that_an_earlier_release_can_live_with_only_adds(script):
    source = script.read_text()
    names_itself = "\noldest = revision\n" in source
    assert names_itself or takings(source) == []


@pytest.mark.parametrize(
    "line",
    ["op.drop_column('account', 'name')", "op.add_column('account', sa.Column('x', sa.Text(), nullable=False))"],
)
def test_taking_away_is_noticed(line):
    assert takings(line)


@pytest.mark.parametrize(
    "line",
    [
        "op.batch_alter_table('record')",
        "op.alter_column('tile', 'hashes', nullable=True)",
        "op.add_column('checkpoint', column)",
        "op.drop_table('record')",
        "op.execute('UPDATE record SET header = NULL')",
        "op.execute(sa.text('DELETE FROM tile'))",
        "op.create_table('record')",
    ],
)
def test_the_check_bites(line):
    assert offences(line, creating=False)


def test_a_foreign_key_to_another_table_is_no_offence():
    assert offences("op.add_column('public_body', sa.Column('note', sa.Text()))", creating=False) == []


def alembic(*arguments, home):
    return subprocess.run(
        [sys.executable, "-m", "alembic", "-x", f"home={home}", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_upgrades_a_folder_from_a_checkout(tmp_path):
    done = alembic("upgrade", "head", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert all(database.path(Home(tmp_path / "home")).is_file() for database in DATABASES)


def test_a_downgrade_is_refused_with_the_reason(tmp_path):
    migrations.upgrade(tmp_path / "home")
    done = alembic("downgrade", "base", home=tmp_path / "home")
    assert done.returncode != 0
    assert "restore a backup" in done.stderr + done.stdout


def test_looking_at_a_folder_that_is_not_there_creates_nothing(tmp_path):
    done = alembic("current", home=tmp_path / "nowhere")
    assert done.returncode != 0
    assert not (tmp_path / "nowhere").exists()
