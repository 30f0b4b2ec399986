"""A worker process is spoken to in messages, ends when told or killed, and says how it ended. Real processes."""

import asyncio
import os
import signal

import pytest

from appliance.engine import protocol
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
