"""Notes per second of the batch command, and what nine adapters cost against one.

    python -m benchmarks.batch --home FOLDER [--notes 120] [--rounds 7]        # a data folder made by `appliance init`

First `appliance run phi-deid --jsonl` over a few and over many notes of 2,500 characters: the difference is what notes
cost, without the start. Wall time says what this machine does now; processor time of all its processes says what it
would do alone, whatever else runs. Then one engine worker under the same load with one adapter and with nine, taking
turns, and its memory with one and with nine loaded. Adapters are random, of the shape of `phi-deid`: cost does not
depend on their values.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.cli.demo import SAMPLE
from appliance.config import EngineConfig, load_config
from appliance.engine.client import Engine
from appliance.specialists.base_model import MINILM, BaseModel, open_base_model
from appliance.specialists.file_format import AdapterWeights, read_specialist, write_specialist
from appliance.specialists.manifest import Base, Manifest
from appliance.types import Adapter, EncodeInput, Head, Task

NOTE_CHARS = 2500
FEW = 8
ADAPTERS = 9
RANK, FEATURES, HIDDEN, WIDTH, LABELS = 32, 88, 160, 5, 19
STATES, INNER = 384, 1536
REQUESTS, WINDOWS, WINDOW_TOKENS = 18, 4, 112
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock and of processors."""

    wall_s: float
    processor_s: float


def notes(count: int) -> str:
    """JSON lines; every note is another, so that nothing could be remembered."""
    sample = SAMPLE.read_text(encoding="utf-8")
    text = sample * (NOTE_CHARS // len(sample) + 2)
    rows = ({"id": number, "text": text[number % 40 : number % 40 + NOTE_CHARS]} for number in range(count))
    return "".join(json.dumps(row) + "\n" for row in rows)


def run_command(home: Path, folder: Path, count: int) -> Cost:
    """The command over that many notes, from its start to its end."""
    source, target = folder / "in.jsonl", folder / "out.jsonl"
    source.write_text(notes(count), encoding="utf-8")
    command = [sys.executable, "-m", "appliance", "run", "phi-deid", "--jsonl", str(source), "--out", str(target)]
    before, began = processor_s(), time.perf_counter()
    subprocess.run([*command, "--home", str(home)], check=True, stderr=subprocess.DEVNULL)
    cost = Cost(time.perf_counter() - began, processor_s() - before)
    assert len(target.read_text(encoding="utf-8").splitlines()) == count
    return cost


def processor_s() -> float:
    """Of the children that ended, with theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_command(home: Path, count: int) -> None:
    """Notes per second, and how many two processors that did nothing else would do at most."""
    with tempfile.TemporaryDirectory() as folder:
        few, many = run_command(home, Path(folder), FEW), run_command(home, Path(folder), FEW + count)
    wall, processor = many.wall_s - few.wall_s, many.processor_s - few.processor_s
    print(f"batch command, {count} notes of {NOTE_CHARS} characters: {count / wall:.1f} notes/s by the clock,")
    each_ms = processor / count * 1000
    print(f"  {each_ms:.0f} ms of processor time a note; two processors alone do {2000 / each_ms:.1f} notes a second")


def write_adapter(path: Path, seed: int) -> Adapter:
    """A random specialist of the shape of `phi-deid`."""
    rng = np.random.default_rng(seed)

    def values(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / 50).astype(np.float32)

    pairs = {}
    for layer in range(MINILM.shape.layers):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"):
            inputs, outputs = (INNER if part == "ffn_down" else STATES), (INNER if part == "ffn_up" else STATES)
            halves = values(RANK, inputs).astype(np.float16), values(outputs, RANK).astype(np.float16)
            pairs[f"blk.{layer}.{part}"] = halves
    manifest = Manifest(
        id=path.stem,
        version="1.0.0",
        task=Task.TAG,
        name=path.stem,
        summary="",
        labels=tuple(f"L{number}" for number in range(LABELS)),
        base=Base(name=MINILM.name, weights_sha256=MINILM.weights_sha256, vocabulary_sha256=MINILM.vocabulary_sha256),
        feature_version=1,
        licence="none",
        created="2026-01-01",
    )
    classes = 1 + 2 * LABELS
    conv = values(WIDTH, STATES + FEATURES, HIDDEN), values(HIDDEN)
    head = Head("token", FEATURES, *conv, values(HIDDEN, classes), values(classes))
    write_specialist(path, manifest, head, AdapterWeights(64.0, pairs))
    file = read_specialist(path, bytes_max=1 << 24)
    return Adapter(file.sha256, path, file.sha256, file.head)


async def measure_adapters(base: BaseModel, rounds: int) -> None:
    """The same requests to one adapter and spread over nine, taking turns."""
    rng = np.random.default_rng(3)
    load = [
        [
            EncodeInput(
                rng.integers(1000, 30000, WINDOW_TOKENS).astype(np.int32),
                np.zeros((WINDOW_TOKENS, FEATURES), np.float32),
            )
            for _ in range(WINDOWS)
        ]
        for _ in range(REQUESTS)
    ]
    with tempfile.TemporaryDirectory() as folder:
        adapters = [write_adapter(Path(folder) / f"random-{n}.gguf", n) for n in range(ADAPTERS)]
        engine = await Engine.start(EngineConfig(), base.path, base.sha256, Path(folder))
        try:
            await engine.load(adapters[0])
            await serve(engine, load, adapters[:1])
            alone = resident_bytes(engine)
            for adapter in adapters[1:]:
                await engine.load(adapter)
            await serve(engine, load, adapters)
            together = resident_bytes(engine)
            costs: dict[int, list[Cost]] = {1: [], ADAPTERS: []}
            for _ in range(rounds):
                for count, found in costs.items():
                    found.append(await serve(engine, load, adapters[:count]))
        finally:
            await engine.close()
    for what, seconds in (("clock", "wall_s"), ("processor time", "processor_s")):
        ratios = [getattr(nine, seconds) / getattr(one, seconds) for one, nine in zip(*costs.values(), strict=True)]
        print(f"nine adapters against one, same load, {what}: {statistics.median(ratios):.3f}")
    print(f"memory of the worker, one adapter {alone / 2**20:.0f} MiB, nine {together / 2**20:.0f} MiB: ", end="")
    print(f"{(together - alone) / 2**20:.1f} MiB more")


async def serve(engine: Engine, load: list[list[EncodeInput]], adapters: list[Adapter]) -> Cost:
    """All requests at once, adapters in turn."""
    before, began = worker_processor_s(engine), time.perf_counter()
    await asyncio.gather(
        *(engine.encode(adapters[number % len(adapters)].key, inputs) for number, inputs in enumerate(load))
    )
    return Cost(time.perf_counter() - began, worker_processor_s(engine) - before)


def worker_processor_s(engine: Engine) -> float:
    """Processor time of the worker so far."""
    fields = Path(f"/proc/{engine.status().pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def resident_bytes(engine: Engine) -> int:
    """Proportional set size of the worker."""
    status = Path(f"/proc/{engine.status().pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("Pss:"))


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--notes", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    base = open_base_model(load_config(options.home).home)
    print(f"base {base.name} as {base.storage}")
    asyncio.run(measure_adapters(base, options.rounds))
    measure_command(options.home, options.notes)


if __name__ == "__main__":
    main()
