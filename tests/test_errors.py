"""Every error raised on purpose has a place in the drawn tree, a stable code, an HTTP status and an exit status."""

import inspect
import re

import httpx
import openai
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


CLIENT = openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9")
KINDS = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    413: openai.APIStatusError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("retry_after_s", [None, 3.0])
def test_error_is_the_exception_of_openai_s_client_and_is_retried_only_where_that_helps(kind, retry_after_s):
    made = error_response(kind("what happened", hint="what to do", retry_after_s=retry_after_s))
    request = httpx.Request("POST", "http://127.0.0.1:9/v1/chat/completions")
    response = httpx.Response(made.status_code, headers=dict(made.headers), content=made.body, request=request)
    error = CLIENT._make_status_error_from_response(response)
    fallback = openai.InternalServerError if made.status_code >= 500 else openai.APIStatusError
    assert type(error) is KINDS.get(made.status_code, fallback)
    assert (error.code, error.body["message"], error.body["hint"]) == (kind.code, "what happened", "what to do")
    wait_s = float(response.headers.get("Retry-After", "nan"))
    again = made.status_code in (409, 429) or made.status_code >= 500
    assert CLIENT._should_retry(response) is (again and wait_s <= 60)  # the longest that the client waits
    assert retry_after_s is None or wait_s == retry_after_s
