"""The listening socket of `appliance serve`: bound before anything slow starts, and answering without delay."""

import socket

import pytest

from appliance.cli.serve import _bound
from appliance.config import ServerConfig
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
