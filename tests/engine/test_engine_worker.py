"""The worker's loop, one step at a time in this process, over a real socket pair with the echo backend.

Guaranteed here: answers equal the formula whatever ran beside them, everything a backend could choke on is refused
before it gets there, and cancellation and unloading take effect between two batches.
"""

import hashlib
import socket

import numpy as np
import pytest

from appliance.engine import protocol
from appliance.engine.echo import EchoEncoder, echo_states
from appliance.engine.heads import apply_head
from appliance.engine.worker import Worker
from appliance.types import Head

BYTES_MAX = 1 << 24
START = protocol.Start("echo", "base", "", 1, 64, 40, 3, 1 << 30)
RNG = np.random.default_rng(2)
HEAD = Head(
    "token",
    2,
    RNG.standard_normal((3, 386, 4)).astype(np.float32),
    np.zeros(4, np.float32),
    RNG.standard_normal((4, 5)).astype(np.float32),
    np.ones(5, np.float32),
)
NO_HEAD = Head("none", 0, None, None, None, None)


class Bench:
    """The server's end of the socket, with a worker stepped by hand."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self._ours = ours
        self.worker = Worker(protocol.WorkerChannel(theirs, BYTES_MAX), EchoEncoder(), START)

    def send(self, *commands: protocol.Command) -> None:
        self._ours.sendall(b"".join(protocol.encode_frame(command, BYTES_MAX) for command in commands))

    def step(self, *commands: protocol.Command) -> list[protocol.Report]:
        self.send(*commands)
        self.worker.step()
        return self.reports()

    def answer(self, *commands: protocol.Command) -> list[protocol.Report]:
        """Steps until nothing runs or waits."""
        found = self.step(*commands)
        while self.worker.running or self.worker.lanes.busy:
            found += self.step()
        return found

    def reports(self) -> list[protocol.Report]:
        found = []
        self._ours.setblocking(False)
        try:
            while prefix := self._ours.recv(4):
                found.append(protocol.decode_report(self._ours.recv(protocol.frame_length(prefix, BYTES_MAX))))
        except BlockingIOError:
            return found
        finally:
            self._ours.setblocking(True)
        return found


@pytest.fixture
def bench(tmp_path):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bench = Bench(ours, theirs)
        file = tmp_path / "adapter.gguf"
        file.write_bytes(b"weights")
        sha256 = hashlib.sha256(b"weights").hexdigest()
        bench.load = lambda key, head=NO_HEAD: protocol.Load(key, str(file), sha256, protocol.pack_head(head))
        assert [type(report) for report in bench.step(bench.load("plain"), bench.load("tag", HEAD))] == [
            protocol.Loading,
            protocol.Loaded,
        ] * 2
        yield bench
        bench.worker.lanes.close()


def sequence(ids, features=None):
    packed = None if features is None else protocol.pack_array(features)
    return protocol.Sequence(np.asarray(ids, dtype="<i4").tobytes(), packed)


def test_an_answer_equals_the_formula_whatever_ran_beside_it(bench):
    ids = [RNG.integers(0, 30000, length).astype(np.int32) for length in (30, 64, 5)]
    features = [RNG.standard_normal((len(entry), 2)).astype(np.float32) for entry in ids]
    bench.send(
        protocol.Encode(1, "tag", [sequence(a, b) for a, b in zip(ids, features, strict=True)]),
        protocol.Encode(2, "plain", [sequence(ids[0])]),
        protocol.Encode(3, "tag", [sequence(ids[2], features[2])]),
    )
    answers = {report.request_id: report.outputs for report in bench.answer()}
    for n, entry in enumerate(ids):
        (expected,) = apply_head(HEAD, echo_states(entry, "tag"), [len(entry)], features[n])
        assert np.allclose(protocol.unpack_array(answers[1][n]), expected, atol=1e-4)
    assert np.allclose(protocol.unpack_array(answers[2][0]), echo_states(ids[0], "plain").mean(0), atol=1e-4)
    assert np.allclose(protocol.unpack_array(answers[3][0]), protocol.unpack_array(answers[1][2]), atol=1e-4)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (protocol.Encode(9, "nobody", [sequence([1])]), "specialist_not_found"),
        (protocol.Encode(9, "plain", []), "invalid_request"),
        (protocol.Encode(9, "plain", [sequence([])]), "invalid_request"),
        (protocol.Encode(9, "plain", [sequence([1] * 513)]), "invalid_request"),
        (protocol.Encode(9, "plain", [sequence([-1])]), "invalid_request"),
        (protocol.Encode(9, "plain", [sequence([30522])]), "invalid_request"),
        (protocol.Encode(9, "plain", [protocol.Sequence(b"abc", None)]), "invalid_request"),
        (protocol.Encode(9, "tag", [sequence([1, 2])]), "invalid_request"),
        (protocol.Encode(9, "tag", [sequence([1, 2], np.zeros((2, 3)))]), "invalid_request"),
        (protocol.Encode(9, "plain", [sequence([1])] * 41), "queue_full"),
    ],
)
def test_what_a_backend_could_choke_on_is_refused_before_it(bench, command, code):
    (refusal,) = bench.step(command)
    assert isinstance(refusal, protocol.EncodeRefused)
    assert (refusal.request_id, refusal.code) == (9, code)


def test_a_cancelled_request_leaves_the_backlog_within_one_step(bench):
    assert bench.step(protocol.Encode(1, "plain", [sequence([1] * 60)] * 30)) == []
    assert len(bench.worker.backlog) == 29  # the lane has one of them
    assert bench.step(protocol.Cancel(1), protocol.Ping(5))[0].nonce == 5
    assert len(bench.worker.backlog) == 0 and not bench.worker.running
    # Whether the lane has ended by now is chance: a ping makes sure that there is something to wake up for.
    assert [type(message) for message in bench.step(protocol.Ping(6))] == [protocol.Pong]


def test_cancelling_what_is_unknown_changes_nothing(bench):
    assert len(bench.answer(protocol.Cancel(77), protocol.Encode(1, "plain", [sequence([1])]))) == 1


def test_unloading_refuses_what_waits_and_what_comes(bench):
    bench.step(protocol.Encode(1, "plain", [sequence([1] * 60)] * 3))
    reports = bench.answer(protocol.Unload("plain"), protocol.Encode(2, "plain", [sequence([1])]))
    assert [(report.request_id, report.code) for report in reports] == [
        (1, "specialist_not_found"),
        (2, "specialist_not_found"),
    ]


def test_a_file_that_is_not_the_registered_one_is_refused(bench, tmp_path):
    (tmp_path / "adapter.gguf").write_bytes(b"changed")
    _, refusal = bench.step(bench.load("changed"))
    assert refusal.code == "model_file_refused" and "not the registered one" in refusal.message


def test_a_head_that_does_not_fit_is_refused(bench):
    head = Head("token", 0, None, None, np.zeros((7, 2), np.float32), np.zeros(2, np.float32))
    _, refusal = bench.step(bench.load("bad", head))
    assert refusal.code == "specialist_file_invalid"


def test_no_more_adapters_than_configured(bench):
    assert isinstance(bench.step(bench.load("third"))[-1], protocol.Loaded)
    assert isinstance(bench.step(bench.load("third"))[-1], protocol.Loaded)  # again is no work
    assert "adapters_max" in bench.step(bench.load("fourth"))[-1].message
    bench.step(protocol.Unload("third"), protocol.Ping(1))
    assert isinstance(bench.step(bench.load("fourth"))[-1], protocol.Loaded)


def test_a_second_start_ends_the_worker(bench):
    with pytest.raises(protocol.ProtocolError):
        bench.step(START)
