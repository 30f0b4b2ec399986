"""A connection says what the other side has and how it ended; it speaks TLS 1.2 or later and checks who answers."""

import asyncio
import select
import ssl

import pytest
from siem_server import WAIT_S, Siem, make_certificate, running_siem, until

from appliance.audit.siem_connection import PeerGone, connect, context_of
from appliance.config import SiemConfig


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    authority = make_certificate(folder, "authority")
    return make_certificate(folder, "server", issuer=authority, hosts=("localhost",)), authority


def context(server):
    return context_of(SiemConfig(host="localhost", ca_certificate=server[1].certificate))


def test_a_certificate_is_always_checked_and_old_tls_is_not_spoken(server):
    made = context(server)
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert made.minimum_version == ssl.TLSVersion.TLSv1_2
    assert len(made.get_ca_certs()) == 1, "only the authority that was named"


def test_what_was_sent_arrives(server):
    async def run():
        async with running_siem(server[0]) as siem:
            connection = await connect("localhost", siem.port, context(server), timeout_s=WAIT_S)
            await connection.send(b"5 hello3 abc")
            await connection.confirmed(timeout_s=WAIT_S, survive_s=0.01)
            await connection.close()
            await until(lambda: len(siem.messages) == 2)
            assert siem.messages == [b"hello", b"abc"]

    asyncio.run(run())


def is_stuck(connection):
    """Whether the kernel takes nothing more and the other side's has not taken what there is."""
    return not select.select([], [connection._stream], [], 0)[1] and connection._unacknowledged() > 0


def test_bytes_that_nobody_reads_are_not_confirmed(server):
    async def run():
        async with running_siem(server[0]) as siem:
            siem.reading.clear()
            connection = await connect("localhost", siem.port, context(server), timeout_s=WAIT_S)

            async def send_for_ever():
                while True:
                    await connection.send(b"x" * 65536)

            sending = asyncio.create_task(send_for_ever())
            # The server is in this loop as well: until its own buffer is full, it reads in some of these turns.
            turns = 0
            async with asyncio.timeout(WAIT_S):
                while turns < 100:
                    await asyncio.sleep(0.001)
                    turns = turns + 1 if is_stuck(connection) else 0
            with pytest.raises(TimeoutError):
                await connection.confirmed(timeout_s=0.1, survive_s=0.0)
            sending.cancel()
            await asyncio.wait({sending})
            assert sending.cancelled()
            await connection.close()
            siem.reading.set()

    asyncio.run(run())


def test_an_ended_connection_confirms_nothing(server):
    async def run():
        async with running_siem(server[0], siem=Siem(end_after=[1])) as siem:
            connection = await connect("localhost", siem.port, context(server), timeout_s=WAIT_S)
            await connection.send(b"1 a")
            with pytest.raises(PeerGone, match="ended the connection"):
                await connection.confirmed(timeout_s=WAIT_S, survive_s=WAIT_S)
            with pytest.raises(PeerGone):
                await connection.send(b"1 b")
            await connection.close()

    asyncio.run(run())


def test_a_server_that_speaks_no_tls_is_an_error_within_the_time_limit(server):
    async def run():
        async def plain(reader, writer):
            writer.write(b"220 hello, this is not TLS\r\n")
            await reader.read(1)
            writer.close()

        listening = await asyncio.start_server(plain, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(OSError):
            await connect("localhost", port, context(server), timeout_s=WAIT_S)
        listening.close()

    asyncio.run(run())
