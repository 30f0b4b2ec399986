"""What a worker of models that write would compute on, tried in a process of its own: a GPU's driver may end it.

await try_pack(gpu_folder(), limit_s=30.0)      # Trial(gpu="NVIDIA L4", free_bytes=…) or Trial("", 0, "why not")

python -m appliance.engine.gpu_trial FOLDER     # the process; it is isolated as a worker is
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from appliance.config import child_environment

_ANSWER_BYTES_MAX = 4096


class Trial(msgspec.Struct, frozen=True):
    """The GPU with the most free memory; without a name `why` says what stands in the way."""

    gpu: str
    free_bytes: int
    why: str = ""


async def try_pack(folder: Path, limit_s: float) -> Trial:
    """Load the pack that lies in `folder` and ask for its GPUs. Never raises: what goes wrong is the answer."""
    command = [sys.executable, "-P", "-m", "appliance.engine.gpu_trial", str(folder)]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=child_environment(),
    )
    assert process.stdout is not None, "it is a pipe"
    try:
        async with asyncio.timeout(limit_s):
            answer = await process.stdout.read(_ANSWER_BYTES_MAX)
            status = await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return Trial("", 0, f"llama.cpp did not find a GPU within {limit_s:g} s")
    try:
        return msgspec.json.decode(answer, type=Trial)
    except msgspec.DecodeError:
        return Trial("", 0, f"the process that tried it ended with status {status}")


def main(folder: str) -> None:
    """Try, and say it in one line of JSON."""
    from appliance.engine.isolation import isolate
    from appliance.engine.llamacpp import GpuAttempt, freest_gpu

    gpu = GpuAttempt(Path(folder))
    isolate(os.getppid(), between=gpu.load)
    name, free = freest_gpu()
    why = "" if name else gpu.refused or "llama.cpp finds no GPU"
    sys.stdout.write(msgspec.json.encode(Trial(name, free, why)).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
