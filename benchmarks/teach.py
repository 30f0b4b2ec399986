"""How long teaching takes: a table of 10,000 short texts, read, checked, embedded, fitted and measured.

    python -m benchmarks.teach --data DATA --home HOME

DATA holds `banking77/train.csv` (requests of 12 words on average, 77 labels; Casanueva et al. 2020), HOME is a data
folder made by `appliance init`. Wall time belongs to the machine and to what else runs on it; the CPU time of the
processes does so less, so both are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from appliance.config import Config, load_config
from appliance.service.training import TeachRequest, _options, run_child


def main() -> None:
    """Teach once and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.teach")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000)
    options = parser.parse_args()
    config = load_config(options.home)
    config = replace(config, teaching=config.teaching.model_copy(update={"niceness": 0}))
    content = table_of(options.data / "banking77" / "train.csv", options.rows)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(teach(config, content, Path(folder)))


def table_of(path: Path, rows: int) -> bytes:
    """The first rows of the collection, as a site would send them."""
    with path.open(newline="") as file:
        read = list(csv.reader(file))[: rows + 1]
    written = io.StringIO()
    csv.writer(written).writerows(read)
    return written.getvalue().encode()


async def teach(config: Config, content: bytes, folder: Path) -> None:
    """One job, with the time of every step as its progress tells it."""
    request = TeachRequest("", "bank-requests")
    options = _options(config, request, version="1.0.0", folder=folder, out=folder / "taught.gguf")
    marks: dict[str, float] = {}
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)

    def progress(_done: float, step: str) -> None:
        marks.setdefault(step, time.monotonic() - started)

    report = await run_child(config, "teach", options, content, progress)
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    for step, at in marks.items():
        print(f"{at:7.1f} s  {step}")
    accuracy = report["metrics"]["accuracy"]
    print(f"wall {wall:.1f} s, CPU of all processes {cpu:.1f} s, {report['learned_from']} learned from")
    print(f"accuracy {accuracy['value']:.4f} [{accuracy['low']:.4f}, {accuracy['high']:.4f}] of {report['held_out']}")


if __name__ == "__main__":
    main()
