"""The process that teaches, so that a table that is large or hostile costs the server neither time nor memory.

    python -m appliance.training.teaching check < options and table        # one JSON line
    python -m appliance.training.teaching teach < options and table        # progress lines, then a report

Standard input is one line of JSON (`lesson.Options`), then the bytes of the table; texts are never written to a disk.
Every line of standard output is one of {"progress", "step"}, {"result"} and {"error"}; `service/training.py` reads it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import msgspec

from appliance.errors import ApplianceError
from appliance.training.teaching.learn import SEPARATOR, check, teach
from appliance.training.teaching.lesson import Options

OPTIONS_BYTES_MAX = 64 * 1024


def main(mode: str) -> int:
    """One job; exit status 1 after an error that was reported."""
    source = sys.stdin.buffer
    options = msgspec.json.decode(source.readline(OPTIONS_BYTES_MAX), type=Options)
    os.nice(options.niceness)
    content = source.read(options.bytes_max + 1)
    try:
        if mode == "check":
            say({"result": check(content, options).report(SEPARATOR if options.multi_label else "")})
        else:
            say({"result": asyncio.run(_teach(content, options))})
    except ApplianceError as error:
        say({"error": {"code": error.code, "message": error.message, "hint": error.hint}})
        return 1
    return 0


async def _teach(content: bytes, options: Options) -> dict[str, Any]:
    def progress(done: float, step: str) -> None:
        say({"progress": round(done, 3), "step": step})

    return await teach(content, options, progress)


def say(line: dict[str, Any]) -> None:
    """One line to whoever started this process."""
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
