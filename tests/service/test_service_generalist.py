"""What a refusal by the generalist's server says: its code where it is one, and nothing that may quote the question."""

import httpx
import pytest

from appliance.errors import InvalidRequest, ServerUnavailable
from appliance.service.generalist import _refused

CODES = [
    ('{"error": {"code": "model_not_found"}}', "model_not_found"),
    ('{"error": {"code": "Mr. Okafor was seen"}}', "no code"),
    ('{"error": {"code": "' + "a" * 65 + '"}}', "no code"),
    ('{"error": {"code": null}}', "no code"),
    ('{"error": "Mr. Okafor"}', "no code"),
    ("[]", "no code"),
    ("Mr. Okafor", "no code"),
]


@pytest.mark.parametrize(("body", "said"), CODES)
def test_a_refusal_names_the_code_and_never_a_text(body, said):
    refused = _refused(httpx.Response(404, text=body))
    assert isinstance(refused, InvalidRequest)
    assert refused.message == f"the generalist refused: HTTP 404, {said}"


def test_a_server_in_trouble_is_told_apart_from_a_wrong_question():
    assert isinstance(_refused(httpx.Response(503, text="{}")), ServerUnavailable)
