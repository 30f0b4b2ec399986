"""Many clients that change their minds, for minutes, through the whole API: does anything stay behind?

    python -m benchmarks.soak --base .cache/base-model/models --clients 32 --minutes 5

Each client asks again and again: whole answers and streams, with shared and with own beginnings; some read to the end,
some hang up after a few pieces, some give up while they wait, some ask for what is refused. Afterwards: as many at once
as there are slots are all answered (no slot was lost), the memory of every process after each tenth of the time
is shown, and the log holds exactly one closing record for each request that opened an exchange.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from benchmarks.random_decoder import TINY, write_decoder
from benchmarks.serving import Site, pss_bytes, serving

SLOTS = 16
BEGINNING = "the patient note is a note of the patient with pain and no pain in the note "
KINDS = ("whole", "stream", "left", "given_up", "refused")
_PAGE = 1000


async def soak(
    url: str, keys: Sequence[str], model: str, *, clients: int, goes_on: Callable[[int], bool], seed: int
) -> Counter[str]:
    """What the clients did, by kind and by how it ended. `goes_on(n)`: whether a client begins its request `n`."""
    tally: Counter[str] = Counter()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=300, limits=limits) as http:

        async def client(number: int) -> None:
            chance = random.Random(f"{seed}/{number}")
            headers = {"Authorization": f"Bearer {keys[number % len(keys)]}"}
            for count in itertools.count():
                if not goes_on(count):
                    return
                kind = chance.choices(KINDS, weights=(3, 3, 3, 2, 1))[0]
                tally[f"{kind}: {await _one(http, headers, model, kind, chance)}"] += 1

        await asyncio.gather(*(client(number) for number in range(clients)))
    return tally


async def _one(http: httpx.AsyncClient, headers: dict[str, str], model: str, kind: str, chance: random.Random) -> str:
    """One request; returns how it ended."""
    begins = BEGINNING * chance.choice((0, 1, 8))
    turn = {"role": "user", "content": begins + " ".join(chance.choices(BEGINNING.split(), k=chance.randrange(1, 60)))}
    body = {"model": model, "messages": [turn], "max_tokens": chance.randrange(1, 64), "seed": chance.randrange(100)}
    if kind == "refused":
        body |= {"messages": [{"role": "user", "content": "the " * 20_000}]}
    if kind in ("whole", "refused"):
        answer = await http.post("/v1/chat/completions", json=body, headers=headers)
        return str(answer.status_code)
    if kind == "given_up":
        asking = asyncio.ensure_future(http.post("/v1/chat/completions", json=body, headers=headers))
        done, _ = await asyncio.wait({asking}, timeout=chance.random() * 0.2)
        if done:
            return str(asking.result().status_code)
        asking.cancel()
        await asyncio.wait({asking})
        return "gone"
    pieces = chance.randrange(0, 4) if kind == "left" else 10**9
    async with http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}, headers=headers) as answer:
        async for line in answer.aiter_lines():
            if pieces == 0:
                return "gone"
            pieces -= line.startswith("data:")
            if line == "data: [DONE]":
                return "ended"
            if '"error"' in line[:20]:
                return "error"
    return str(answer.status_code)


def closings(auditor: httpx.Client, since: int, event: str = "model.generate") -> Counter[tuple[int, int]]:
    """How many exchanges have so many opening and so many closing records, of those after record `since`."""
    opened: Counter[str] = Counter()
    closed: Counter[str] = Counter()
    after: int | None = None
    while True:
        params = {"limit": _PAGE, "event": event} | ({} if after is None else {"after": after})
        page = auditor.get("/v1/audit/records", params=params).raise_for_status().json()
        for record in page["data"]:
            if record["seq"] > since:
                (opened if record["outcome"] == "accepted" else closed)[record["exchange_id"]] += 1
        after = page["next"]
        if after is None or after <= since:
            break
    return Counter((opened[one], closed[one]) for one in opened.keys() | closed.keys())


def newest(auditor: httpx.Client) -> int:
    """Sequence number of the newest record."""
    return int(auditor.get("/v1/audit/records", params={"limit": 1}).raise_for_status().json()["data"][0]["seq"])


async def all_slots_answer(url: str, key: str, model: str, slots: int) -> bool:
    """Whether as many requests at once as there are slots are all answered."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=300) as http:
        body = {"model": model, "messages": [{"role": "user", "content": "is there pain"}], "max_tokens": 32}
        headers = {"Authorization": f"Bearer {key}"}
        sent = (http.post("/v1/chat/completions", json={**body, "seed": n}, headers=headers) for n in range(slots))
        return all(answer.status_code == 200 for answer in await asyncio.gather(*sent))


async def memory(site: Site, until: float, every_s: float) -> list[dict[str, int]]:
    """MiB of every process, again and again."""
    found = []
    while time.monotonic() < until:
        found.append({name: pss_bytes(pid) // 2**20 for name, pid in site.processes().items()})
        await asyncio.sleep(every_s)
    return found


async def measured(site: Site, clients: int, minutes: float, seed: int) -> dict[str, object]:
    """The soak and what it left behind."""
    since = newest(site.auditor)
    assert await all_slots_answer(site.url, site.keys[0], "writer", SLOTS)  # loads the model
    until = time.monotonic() + minutes * 60
    soaking = soak(
        site.url, site.keys, "writer", clients=clients, goes_on=lambda _count: time.monotonic() < until, seed=seed
    )
    tally, samples = await asyncio.gather(soaking, memory(site, until, max(1.0, minutes * 0.6)))
    answered = await all_slots_answer(site.url, site.keys[0], "writer", SLOTS)
    left = [line for line in site.admin.get("/metrics").text.splitlines() if line.startswith("cloister_generation_in")]
    tenths = [samples[len(samples) * tenth // 10] for tenth in range(1, 10)] + [samples[-1]]
    return {
        "clients": clients,
        "minutes": minutes,
        "requests": tally.total(),
        "what_they_did": dict(sorted(tally.items())),
        "all_slots_answer": answered,
        "in_flight_afterwards": [line.split()[-1] for line in left],
        "exchanges_by_opened_and_closed": {str(key): n for key, n in closings(site.auditor, since).items()},
        "mib_after_each_tenth": {name: [one[name] for one in tenths] for name in tenths[0]},
    }


def main() -> None:
    """Make a site, soak it, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of base models, as in a data folder")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.gguf"
        write_decoder(model, TINY, seed=7)
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        settings = f"[generation]\nslots = {SLOTS}\ncontext_tokens = 1024\nthreads = 1\n"
        with serving(home, arguments.base, model, settings, clients=arguments.clients) as site:
            print(
                json.dumps(asyncio.run(measured(site, arguments.clients, arguments.minutes, arguments.seed)), indent=1)
            )


if __name__ == "__main__":
    main()
