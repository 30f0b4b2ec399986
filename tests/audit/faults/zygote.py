"""A process that imported the appliance once and forks a child for every experiment; each then costs milliseconds.

    with Zygote() as zygote:
        child = zygote.fork("append_batches", start, 5, descriptors=(acknowledgements.fileno(),))
        child.go()                         # until then it waits, so that a tracer can be attached
        status = child.wait()

What can be run in a child is in `driver.py`. One child at a time.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
WAIT_S = 60.0  # a bound on waiting for another process, never a pause
FAILED = 70
_REQUEST_BYTES_MAX = 64 * 1024
_DESCRIPTORS_MAX = 8
_PR_SET_PTRACER = 0x59616D61


class Child:
    """One forked child. `wait` returns its exit status, negative for the signal that ended it."""

    def __init__(self, pid: int, gate: int, zygote: socket.socket) -> None:
        self.pid = pid
        self._gate = gate
        self._zygote = zygote

    def go(self) -> None:
        """Let it begin."""
        os.write(self._gate, b"g")
        os.close(self._gate)

    def wait(self) -> int:
        """Its exit status. Kills it, and fails, after `WAIT_S`."""
        try:
            return int(self._zygote.recv(64))
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            raise AssertionError(f"the child did not end within {WAIT_S:g} s") from None


class Zygote:
    """The parent of the children; ends when its socket closes."""

    def __enter__(self) -> Zygote:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.audit.faults.zygote", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=(theirs.fileno(),),
            )
        self._socket.settimeout(WAIT_S)
        assert self._socket.recv(64) == b"ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.wait(WAIT_S)

    @property
    def pid(self) -> int:
        """The process id that the children see as their parent's."""
        return self._process.pid

    def fork(self, function: str, *arguments: Any, descriptors: tuple[int, ...] = ()) -> Child:
        """A child that will call `driver.<function>(*descriptors, *arguments)` when it is told to go."""
        waits, gate = os.pipe()
        request = pickle.dumps((function, arguments))
        assert len(request) <= _REQUEST_BYTES_MAX
        socket.send_fds(self._socket, [request], [waits, *descriptors])
        os.close(waits)
        return Child(int(self._socket.recv(64)), gate, self._socket)


def _serve(control: socket.socket) -> None:
    from tests.audit.faults import driver

    control.send(b"ready")
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, _REQUEST_BYTES_MAX, _DESCRIPTORS_MAX)
        if not request:
            return
        function, arguments = pickle.loads(request)
        pid = os.fork()
        if pid == 0:
            control.close()
            _run(getattr(driver, function), descriptors, arguments)
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        control.send(str(os.waitstatus_to_exitcode(status)).encode())


def _run(function: Any, descriptors: list[int], arguments: tuple[Any, ...]) -> None:
    status = FAILED
    try:
        # Where only ancestors may trace, the tracer beside us is allowed by name.
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
        gate, *rest = descriptors
        if os.read(gate, 1) == b"g":
            status = function(*rest, *arguments) or 0
    except Exception as error:  # noqa: BLE001  the child ends here, whatever it was
        sys.stderr.write(f"child: {type(error).__name__}: {error}\n")
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
