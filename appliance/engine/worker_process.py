"""The server's side of one worker process: start it, speak with it, see how it ended. Knows nothing of requests.

    process = await WorkerProcess.spawn(message_bytes_max=1 << 26, folder=home.runtime)
    await process.send(protocol.Ping(1))
    await process.receive()                  # Pong, or None when the worker is gone
    await process.ended()                    # Ending("killed by SIGABRT: GGML_ASSERT(…) failed", crashed=True)

The environment of the worker is made from nothing: what the loader needs and the thread counts, no credentials.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from appliance.config import child_environment
from appliance.engine import protocol
from appliance.errors import EngineUnavailable

_STDERR_BYTES_MAX = 2048
_END_S = 2.0  # for a worker that is told to stop
_ENDING_S = 30.0  # for one that hung up: it is ending by itself, and how is what is asked
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker ended. `crashed`: it brought that on itself, nobody killed it and it was not asked to stop."""

    reason: str
    crashed: bool


class WorkerProcess:
    """One running worker. `send` and `receive` never block the loop; `kill` is always allowed."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        message_bytes_max: int,
        decode: Callable[[bytes], Any],
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._bytes_max = message_bytes_max
        self._decode = decode
        self._hung_up = False
        self._complaint = asyncio.create_task(_last_bytes(process.stderr))

    @classmethod
    async def spawn(
        cls,
        *,
        message_bytes_max: int,
        folder: Path,
        module: str = "appliance.engine.worker",
        decode: Callable[[bytes], Any] = protocol.decode_report,
        more: Sequence[str] = (),
    ) -> WorkerProcess:
        """Start a worker that waits for its start. `module` is its program, told `more`; `decode` reads its reports.

        Raises `EngineUnavailable` when no process can be made.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        arguments = ("--socket", theirs.fileno(), "--parent", os.getpid(), "--message-bytes-max", message_bytes_max)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the folder it starts in is no place to import from
                "-m",
                module,
                *map(str, arguments),
                *more,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                env=worker_environment(),
                cwd=folder,
            )
        except OSError as error:
            ours.close()
            raise EngineUnavailable(f"cannot start the engine's worker process: {error.strerror}") from None
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer, message_bytes_max, decode)

    @property
    def pid(self) -> int:
        return self._process.pid

    def frame(self, command: msgspec.Struct) -> bytes:
        """The command as it travels. Raises `ProtocolError` when it is over the bound."""
        return protocol.encode_frame(command, self._bytes_max)

    async def send(self, command: msgspec.Struct) -> None:
        """Hand a command to the kernel. A worker that is gone is noticed by `receive`, so it is no error here."""
        self.post(command)
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    def post(self, command: msgspec.Struct) -> None:
        """Send without waiting: for small commands whose sender is itself being cancelled."""
        if not self._writer.is_closing():
            self._writer.write(self.frame(command))

    async def receive(self) -> Any:
        """The next report; None when the worker has gone. Raises `ProtocolError` for a report that is none."""
        try:
            prefix = await self._reader.readexactly(protocol.LENGTH.size)
            body = await self._reader.readexactly(protocol.frame_length(prefix, self._bytes_max))
        except (asyncio.IncompleteReadError, ConnectionError):
            self._hung_up = True
            return None
        return self._decode(body)

    def kill(self) -> None:
        """End it now."""
        if self._process.returncode is None:
            try:
                self._process.kill()
            except ProcessLookupError:
                return

    async def ended(self) -> Ending:
        """Close the connection, wait for the process (killing it if it lingers), and say how it ended.

        One that hung up first is given longer: killed by us, it would look as if nobody had been to blame.
        """
        self._writer.close()
        try:
            async with asyncio.timeout(_ENDING_S if self._hung_up else _END_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        return _how(self._process.returncode or 0, await self._complaint)


def worker_environment() -> dict[str, str]:
    """The whole environment of a worker."""
    return child_environment() | {
        # Every lane is one thread. Libraries that start their own would take the cores from the lanes, and would do
        # so at import, where a user namespace still needs a process of one thread.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # glibc raises this bound to the largest block that was ever freed; from then on what a load leaves behind lies
        # between what stays, and nine adapters kept three times their size. Other C libraries ignore it.
        "MALLOC_MMAP_THRESHOLD_": "262144",
        # On a failed assertion llama.cpp would start a debugger on itself, which prints arguments.
        "GGML_NO_BACKTRACE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # it may not write files anyway
    }


async def _last_bytes(stream: asyncio.StreamReader | None) -> str:
    """Read to the end, keep the tail."""
    tail = b""
    while stream is not None and (chunk := await stream.read(_STDERR_BYTES_MAX)):
        tail = (tail + chunk)[-_STDERR_BYTES_MAX:]
    return tail.decode(errors="replace")


def _how(code: int, complaint: str) -> Ending:
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "GGML_ASSERT" in line), lines[-1] if lines else "")
    said = said[said.find("GGML_ASSERT") :] if "GGML_ASSERT" in said else said
    if code == 0:
        return Ending("stopped", crashed=False)
    verdict = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    return Ending(f"{verdict}: {said}" if said else verdict, crashed=-code not in _FROM_OUTSIDE)
