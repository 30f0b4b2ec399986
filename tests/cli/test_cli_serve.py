"""The listening socket of `appliance serve`: bound before anything slow starts, and answering without delay."""

import asyncio
import contextlib
import dataclasses
import socket
from types import SimpleNamespace

import pytest

from appliance.cli.serve import _announce, _bound, allowed_addresses, site_settings
from appliance.config import ServerConfig, SiemConfig, SpecialistsConfig, UpstreamConfig, WitnessConfig, load_config
from appliance.errors import AuditUnavailable, ConfigInvalid
from appliance.service import accounts


def test_connections_do_not_wait_for_the_clients_acknowledgement():
    with _bound(ServerConfig(port=0)) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_port_in_use_is_refused_by_name():
    with _bound(ServerConfig(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigInvalid, match=f"127.0.0.1:{port}"):
            _bound(ServerConfig(port=port))


def test_a_log_that_takes_no_link_does_not_keep_anybody_from_finding_the_server(tmp_path, monkeypatch, capsys):
    async def no_link(*_rooms):
        raise AuditUnavailable("the audit log did not answer within 5 s")

    monkeypatch.setattr(accounts, "create_setup_link", no_link)
    config = load_config(tmp_path)
    config.home.runtime.mkdir(parents=True)
    place = config.home.runtime / "server.json"
    rooms = SimpleNamespace(config=config, accounts=SimpleNamespace(has_administrator=lambda: False), audit=None)

    async def announce():
        with _bound(ServerConfig(port=0)) as address:
            listener = SimpleNamespace(started=True, servers=[SimpleNamespace(sockets=[address])])
            announcing = asyncio.create_task(_announce(listener, rooms, config.server, setup_link=True))
            said = ""
            async with asyncio.timeout(60):
                while "no link was made" not in said and not announcing.done():
                    await asyncio.sleep(0)
                    said += capsys.readouterr().err
            assert not announcing.done() and place.exists()
            announcing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await announcing
        return said

    assert "appliance users setup-link" in asyncio.run(announce())
    assert not place.exists()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://witness.example/audit", ("witness.example", 443)),
        ("http://10.1.2.3:8080", ("10.1.2.3", 8080)),
        ("https://[2001:db8::7]:8443/x", ("2001:db8::7", 8443)),
    ],
)
def test_only_configured_peers_may_be_reached_beyond_this_machine(tmp_path, url, address):
    config = load_config(tmp_path)
    assert allowed_addresses(config) == frozenset()
    named = dataclasses.replace(config, siem=SiemConfig(host="siem.example"), witness=WitnessConfig(url=url))
    assert allowed_addresses(named) == {("siem.example", 6514), address}
    neighbour = {"big": {"url": "http://vllm.site.example:8000/v1", "model": "m"}}
    writes = dataclasses.replace(config, upstream=UpstreamConfig.model_validate({"models": neighbour}))
    assert allowed_addresses(writes) == {("vllm.site.example", 8000)}


def test_a_page_takes_files_as_large_as_the_configuration_lets_the_api_take(tmp_path):
    config = load_config(tmp_path)
    raised = dataclasses.replace(config, specialists=SpecialistsConfig(file_bytes_max=2**30))
    assert config.specialists.file_bytes_max < site_settings(config, config.server).upload_bytes_max < 2**27
    assert 2**30 < site_settings(raised, config.server).upload_bytes_max < 2**30 + 2**20
