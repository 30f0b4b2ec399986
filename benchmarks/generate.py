"""Generation against the raw batched limit of llama.cpp and against `python -m llama_cpp.server`, on random weights.

    python -m benchmarks.generate --shapes 135M 500M --sequences 1 4 16 32
    python -m benchmarks.generate --prefix                                   # what a shared beginning saves
    python -m benchmarks.generate --server                                   # needs the extra `bench`

Contenders take turns. *Raw* is a loop around `llama_decode` that neither samples nor knows of requests, as llama.cpp's
own batched benchmark does it. *Engine* is a `Generator` with its worker: scheduler, sampling, text, messages. Every
one has the same threads, prompts and numbers of tokens. Besides the wall clock the CPU time of the computing process
is shown: on a machine that others use too, its ratio is the one to trust.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import socket
import statistics
import string
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import gguf
import httpx
import numpy as np

from appliance.config import GenerationConfig
from appliance.engine.generation.client import Generator
from appliance.engine.generation.values import GenerationRequest, Sampling
from benchmarks.random_decoder import SHAPES, write_decoder

PROMPT_TOKENS = 8
CLIENTS, PREFIX_TOKENS = 16, 1000
GREEDY = Sampling(temperature=0)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """Generated tokens, wall and CPU seconds of the process that computes, time to the first token (median)."""

    tokens: int
    wall_s: float
    cpu_s: float
    first_s: float = 0.0

    @property
    def rate(self) -> float:
        return self.tokens / self.wall_s

    @property
    def cpu_rate(self) -> float:
        return self.tokens / self.cpu_s


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def prompts(count: int, tokens: int, seed: int) -> list[tuple[int, ...]]:
    """Prompts that share nothing but the beginning token."""
    rng = np.random.default_rng(seed)
    return [(1, *map(int, rng.integers(400, 40_000, tokens - 1))) for _ in range(count)]


def raw(model: Path, sequences: int, tokens: int, threads: int) -> Run:
    """In a process of its own, like the engine's worker."""
    command = (sys.executable, "-m", "benchmarks.generate_raw", model, sequences, PROMPT_TOKENS, tokens, threads)
    found = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    return Run(**json.loads(found))


async def started(model: Path, threads: int, **values: object) -> Generator:
    """A generator that holds what the benchmark needs."""
    wanted = {"slots": 32, "context_tokens": 256, "step_tokens": 256, "threads": threads, "watchdog_s": 600.0} | values
    config = GenerationConfig(start_s=600.0, request_s=3600.0, **wanted)  # type: ignore[arg-type]
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    return await Generator.start(config, model, digest, model.parent)


async def engine(generator: Generator, texts: list[tuple[int, ...]], tokens: int) -> Run:
    """All requests at once."""

    async def one(number: int, prompt: tuple[int, ...]) -> tuple[int, float]:
        wanted = GenerationRequest(prompt, f"user:{number}", sampling=GREEDY, max_tokens=tokens)
        first, count = 0.0, 0
        async with await generator.generate(wanted) as stream:
            async for chunk in stream:
                first = first or time.perf_counter() - began
                count += chunk.tokens
        return count, first

    pid = generator.status().pid
    assert pid is not None
    began, cpu = time.perf_counter(), cpu_seconds(pid)
    answers = await asyncio.gather(*(one(number, prompt) for number, prompt in enumerate(texts)))
    wall = time.perf_counter() - began
    firsts = statistics.median(first for _, first in answers)
    return Run(sum(count for count, _ in answers), wall, cpu_seconds(pid) - cpu, firsts)


async def decode(model: Path, counts: list[int], tokens: int, threads: int, rounds: int) -> list[dict[str, object]]:
    """Engine against raw, taking turns; medians of the ratios."""
    generator = await started(model, threads)
    rows: list[dict[str, object]] = []
    try:
        await engine(generator, prompts(2, PROMPT_TOKENS, 0), 4)  # warm
        for count in counts:
            pairs = []
            for number in range(rounds):
                limit = raw(model, count, tokens, threads)
                ours = await engine(generator, prompts(count, PROMPT_TOKENS, number + 1), tokens)
                pairs.append((limit, ours))
            rows.append(
                {
                    "sequences": count,
                    "raw_tokens_per_cpu_s": statistics.median(limit.cpu_rate for limit, _ in pairs),
                    "engine_tokens_per_cpu_s": statistics.median(ours.cpu_rate for _, ours in pairs),
                    "cpu_ratio": statistics.median(ours.cpu_rate / limit.cpu_rate for limit, ours in pairs),
                    "wall_ratio": statistics.median(ours.rate / limit.rate for limit, ours in pairs),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    finally:
        await generator.close()
    return rows


async def prefix(model: Path, tokens: int, threads: int, length: int) -> dict[str, object]:
    """Clients with one beginning, with and without sharing it."""
    rng = np.random.default_rng(5)
    beginning = (1, *map(int, rng.integers(400, 40_000, length - 1)))
    texts = [(*beginning, *prompt[1:]) for prompt in prompts(CLIENTS, PROMPT_TOKENS, 6)]
    found = {}
    for share in (True, False):
        values = {"slots": CLIENTS, "context_tokens": length + 256, "share_prefixes": share}
        generator = await started(model, threads, **values)
        try:
            await engine(generator, prompts(1, PROMPT_TOKENS, 0), 2)
            found[share] = await engine(generator, texts, tokens)
        finally:
            await generator.close()
    return {
        "clients": CLIENTS,
        "prefix_tokens": length,
        "shared": asdict(found[True]),
        "not_shared": asdict(found[False]),
        "first_token_ratio": found[True].first_s / found[False].first_s,
        "throughput_ratio": found[True].rate / found[False].rate,
        "cpu_throughput_ratio": found[True].cpu_rate / found[False].cpu_rate,
    }


def texts(count: int, tokens: int, seed: int) -> list[str]:
    """Prompts that share nothing: letters, each a token of the random models, after the token that begins a text."""
    chance = random.Random(seed)
    return ["".join(chance.choices(string.ascii_letters, k=tokens - 1)) for _ in range(count)]


async def server(model: Path, count: int, tokens: int, threads: int) -> Run:
    """`llama_cpp.server` with clients at once; it answers them one after another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"model": model, "n_ctx": 2048, "n_threads": threads, "n_threads_batch": threads, "port": port}
    options |= {"interrupt_requests": False, "verbose": False}
    command = [sys.executable, "-m", "llama_cpp.server"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=3600, trust_env=False) as client:
            while True:
                try:
                    await client.get("/v1/models")
                    break
                except httpx.TransportError:
                    assert process.poll() is None, "llama_cpp.server ended; is the extra `bench` installed?"
                    await asyncio.sleep(0.2)

            async def one(text: str) -> int:
                body = {"prompt": text, "max_tokens": tokens, "temperature": 0.0}
                answer = (await client.post("/v1/completions", json=body)).json()
                return int(answer["usage"]["completion_tokens"])

            await one(*texts(1, PROMPT_TOKENS, 8))
            began, cpu = time.perf_counter(), cpu_seconds(process.pid)
            counts = await asyncio.gather(*(one(text) for text in texts(count, PROMPT_TOKENS, 7)))
            return Run(sum(counts), time.perf_counter() - began, cpu_seconds(process.pid) - cpu)
    finally:
        process.terminate()
        process.wait()


async def against_server(model: Path, tokens: int, threads: int) -> dict[str, object]:
    """16 clients at each, one after the other."""
    theirs = await server(model, CLIENTS, tokens, threads)
    generator = await started(model, threads, slots=CLIENTS)
    try:
        await engine(generator, prompts(2, PROMPT_TOKENS, 0), 4)
        ours = await engine(generator, prompts(CLIENTS, PROMPT_TOKENS, 1), tokens)
    finally:
        await generator.close()
    return {
        "clients": CLIENTS,
        "engine": asdict(ours),
        "server": asdict(theirs),
        "wall_ratio": ours.rate / theirs.rate,
        "cpu_ratio": ours.cpu_rate / theirs.cpu_rate,
    }


async def main() -> None:
    """Write the models, measure, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=sorted(SHAPES), default=["135M"])
    parser.add_argument("--sequences", nargs="+", type=int, default=[1, 4, 16, 32])
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prefix", action="store_true")
    parser.add_argument("--prefix-tokens", type=int, default=PREFIX_TOKENS)
    parser.add_argument("--server", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.shapes:
            model = Path(folder) / f"{name}.gguf"
            shape = replace(SHAPES[name], positions=2048)
            write_decoder(model, shape, seed=1, kind=gguf.GGMLQuantizationType.Q4_0)
            print(f"{name}, {arguments.threads} thread(s), {arguments.tokens} tokens each", flush=True)
            tokens, threads = arguments.tokens, arguments.threads
            if arguments.prefix:
                found = await prefix(model, tokens, threads, arguments.prefix_tokens)
                print(json.dumps(found, indent=1), flush=True)
            elif arguments.server:
                print(json.dumps(await against_server(model, tokens, threads), indent=1), flush=True)
            else:
                await decode(model, arguments.sequences, tokens, threads, arguments.rounds)


if __name__ == "__main__":
    asyncio.run(main())
