"""The listening socket of `appliance serve`: bound before anything slow starts, and answering without delay."""

import dataclasses
import socket

import pytest

from appliance.cli.serve import _bound, allowed_addresses, site_settings
from appliance.config import ServerConfig, SiemConfig, SpecialistsConfig, UpstreamConfig, WitnessConfig, load_config
from appliance.errors import ConfigInvalid


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
