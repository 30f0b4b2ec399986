"""The generation worker's loop, one step at a time in this process, over a real socket pair with the echo decoder.

Guaranteed: every request is answered by chunks with one end or by one refusal, a cancellation takes effect before the
next step, and a step that fails fails what ran and nothing that comes later.
"""

import socket

import pytest

from appliance.engine import protocol
from appliance.engine.echo import EchoDecoder
from appliance.engine.generation import messages
from appliance.engine.generation.values import GenerationRequest, Sampling
from appliance.engine.generation.worker import GenerationWorker
from appliance.errors import EngineUnavailable

BYTES_MAX = 1 << 20
START = messages.StartDecoder("echo", "m", "", 1, None, 2, 128, 64, 4, 2, 1 << 30, True, True)


class Bench:
    """The server's end of the socket, with a worker stepped by hand."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self._ours = ours
        channel = protocol.WorkerChannel(theirs, BYTES_MAX, decode=messages.decode_command)
        self.decoder = EchoDecoder(slots=START.slots, context_tokens=START.context_tokens)
        self.worker = GenerationWorker(channel, self.decoder, START)

    def step(self, *commands) -> list:
        self._ours.sendall(b"".join(protocol.encode_frame(command, BYTES_MAX) for command in commands))
        self.worker.step()
        return self.reports()

    def answer(self, *commands) -> list:
        found = self.step(*commands)
        while self.worker.answers:
            found += self.step()
        return found

    def reports(self) -> list:
        found = []
        self._ours.setblocking(False)
        try:
            while prefix := self._ours.recv(4):
                found.append(messages.decode_report(self._ours.recv(protocol.frame_length(prefix, BYTES_MAX))))
        except BlockingIOError:
            return found
        finally:
            self._ours.setblocking(True)
        return found


@pytest.fixture
def bench():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Bench(ours, theirs)


def generate(number, prompt="abc", *, principal="user:1", deadline_s=60.0, **values):
    request = GenerationRequest(prompt, principal, **{"sampling": Sampling(temperature=0)} | values)
    return messages.pack_request(number, request, grammar=None, seed=1, deadline_s=deadline_s)


def texts(reports) -> dict[int, str]:
    found: dict[int, str] = {}
    for report in reports:
        if isinstance(report, messages.Chunks):
            for part in report.parts:
                found[part.request_id] = found.get(part.request_id, "") + part.text
    return found


def ends(reports) -> list[int]:
    return [
        part.request_id
        for report in reports
        if isinstance(report, messages.Chunks)
        for part in report.parts
        if part.ended
    ]


def test_each_request_is_accepted_and_ends_once(bench):
    reports = bench.answer(generate(1, "one"), generate(2, "two", principal="user:2"), generate(3, "three"))
    assert [report.request_id for report in reports if isinstance(report, messages.Accepted)] == [1, 2, 3]
    assert texts(reports) == {1: "one", 2: "two", 3: "three"} and sorted(ends(reports)) == [1, 2, 3]
    assert all(slot.sequence is None for slot in bench.worker.scheduler.slots)


def test_a_step_brings_all_its_sequences_in_one_message(bench):
    bench.step(generate(1, "abcd"), generate(2, "efgh", principal="user:2"))
    (chunks,) = bench.step()
    assert {part.request_id: part.text for part in chunks.parts} == {1: "b", 2: "f"}


def test_guesses_bring_several_tokens_in_one_step(bench):
    reports = bench.answer(generate(1, "abcabcabcabcabcabc"))
    assert texts(reports) == {1: "abcabcabcabcabcabc"}
    counters = bench.worker.scheduler.counters
    assert counters.accepted_tokens > 4 and counters.steps < 18


def test_a_cancelled_request_is_gone_before_the_next_step(bench):
    bench.step(generate(1, "a" * 50), generate(2, "b" * 50))
    bench.step(protocol.Cancel(1), protocol.Cancel(77))
    assert list(bench.worker.answers) == [2] and list(bench.worker.scheduler.running) == [2]
    assert set(texts(bench.answer())) == {2}


def test_a_cancelled_request_that_waits_never_runs(bench):
    bench.step(*(generate(number, "a" * 30, principal=f"user:{number}") for number in range(1, 4)))
    reports = bench.answer(protocol.Cancel(3))
    assert sorted(ends(reports)) == [1, 2]


def test_a_deadline_that_has_passed_refuses_the_request(bench):
    reports = bench.step(generate(1, deadline_s=0.0))
    assert [report.code for report in reports if isinstance(report, messages.GenerateRefused)] == ["deadline_exceeded"]
    assert not bench.worker.answers


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (generate(1, "a" * 127), "input_too_long"),
        (generate(1, (258,)), "invalid_request"),
        (generate(1, adapter="nobody"), "specialist_not_found"),
    ],
)
def test_what_cannot_be_served_is_refused_and_leaves_nothing(bench, command, code):
    (refusal,) = bench.step(command)
    assert (refusal.request_id, refusal.code) == (1, code) and not bench.worker.answers


def test_a_queue_that_is_full_refuses_and_says_so(bench):
    # Two run, and one principal may hold half of the four places.
    reports = bench.step(*(generate(number) for number in range(1, 6)))
    refused = [report for report in reports if isinstance(report, messages.GenerateRefused)]
    assert [report.code for report in refused] == ["queue_full"] * len(refused) and refused[0].retry_after_s > 0


def test_a_failed_step_fails_what_ran_and_the_next_request_is_served(bench):
    class Broken(EchoDecoder):
        def run(self, plan):
            raise EngineUnavailable("llama.cpp could not run a step")

    bench.step(generate(1, "a" * 20))
    good, bench.worker.decoder = bench.worker.decoder, Broken(slots=2, context_tokens=128)
    (refusal,) = bench.step()
    assert (refusal.request_id, refusal.code) == (1, "engine_unavailable")
    bench.worker.decoder = good
    assert texts(bench.answer(generate(2, "next"))) == {2: "next"}


def test_a_ping_is_answered_with_the_counters(bench):
    bench.answer(generate(1, "abc"))
    (pong,) = bench.step(protocol.Ping(5))
    assert (pong.nonce, pong.waiting, pong.running, pong.generated_tokens) == (5, 0, 0, 4)


def test_a_second_start_ends_the_worker(bench):
    with pytest.raises(protocol.ProtocolError):
        bench.step(START)
