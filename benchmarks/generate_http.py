"""Generation through the whole HTTP API, accounts and audit on, against the raw batched limit of llama.cpp.

    python -m benchmarks.generate_http --base .cache/base-model/models --shape 135M
    python -m benchmarks.generate_http --base .cache/base-model/models --shape 135M --prefix

Contenders take turns in one run. *Raw* is `benchmarks.generate_raw`, a bare loop around `llama_decode`, while the
server is idle. *API* is streamed completions of as many clients, each with a key of its own. *Peer* is
`python -m llama_cpp.server --interrupt_requests False` (extra `bench`) with as many clients, while the server is idle.
Besides the wall clock the CPU time of the computing process is compared, which a busy machine disturbs less. What the
server and its audit log cost is their CPU time for one token that was streamed; what one client waits longer for a
token than the engine alone needs is the overhead by the wall clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gguf
import httpx

from benchmarks.generate import PROMPT_TOKENS, Run, cpu_seconds, engine, prompts, raw, server, started, texts
from benchmarks.random_decoder import SHAPES, write_decoder
from benchmarks.serving import Site, serving

CLIENTS, PREFIX_TOKENS = 16, 1000


async def api(site: Site, wanted: Sequence[str], tokens: int) -> tuple[Run, dict[str, float]]:
    """All clients at once; and the CPU seconds of every process meanwhile."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=site.url, trust_env=False, timeout=3600, limits=limits) as http:

        async def one(number: int, prompt: str) -> tuple[int, float]:
            headers = {"Authorization": f"Bearer {site.keys[number % len(site.keys)]}"}
            body = {"model": "writer", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
            body |= {"stream_options": {"include_usage": True}}
            first, count = 0.0, 0
            async with http.stream("POST", "/v1/completions", json=body, headers=headers) as answer:
                assert answer.status_code == 200, answer.status_code
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        first = first or time.perf_counter() - began
                        usage = json.loads(line[6:]).get("usage")
                        count = usage["completion_tokens"] if usage else count
            return count, first

        processes = site.processes()
        before = {name: cpu_seconds(pid) for name, pid in processes.items()}
        began = time.perf_counter()
        answers = await asyncio.gather(*(one(number, prompt) for number, prompt in enumerate(wanted)))
        wall = time.perf_counter() - began
    spent = {name: cpu_seconds(pid) - before[name] for name, pid in processes.items()}
    firsts = statistics.median(first for _, first in answers)
    count = sum(count for count, _ in answers)
    return Run(count, wall, spent.get("generation.worker", 0.0), firsts), spent


async def decode(site: Site, model: Path, tokens: int, threads: int, rounds: int) -> dict[str, object]:
    """16 clients against the raw limit and against the peer, taking turns; medians of the ratios."""
    await api(site, texts(2, PROMPT_TOKENS, 99), 4)  # loads the model
    pairs, peers = [], []
    for number in range(rounds):
        limit = raw(model, CLIENTS, tokens, threads)
        pairs.append((limit, *await api(site, texts(CLIENTS, PROMPT_TOKENS, number), tokens)))
        peers.append(await server(model, CLIENTS, tokens, threads))
    serving_cpu = [(spent["server"] + spent["audit.sequencer"]) / ours.tokens for _, ours, spent in pairs]
    return {
        "clients": CLIENTS,
        "raw_tokens_per_s": statistics.median(limit.rate for limit, _, _ in pairs),
        "api_tokens_per_s": statistics.median(ours.rate for _, ours, _ in pairs),
        "wall_ratio": statistics.median(ours.rate / limit.rate for limit, ours, _ in pairs),
        "worker_cpu_ratio": statistics.median(ours.cpu_rate / limit.cpu_rate for limit, ours, _ in pairs),
        "peer_tokens_per_s": statistics.median(peer.rate for peer in peers),
        "times_the_peer": statistics.median(o.rate / p.rate for (_, o, _), p in zip(pairs, peers, strict=True)),
        "server_and_audit_cpu_ms_per_token": 1000 * statistics.median(serving_cpu),
    }


async def overhead(site: Site, model: Path, tokens: int, threads: int, rounds: int) -> dict[str, object]:
    """One client: milliseconds for a token through the API, and of the engine alone in this process."""
    generator = await started(model, threads, slots=CLIENTS, context_tokens=512)
    try:
        alone, through, spent_ms = [], [], []
        for number in range(rounds + 1):
            ours = await engine(generator, prompts(1, PROMPT_TOKENS, number), tokens)
            whole, spent = await api(site, texts(1, PROMPT_TOKENS, number), tokens)
            if number:  # the first round warms up
                alone.append(1000 * (ours.wall_s - ours.first_s) / (ours.tokens - 1))
                through.append(1000 * (whole.wall_s - whole.first_s) / (whole.tokens - 1))
                spent_ms.append(1000 * (spent["server"] + spent["audit.sequencer"]) / whole.tokens)
    finally:
        await generator.close()
    return {
        "clients": 1,
        "engine_ms_per_token": statistics.median(alone),
        "api_ms_per_token": statistics.median(through),
        "overhead_ms_per_token": statistics.median(b - a for a, b in zip(alone, through, strict=True)),
        "server_and_audit_cpu_ms_per_token": statistics.median(spent_ms),
    }


async def prefix(site: Site, tokens: int, rounds: int) -> dict[str, object]:
    """16 clients with one beginning of 1,000 tokens, against 16 with a beginning each; taking turns."""
    await api(site, texts(2, PROMPT_TOKENS, 99), 2)
    rows = []
    for number in range(rounds):
        (beginning,) = texts(1, PREFIX_TOKENS, 1000 + number)
        shared = [beginning + text for text in texts(CLIENTS, PROMPT_TOKENS, 2000 + number)]
        own = texts(CLIENTS, PREFIX_TOKENS + PROMPT_TOKENS, 3000 + number)
        rows.append(((await api(site, shared, tokens))[0], (await api(site, own, tokens))[0]))
    return {
        "clients": CLIENTS,
        "prefix_tokens": PREFIX_TOKENS,
        "first_token_s_shared": statistics.median(one.first_s for one, _ in rows),
        "first_token_s_own": statistics.median(other.first_s for _, other in rows),
        "first_token_ratio": statistics.median(one.first_s / other.first_s for one, other in rows),
        "throughput_ratio": statistics.median(one.rate / other.rate for one, other in rows),
        "worker_cpu_throughput_ratio": statistics.median(one.cpu_rate / other.cpu_rate for one, other in rows),
    }


def main() -> None:
    """Write the model, make a site, measure, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of base models, as in a data folder")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="135M")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prefix", action="store_true")
    arguments = parser.parse_args()
    tokens, threads, rounds = arguments.tokens, arguments.threads, arguments.rounds
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "writer.gguf"
        shape = replace(SHAPES[arguments.shape], positions=2048)
        write_decoder(model, shape, seed=1, kind=gguf.GGMLQuantizationType.Q4_0)
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        context = PREFIX_TOKENS + 256 if arguments.prefix else 512
        settings = f"[generation]\nslots = {CLIENTS}\ncontext_tokens = {context}\nthreads = {threads}\n"
        with serving(home, arguments.base, model, settings, clients=CLIENTS) as site:
            if arguments.prefix:
                print(json.dumps(asyncio.run(prefix(site, tokens, rounds)), indent=1), flush=True)
                return
            print(json.dumps(asyncio.run(decode(site, model, tokens, threads, rounds)), indent=1), flush=True)
            print(json.dumps(asyncio.run(overhead(site, model, tokens, threads, rounds)), indent=1), flush=True)


if __name__ == "__main__":
    main()
