"""The table of `README.md` names tests for every attack and fault of the list, and every test it names is there.

A test in the column of long ones is marked so, at least for some of its parameters; one in the other runs always.
"""

import ast
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
ROW = re.compile(r"^\| (T\d+) \| (.+?) \| (.*?) ?\| (.*?) ?\|$", re.MULTILINE)
ROWS = {row[0]: row[1:] for row in ROW.findall((FOLDER / "README.md").read_text())}


def found_in(path):
    """Every test of a file: whether it runs always, and whether (with some parameters) only with the long ones."""
    tree = ast.parse(path.read_text())
    marked = [
        node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    everywhere = any("mark.long" in ast.unparse(node) for node in marked)
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
            continue
        marks = [ast.unparse(mark) for mark in node.decorator_list]
        whole = everywhere or "pytest.mark.long" in marks
        found[node.name] = (not whole, whole or any("mark.long" in mark for mark in marks))
    return found


def named(cell):
    return [name.strip() for name in cell.split(",") if name.strip()]


def test_every_attack_and_fault_has_a_row():
    assert list(ROWS) == [f"T{number}" for number in range(1, 33)]
    assert all(named(always) for _, always, _ in ROWS.values())


@pytest.mark.parametrize("number", ROWS)
def test_every_test_that_is_named_exists_and_runs_where_it_says(number):
    _, always, long = ROWS[number]
    for cell, column in ((always, 0), (long, 1)):
        for name in named(cell):
            file, _, test = name.partition("::")
            tests = found_in((FOLDER / file).resolve())
            assert test in tests, name
            assert tests[test][column], f"{name} does not run in the column where it is named"


def test_every_long_test_of_the_log_is_named():
    listed = {name for _, _, long in ROWS.values() for name in named(long)}
    beside = {
        "test_log_behaves_like_its_model_for_a_thousand_runs",
        "test_every_mutant_of_the_verifier_that_drops_a_finding_is_noticed",
    }
    for path in sorted(FOLDER.glob("test_*.py")):
        for test, (_, long) in found_in(path).items():
            assert not long or f"{path.name}::{test}" in listed or test in beside, f"{path.name}::{test} is in no row"
