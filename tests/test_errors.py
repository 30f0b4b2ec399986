"""Every error raised on purpose has a place in the drawn tree, a stable code, an HTTP status and an exit status."""

import inspect
import re

import pytest

from appliance import errors
from appliance.api.error_responses import STATUS, error_response, status_of
from appliance.cli.exit_codes import exit_code_of

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.ApplianceError) and kind.__module__ == errors.__name__
]


def drawn_tree() -> dict[str, str]:
    """Class to parent, as the drawing at the top of `errors.py` has it."""
    parents, path = {}, {}
    for line in inspect.getdoc(errors).splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Z]\w+)", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        path[depth] = found[2]
        if depth:
            parents[found[2]] = path[depth - 1]
    return parents


def test_drawing_is_the_tree():
    actual = {kind.__name__: kind.__base__.__name__ for kind in CLASSES if kind is not errors.ApplianceError}
    assert drawn_tree() == actual


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_class_has_its_own_code_and_statuses(kind):
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
    assert [other for other in CLASSES if other.code == kind.code] == [kind]
    assert kind in STATUS, "add it to api/error_responses.py"
    assert 400 <= status_of(kind("message")) < 600
    assert 1 <= exit_code_of(kind("message")) <= 30


def test_response_has_the_one_shape_and_says_when_to_come_back():
    response = error_response(errors.QueueFull("the queue is full", hint="wait", retry_after_s=0.2))
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "1"
    assert response.body == (
        b'{"error":{"code":"queue_full","message":"the queue is full","type":"rate_limit_error","hint":"wait"}}'
    )
