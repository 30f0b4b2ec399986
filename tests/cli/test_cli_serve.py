"""The listening socket of `appliance serve`: bound before anything slow starts, and answering without delay."""

import dataclasses
import socket

import pytest

from appliance.cli.serve import _bound, allowed_addresses
from appliance.config import ServerConfig, SiemConfig, WitnessConfig, load_config
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
def test_only_the_configured_siem_and_witness_may_be_reached_beyond_this_machine(tmp_path, url, address):
    config = load_config(tmp_path)
    assert allowed_addresses(config) == frozenset()
    named = dataclasses.replace(config, siem=SiemConfig(host="siem.example"), witness=WitnessConfig(url=url))
    assert allowed_addresses(named) == {("siem.example", 6514), address}
