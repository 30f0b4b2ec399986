"""What a witness answers becomes the right verdict, whatever it sends; only a verified cosignature is believed.

The witness is the real application, called in this process; hostile ones are small applications written here.
"""

import asyncio

import httpx
import pytest
from audit_home import WAIT_S
from witness_log import SmallLog
from witness_service import NAME, running_witness

from appliance.audit.witness_client import (
    ANSWER_BYTES_MAX,
    Behind,
    Cosigned,
    Forked,
    Refused,
    Unreachable,
    WitnessClient,
    check_witness,
    sink_of,
)
from appliance.config import WitnessConfig
from appliance.crypto.cosignature import cosign, verifier_key
from appliance.crypto.note import split_note
from appliance.crypto.note import verifier_key as log_key
from appliance.crypto.signing import public_key
from appliance.errors import ConfigInvalid

SEED = bytes([9] * 32)
KEY = verifier_key(NAME, public_key(SEED))


class View:
    """A log as the client sees it, at some size."""

    def __init__(self, log, size=None):
        self.log, self.size = log, size

    def checkpoint(self):
        return self.log.note(self.size)

    def consistency(self, old, size):
        return self.log.proof(old, size)


@pytest.fixture
def log():
    return SmallLog().grow(40)


@pytest.fixture
def witness(tmp_path, log):
    with running_witness(tmp_path / "witness", log.key) as running:
        yield running


def submit(client, view, known=0):
    return asyncio.run(client().submit(view, known))


def test_the_first_checkpoint_and_each_longer_one_is_cosigned(witness, log):
    for size in (1, 7, 8, 8, 33, 40):
        verdict = submit(witness.client, View(log, size), 0)
        assert isinstance(verdict, Cosigned)
        assert (verdict.size, verdict.note.startswith(log.note(size))) == (size, True)
        assert len(split_note(verdict.note)[1]) == 2
    assert isinstance(submit(witness.client, View(log, 40), known=40), Cosigned)


def test_a_log_that_was_cut_is_told_how_long_it_was(witness, log):
    submit(witness.client, View(log, 40))
    for known in (0, 10, 30, 40):
        verdict = submit(witness.client, View(log, 30), known)
        assert isinstance(verdict, Forked)
        assert "40 records of this log, here are 30" in verdict.why
        assert verdict.note == log.note(30)


@pytest.mark.parametrize("size", [20, 21, 40])
@pytest.mark.parametrize("known", [0, 15, 20])
def test_another_history_is_a_fork_at_the_same_size_and_at_any_larger(witness, log, size, known):
    submit(witness.client, View(log, 20))
    fork = log.fork(15).grow(30, "other")
    assert isinstance(submit(witness.client, View(fork, size), known), Forked)


def test_a_submission_that_overtakes_another_is_no_fork(witness, log):
    """Between reading our checkpoint and the answer a newer one of ours was cosigned: read again, then believe."""

    class Growing(View):
        reads = 0

        def checkpoint(self):
            self.reads += 1
            return self.log.note(20 if self.reads == 1 else 40)

    submit(witness.client, View(log, 30))
    assert isinstance(submit(witness.client, Growing(log), 0), Cosigned)


def answering(*answers):
    """A client of an application that gives these answers, one for each request."""
    left = list(answers)

    async def application(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        status, content_type, body = left.pop(0)
        headers = [(b"content-type", content_type.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    settings = WitnessConfig(url="http://localhost:1", verifier_key=KEY, timeout_s=WAIT_S)
    return lambda: WitnessClient(settings, transport=httpx.ASGITransport(application))


SIZE = "text/x.tlog.size"


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([(409, SIZE, b"50\n")], Forked),
        ([(409, SIZE, b"7\n"), (409, SIZE, b"9\n")], Behind),
        ([(409, "text/plain", b"other root\n")], Refused),
        ([(409, SIZE, b"050\n")], Refused),
        ([(409, SIZE, b"50")], Refused),
        ([(409, f"{SIZE}; charset=utf-8", b"50\n")], Refused),
        ([(409, SIZE, b"9" * 30 + b"\n")], Refused),
        ([(409, SIZE, b"40\n"), (409, "text/plain", b"roots differ\n")], Forked),  # as the specification was earlier
        ([(409, SIZE, b"40\n"), (409, SIZE, b"40\n")], Forked),
        ([(422, "text/plain", b"")], Forked),
        ([(404, "text/plain", b"who\x1b[31m are you\n")], Refused),
        ([(500, "text/plain", b"")], Refused),
        ([(302, "text/plain", b"")], Refused),
        ([(200, "text/plain", b"")], Refused),
        ([(200, "text/plain", b"\xff")], Refused),
        ([(200, "text/plain", "— w.example/2 AAAAAAAA\n".encode())], Refused),
        ([(200, "text/plain", b"x" * (ANSWER_BYTES_MAX + 1))], Unreachable),
    ],
)
def test_answers_are_what_they_are(log, answers, kind):
    verdict = submit(answering(*answers), View(log, 40))
    assert isinstance(verdict, kind), verdict
    if isinstance(verdict, Refused):
        assert verdict.reason.isprintable()
        assert len(verdict.reason) < 300


def test_lines_of_others_do_not_enter_our_checkpoint(log):
    text = split_note(log.note(40))[0]
    ours = cosign(text, NAME, SEED, 5)
    verdict = submit(answering((200, "text/plain", (cosign(text, "x.example/2", SEED, 1) + ours).encode())), View(log))
    assert verdict == Cosigned(log.note(40) + ours, 40, 5)
    wrong = cosign(split_note(log.note(39))[0], NAME, SEED, 5)
    assert isinstance(submit(answering((200, "text/plain", wrong.encode())), View(log)), Refused)


def test_a_witness_that_forgot_is_not_trusted_with_a_new_beginning(log):
    verdict = submit(answering((409, SIZE, b"0\n")), View(log, 40), known=30)
    assert isinstance(verdict, Refused)
    assert "forgot: it cosigned 30 records and now remembers 0" in verdict.reason


def test_nobody_there_and_nobody_answering_are_bounded(log):
    settings = WitnessConfig(url="http://127.0.0.1:9", verifier_key=KEY, timeout_s=0.2)
    assert isinstance(submit(lambda: WitnessClient(settings), View(log)), Unreachable)

    async def silent(scope, receive, send):
        await asyncio.Event().wait()

    client = WitnessClient(settings, transport=httpx.ASGITransport(silent))
    assert submit(lambda: client, View(log)) == Unreachable("no answer within 0.2 s")


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "http://witness.example:8444", "verifier_key": KEY},
        {"url": "https://witness.example", "verifier_key": ""},
        {"url": "", "verifier_key": "x"},
        {"url": "witness.example", "verifier_key": KEY},
        {"url": "https://user@witness.example", "verifier_key": KEY},
        {"url": "https://witness.example", "verifier_key": log_key(NAME, public_key(SEED))},
    ],
)
def test_settings_under_which_nothing_could_be_believed_are_refused(settings):
    with pytest.raises(ConfigInvalid):
        check_witness(WitnessConfig(**settings))


def test_settings_that_are_well_are_taken(tmp_path):
    check_witness(WitnessConfig())
    check_witness(WitnessConfig(url="https://witness.example:8444/w", verifier_key=KEY))
    check_witness(WitnessConfig(url="http://127.0.0.1:8444", verifier_key=KEY))
    assert sink_of(KEY) == f"witness:{NAME}"
    assert len(sink_of(verifier_key("w" * 200, public_key(SEED)))) <= 64
    missing = WitnessConfig(url="https://w.example", verifier_key=KEY, ca_certificate=tmp_path / "none.pem")
    with pytest.raises(ConfigInvalid, match=r"none\.pem"):
        WitnessClient(missing)
