"""One table names every event: what the code records, what the log says of itself, and what the documentation shows.

Walks the syntax trees of the packages, so that an event in a branch that no test enters counts too.
"""

import ast
from pathlib import Path

import pytest

from appliance.errors import UnknownOption
from appliance.service.event_names import CHANGES, EVENTS, as_table, check_class, check_event, class_name

ROOT = Path(__file__).parents[2]
README = ROOT / "appliance" / "audit" / "README.md"
MODULES = sorted((ROOT / "appliance").rglob("*.py"))


def calls(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, node


def literals_of(path: Path) -> set[str]:
    """Every constant text in the arguments that name an event."""
    places = {"new_event": 0, "record_reading": 2, "announced": 2, "record_refusal": 2}
    found = set()
    for name, node in calls(path):
        place = places.get(name)
        if place is not None and len(node.args) > place and isinstance(node.args[place], ast.Constant):
            found.add(node.args[place].value)
        if name == "new_event":
            assert not isinstance(node.args[0], ast.JoinedStr), f"{path}:{node.lineno}: an event's name is not composed"
    return found


def test_every_event_that_the_code_names_is_in_the_table():
    named = {text: path.name for path in MODULES for text in literals_of(path)}
    assert len(named) > 10
    assert {text: path for text, path in named.items() if text not in EVENTS} == {}


def test_every_sealed_event_of_the_table_is_recorded_somewhere():
    sources = "".join(path.read_text() for path in MODULES if path.name != "event_names.py")
    constants = {"answer.window": "WINDOW", "request.denied": "DENIED", "appliance.started": "STARTED"}
    constants |= {
        "change.voided": "VOIDED",
        "hold.release_requested": "RELEASE_REQUESTED",
        "guard.decided": "GUARD_DECIDED",
    }
    for event in EVENTS.values():
        if event.record_class != "public":
            assert f'"{event.name}"' in sources or constants.get(event.name, "\0") in sources, event.name


def test_what_the_log_says_of_itself_is_in_the_table():
    bodies = {
        node.args[0].value
        for name, node in calls(ROOT / "appliance" / "audit" / "control.py")
        if name == "_body" and isinstance(node.args[0], ast.Constant)
    }
    assert bodies == {event.name for event in EVENTS.values() if event.record_class == "public"}


def test_changes_that_can_be_voided_are_events():
    assert set(EVENTS) >= CHANGES


def test_table_of_the_documentation_is_this_one():
    text = README.read_text()
    assert text.count("<!-- events -->") == text.count("<!-- /events -->") == 1
    shown = text.partition("<!-- events -->")[2].partition("<!-- /events -->")[0]
    assert shown.strip() == as_table().strip(), "paste what `python -m appliance.service.event_names` prints"


def test_unknown_event_is_refused_with_the_known_ones():
    assert check_event("audit.list") == "audit.list"
    with pytest.raises(UnknownOption) as near:
        check_event("audit.lst")
    assert "audit.list" in near.value.hint
    with pytest.raises(UnknownOption) as far:
        check_event("ZZZZ")
    assert all(name in far.value.hint for name in EVENTS)


def test_unknown_class_is_refused_with_the_known_ones():
    assert (check_class("exchange"), class_name(1), class_name(9)) == (1, "exchange", "9")
    with pytest.raises(UnknownOption) as refused:
        check_class("everything")
    assert "exchange" in refused.value.hint and "administration" in refused.value.hint
