"""The server's task: nothing where no SIEM is configured, and gone with the server where one is."""

import asyncio
import dataclasses

import pytest

from appliance.config import SiemConfig, load_config
from appliance.errors import ConfigInvalid
from appliance.service.siem import streaming_to_siem


class EmptyLog:
    """A log that cannot be read yet: the stream waits for it and nothing else does."""

    def cursors(self):
        return {}

    def checkpoint(self):
        return "x.example/audit/y/e1\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— x\n"

    def read_page(self, first_seq, limit):
        return []

    async def move_cursor(self, sink, next_seq, anchored_size, anchored_ms):
        raise AssertionError("nothing was sent")


def config_of(tmp_path, **siem):
    return dataclasses.replace(load_config(tmp_path), siem=SiemConfig(**siem))


def test_without_a_siem_there_is_no_stream(tmp_path):
    async def run():
        async with streaming_to_siem(config_of(tmp_path), EmptyLog()) as stream:
            assert stream is None
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_the_stream_ends_with_the_block_even_while_the_siem_is_away(tmp_path):
    async def run():
        async with streaming_to_siem(config_of(tmp_path, host="127.0.0.1", port=1), EmptyLog()) as stream:
            async with asyncio.timeout(60):
                while stream.problem is None:
                    await asyncio.sleep(0.005)
            assert "cannot be reached" in stream.problem
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_certificates_that_cannot_be_used_stop_the_start(tmp_path):
    async def run():
        config = config_of(tmp_path, host="siem.example", ca_certificate=tmp_path / "absent.pem")
        async with streaming_to_siem(config, EmptyLog()):
            raise AssertionError("it started")

    with pytest.raises(ConfigInvalid, match="ca_certificate"):
        asyncio.run(run())
