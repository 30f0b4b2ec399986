"""The witness answers as C2SP tlog-witness says, status by status and byte by byte, and has no other route."""

import asyncio

import httpx
import pytest
from witness_log import SmallLog

from appliance.api.witness import create_witness_app
from appliance.audit.witness import SUBMISSION_BYTES_MAX, Witness, format_submission
from appliance.audit.witness_folder import add_log, create_witness, open_witness
from appliance.crypto.cosignature import parse_verifier_key, verify_cosignature

LOG = SmallLog().grow(40)


@pytest.fixture
def witness(tmp_path):
    folder = tmp_path / "witness"
    create_witness(folder, "witness.example/w1")
    add_log(folder, LOG.key)
    with open_witness(folder) as kept:
        yield Witness(kept)


@pytest.fixture
def send(witness):
    """Requests to the application, each as a client of its own would send it."""
    application = create_witness_app(witness)

    def send(method, path, body=b""):
        async def request():
            transport = httpx.ASGITransport(application, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://witness") as client:
                return await client.request(method, path, content=body)

        return asyncio.run(request())

    return send


def add(send, log, old, size, proof=None):
    body = format_submission(old, log.proof(old, size) if proof is None else proof, log.note(size))
    return send("POST", "/add-checkpoint", body)


def test_a_cosignature_is_the_body(send, witness):
    answer = add(send, LOG, 0, 20)
    name, public = parse_verifier_key(witness.verifier_key)
    assert (answer.status_code, answer.text[:2], answer.text[-1]) == (200, "— ", "\n")
    assert verify_cosignature(LOG.note(20) + answer.text, name, public).line == answer.text
    assert add(send, LOG, 20, 40).status_code == 200


def test_a_conflict_says_the_size_and_nothing_else(send):
    assert add(send, LOG, 5, 20).content == b"0\n"
    add(send, LOG, 0, 20)
    answer = add(send, LOG, 0, 30)
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (409, "text/x.tlog.size", b"20\n")


def test_refusals_have_the_statuses_of_the_specification(send):
    add(send, LOG, 0, 20)
    fork = LOG.fork(10).grow(20, "other")
    assert add(send, SmallLog(origin="other.example/log").grow(2), 0, 2).status_code == 404
    assert add(send, SmallLog(seed=bytes(32)).grow(30), 20, 30).status_code == 403
    assert add(send, LOG, 30, 20, proof=[]).status_code == 400
    assert send("POST", "/add-checkpoint", b"old 1\n").status_code == 400
    assert add(send, fork, 20, 30).status_code == 422
    assert add(send, fork, 20, 20, proof=[]).status_code == 422
    assert add(send, LOG, 20, 30, proof=LOG.proof(19, 30)).status_code == 422


def test_bodies_are_bounded_and_nothing_else_is_served(send):
    assert send("POST", "/add-checkpoint", b"x" * (SUBMISSION_BYTES_MAX + 1)).status_code == 413
    assert send("GET", "/add-checkpoint").status_code == 405
    for path in ("/docs", "/openapi.json", "/metrics", "/state.json", "/add-checkpoint/"):
        assert send("GET", path).status_code in (404, 405, 307)


def test_it_says_who_it_is(send, witness):
    said = send("GET", "/").json()
    assert (said["name"], said["verifier_key"]) == ("witness.example/w1", witness.verifier_key)


def test_a_full_disk_cosigns_nothing(send, monkeypatch):
    monkeypatch.setattr("appliance.audit.witness_folder.DISK_FREE_BYTES_MIN", 1 << 62)
    answer = add(send, LOG, 0, 20)
    assert answer.status_code >= 500
    assert "nothing was cosigned" in answer.text
