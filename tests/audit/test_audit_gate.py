"""Nothing that was not recorded leaves: by the sources, under a store that fails at random, and on the wire.

The sources are searched for a way past `Released`. Exchanges run over a store that records and says so, records and
says no, or does neither. Clients of a real server hang up at random moments; every byte that any of them got is found
in a record. Seeds are printed.
"""

import asyncio
import json
import random
import re
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from appliance.audit.gate import Released, release
from appliance.audit.keystore import open_keystore
from appliance.audit.log import _start
from appliance.audit.reader import LogReader
from appliance.audit.root_key import read_root_key
from appliance.config import Home, load_config
from appliance.errors import ApplianceError, AuditUnavailable
from appliance.service.exchange import recorded_exchange, stream_exchange
from appliance.types import Principal, Receipt
from tests.audit.faults.gate_rules import answer_writers, modules, offences, releases, unreleased
from tests.audit.faults.look import verdict
from tests.conftest import link_or_copy
from tests.e2e.sites import configure, running_site

SEED = random.SystemRandom().randrange(2**32)
CLIENTS_AT_ONCE = 4


# --- the sources ------------------------------------------------------------------------------------------------------


def test_answers_are_shown_only_out_of_a_released_value():
    writers = answer_writers()
    assert {"deidentify_response", "run_response", "span_bodies"} <= {name for _, name in writers}
    found = [offence for name, source in modules("api", "cli") for offence in offences(name, source, writers)]
    assert found == []


def test_released_is_made_in_the_exchange_alone():
    rooms = ("audit", "service", "api", "cli", "specialists", "engine")
    assert [found for name, source in modules(*rooms) for found in releases(name, source)] == []


def test_services_hand_out_answers_as_released_only():
    exempt = {"service/requests.py"}  # makes them; what is public there is checked below by name
    found = [line for name, source in modules("service") if name not in exempt for line in unreleased(name, source)]
    assert found == []
    from appliance.service import requests

    assert requests.answer.__annotations__["return"] == "Released[Answer]"


@pytest.mark.parametrize(
    "line",
    [
        "def f(x): return deidentify_response(x, receipt, 'label')",
        "async def f(a): return run_response(await finish(a), receipt)",
        "def f(): return run_response(Answer(ref), receipt)",
        "async def f(a):\n    found = await work(a)\n    return span_bodies(found.value)",
        "async def f(appliance, x):\n    return await appliance.engine.encode('s', x)",
        "def f(text, spans): print(redact(text, spans, 'label', b''))",
        "def f(value): return Released(value, receipt)",
    ],
)
def test_the_rules_bite(line):
    assert offences("api/forged.py", line, answer_writers())


def test_a_released_value_needs_the_receipt_of_its_own_record():
    for receipt in (None, "a receipt", object()):
        with pytest.raises(TypeError):
            Released("answer", receipt)
    for seq, size, checkpoint in ((5, 5, "note"), (-1, 5, "note"), (1, 5, "")):
        with pytest.raises(ValueError, match="does not cover"):
            release("answer", Receipt(bytes(16), seq, bytes(32), size, (), checkpoint))


# --- a store that fails -----------------------------------------------------------------------------------------------


class UnreliableLog:
    """Records and says so; or records and raises; or raises; or hangs until it is cancelled."""

    def __init__(self, chance):
        self._chance = chance
        self.contents = []

    async def append(self, event):
        await asyncio.sleep(0)
        fate = self._chance.random()
        if fate < 0.75 or 0.80 < fate < 0.87:
            self.contents.append(event.content)
        await asyncio.sleep(0)
        if fate < 0.75:
            return Receipt(event.record_id, len(self.contents) - 1, bytes(32), len(self.contents), (), "note")
        if fate > 0.97:
            raise RuntimeError("not even an error of the log")
        raise AuditUnavailable("the store failed")

    def require_space(self):
        """There is room."""


async def one_exchange(chance, log, shown):
    """An exchange that streams or answers at once, and may be cancelled anywhere; `shown` gets what is released."""
    principal = Principal("user:7", "ana", "user", frozenset())
    pieces = [chance.randbytes(8) for _ in range(chance.randrange(1, 5))]

    async def made():
        for piece in pieces:
            await asyncio.sleep(0)
            yield piece

    async with recorded_exchange(log, principal, "specialist.run", {}) as exchange:
        if chance.random() < 0.5:
            async for released in stream_exchange(exchange, b"request", {}, made()):
                if isinstance(released.value, bytes):
                    shown.append(released.value)
            return
        await exchange.open(b"request", {})
        released = await exchange.close(pieces[0], pieces[0], {})
        shown.append(released.value)


def test_what_an_exchange_releases_over_an_unreliable_store_was_recorded():
    print("seed", SEED)
    chance = random.Random(SEED)

    async def run():
        released = failed = 0
        for _ in range(600):
            log, shown = UnreliableLog(chance), []
            task = asyncio.ensure_future(one_exchange(chance, log, shown))
            for _ in range(chance.choice((100, 100, chance.randrange(12)))):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except (ApplianceError, RuntimeError, asyncio.CancelledError):
                failed += 1
            recorded = list(log.contents)
            for piece in shown:
                assert piece in recorded, f"seed {SEED}"
                recorded.remove(piece)
            released += len(shown)
        return released, failed

    released, failed = asyncio.run(run())
    assert released > 100 and failed > 100, (released, failed)


# --- the wire ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(home_template, tmp_path):
    folder = tmp_path / "site"
    shutil.copytree(home_template, folder, copy_function=link_or_copy)
    configure(folder)
    with running_site(folder, tmp_path) as site:
        yield site


def ask_and_hang_up(site, seed, *, never=False):
    """One request that is broken off somewhere, or `never`; returns the bytes that came back until then."""
    chance = random.Random(seed)
    note = json.dumps({"text": f"Note {seed}: call a{seed}@example.org or b{seed}@example.net"}).encode()
    host, port = site.url.removeprefix("http://").split(":")
    cookies = "; ".join(f"{name}={value}" for name, value in site.client.cookies.items())
    head = (
        f"POST /v1/deidentify HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookies}\r\n"
        f"X-CSRF-Token: {site.client.headers['X-CSRF-Token']}\r\nContent-Type: application/json\r\n"
        "Connection: close\r\n"
        f"Content-Length: {len(note)}\r\n\r\n"
    ).encode()
    request = head + note
    sent = chance.choice((len(request), len(request), len(request), chance.randrange(len(request))))
    wanted = chance.choice((0, 1, 200, 600, 900, 100_000))
    if never:
        sent, wanted = len(request), 100_000
    received = bytearray()
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        connection.sendall(request[:sent])
        # Who asked for all of it and waits is patient: a slow machine answers, too.
        patience = 60 if sent == len(request) else 0.5
        connection.settimeout(patience if never else chance.choice((0.001, 0.005, 0.02, patience)))
        try:
            while len(received) < wanted and (piece := connection.recv(wanted - len(received))):
                received += piece
        except TimeoutError:
            pass
    return bytes(received)


def recorded_answers(home):
    """The text of every answer in the log, by record id."""
    reader = LogReader(home, open_keystore(home, read_root_key(home.root_key_file)))
    try:
        found = {}
        for view in reader.records(limit=100_000, event="specialist.deidentify"):
            if view.outcome == "completed":
                found[view.record_id] = json.loads(reader.content(bytes.fromhex(view.record_id)))["text"]
        return found
    finally:
        reader.close()


def hunt(site, count):
    print("seed", SEED)
    with ThreadPoolExecutor(CLIENTS_AT_ONCE) as pool:
        # Of so many some hear the whole answer, unless the machine is so slow that none is patient enough: but for one.
        captured = list(pool.map(lambda n: ask_and_hang_up(site, SEED + n, never=n == 0), range(count)))
    home = Home(site.home)
    start = _start(load_config(home.root), open_keystore(home, read_root_key(home.root_key_file)))
    assert verdict(start, None, site.home.parent) == 0
    answers = recorded_answers(home)
    whole = part = 0
    for received in captured:
        head, _, body = received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200") or not body:
            continue
        # The text is the first field; of an answer that was cut, what arrived of it must be a beginning of a record.
        shown = re.match(r'\{"text":"((?:[^"\\]|\\.)*)("?)', body.decode(errors="ignore"))
        if shown is None:
            assert b'{"text":"'.startswith(body[:9]), body[:60]
            continue
        text = json.loads(f'"{shown[1]}"')
        if shown[2]:
            assert text in answers.values(), "an answer left that no record holds"
            if receipt := re.search(rb'"receipt":\{"record_id":"([0-9a-f]{32})"', body):
                assert answers[receipt[1].decode()] == text
            whole += 1
        else:
            assert any(answer.startswith(text) for answer in answers.values())
            part += 1
    print(f"{count} clients: {whole} got a whole text, {part} a part of one, all of them recorded ({len(answers)})")
    assert whole and len(answers) >= whole


def test_clients_that_hang_up_got_nothing_that_is_not_recorded_sample(site):
    hunt(site, 100)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_ten_thousand_clients_that_hang_up_got_nothing_that_is_not_recorded(site):
    hunt(site, 10_000)
