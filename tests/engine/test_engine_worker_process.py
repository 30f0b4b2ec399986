"""A worker process is spoken to in messages, ends when told or killed, and says how it ended. Real processes."""

import asyncio
import os
import signal
import socket
import sys

import pytest

from appliance.engine import protocol, worker_process
from appliance.engine.worker_process import WorkerProcess, worker_environment
from appliance.errors import EngineUnavailable


def ending(folder, act):
    async def scenario():
        worker = await WorkerProcess.spawn(message_bytes_max=1 << 20, folder=folder)
        await act(worker)
        report = await worker.receive()
        return report, await worker.ended()

    return asyncio.run(scenario())


def test_a_base_that_is_missing_is_refused_and_the_worker_ends_by_itself(tmp_path):
    async def act(worker):
        await worker.send(protocol.Start("echo", str(tmp_path / "none.gguf"), "00", 1, 256, 10, 2, 1 << 30))

    report, end = ending(tmp_path, act)
    assert (report.code, end.reason, end.crashed) == ("model_file_refused", "stopped", False)


@pytest.mark.parametrize(
    ("number", "crashed"), [(signal.SIGKILL, False), (signal.SIGSEGV, True), (signal.SIGABRT, True)]
)
def test_a_death_is_named_and_told_from_a_kill(tmp_path, number, crashed):
    async def act(worker):
        os.kill(worker.pid, number)

    report, end = ending(tmp_path, act)
    assert report is None
    assert end.reason.startswith(f"killed by {number.name}") and end.crashed is crashed


def test_a_first_command_other_than_a_start_ends_the_worker_with_the_reason(tmp_path):
    async def act(worker):
        await worker.send(protocol.Ping(1))

    report, end = ending(tmp_path, act)
    assert report is None and end.crashed and "the first command is not a start" in end.reason


SLOW_TO_END = """
import os, sys, time
os.close(int(sys.argv[1]))
time.sleep(0.5)
sys.exit("the reason")
"""


def test_a_worker_that_hung_up_is_let_end_by_itself_so_that_its_reason_is_known(monkeypatch):
    async def scenario():
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", SLOW_TO_END, str(theirs.fileno())),
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = WorkerProcess(process, reader, writer, 1 << 20, protocol.decode_report)
        return await worker.receive(), await worker.ended()

    monkeypatch.setattr(worker_process, "_END_S", 0.0)  # a busy machine has it take longer than this
    report, end = asyncio.run(scenario())
    assert (report, end.reason, end.crashed) == (None, "ended with status 1: the reason", True)


def test_a_worker_that_ignores_the_closed_socket_is_killed(tmp_path):
    async def act(worker):
        os.kill(worker.pid, signal.SIGSTOP)
        worker.kill()

    assert ending(tmp_path, act)[1].reason == "killed by SIGKILL"


def test_a_folder_that_is_gone_is_a_clear_error(tmp_path):
    with pytest.raises(EngineUnavailable, match="cannot start"):
        asyncio.run(WorkerProcess.spawn(message_bytes_max=1 << 20, folder=tmp_path / "gone"))


def test_the_environment_pins_every_library_to_one_thread():
    environment = worker_environment()
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "1"
    assert environment["GGML_NO_BACKTRACE"] == "1"
