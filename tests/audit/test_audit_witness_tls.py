"""A witness on a real port is reached by TLS under the configured authority, and by nothing less."""

import asyncio
import threading
from contextlib import contextmanager

import pytest
import uvicorn
from audit_home import WAIT_S
from siem_server import make_certificate
from witness_log import SmallLog
from witness_service import running_witness

from appliance.api.witness import create_witness_app
from appliance.audit.witness_client import Cosigned, Unreachable, WitnessClient


class Listener(uvicorn.Server):
    """Says when it listens; leaves the signals of the test's process alone."""

    def __init__(self, config):
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.listens.set()

    @contextmanager
    def capture_signals(self):
        yield

    @property
    def port(self):
        return self.servers[0].sockets[0].getsockname()[1]


@contextmanager
def served(application, **tls):
    listener = Listener(uvicorn.Config(application, port=0, lifespan="off", log_level="error", **tls))
    thread = threading.Thread(target=listener.run)
    thread.start()
    try:
        assert listener.listens.wait(WAIT_S)
        yield listener.port
    finally:
        listener.should_exit = True
        thread.join(WAIT_S)
        assert not thread.is_alive()


class View:
    log = SmallLog().grow(9)

    def checkpoint(self):
        return self.log.note()

    def consistency(self, old, size):
        return self.log.proof(old, size)


def patient(settings):
    """Nothing here is about a time limit, which a busy machine would reach."""
    return settings.model_copy(update={"timeout_s": WAIT_S})


def submit(settings):
    async def run():
        client = WitnessClient(patient(settings))
        try:
            return await client.submit(View())
        finally:
            await client.close()

    return asyncio.run(run())


@pytest.fixture
def witness(tmp_path):
    with running_witness(tmp_path / "witness", View.log.key) as running:
        yield running


def test_the_authority_decides(witness, tmp_path):
    ours, other = make_certificate(tmp_path, "authority"), make_certificate(tmp_path, "other")
    server = make_certificate(tmp_path, "witness-tls", issuer=ours, hosts=("127.0.0.1",))
    tls = {"ssl_certfile": server.certificate, "ssl_keyfile": server.key}
    with served(create_witness_app(witness.witness), **tls) as port:

        def ask(host, authority):
            changes = {"url": f"https://{host}:{port}", "ca_certificate": authority}
            return submit(witness.settings.model_copy(update=changes))

        assert isinstance(ask("127.0.0.1", ours.certificate), Cosigned)
        for host, authority in (("127.0.0.1", other.certificate), ("127.0.0.1", None), ("localhost", ours.certificate)):
            verdict = ask(host, authority)
            assert isinstance(verdict, Unreachable)
            assert "certificate" in verdict.reason.lower()
        plain = submit(witness.settings.model_copy(update={"url": f"http://127.0.0.1:{port}"}))
        assert isinstance(plain, Unreachable)


def test_a_connection_is_used_again_and_ends_with_the_witness(witness):
    async def twice(settings, stop):
        client = WitnessClient(patient(settings))
        try:
            first = [await client.submit(View()) for _ in range(3)]
            await asyncio.to_thread(stop)
            return first, await client.submit(View())
        finally:
            await client.close()

    serving = served(create_witness_app(witness.witness))
    port = serving.__enter__()
    settings = witness.settings.model_copy(update={"url": f"http://127.0.0.1:{port}"})
    first, last = asyncio.run(twice(settings, lambda: serving.__exit__(None, None, None)))
    assert [type(verdict) for verdict in first] == [Cosigned] * 3
    assert isinstance(last, Unreachable)
