"""HTTPS from one command: a server with a certificate of the site's own authority, believed by who trusts that, told to
stay with TLS, and served to the site's own networks only.
"""

import asyncio
import json
import re
import ssl
import subprocess
import sys
from datetime import UTC, datetime

import httpx
import pytest

from appliance.cli.client_networks import OnlyFrom
from appliance.crypto.certificates import make_authority
from tests.conftest import ANSWER_S, follow, run_appliance, stop_server

QUICK = '[engine]\nbackend = "echo"\nthreads = 1\n[server]\nui = false\n'


def test_a_server_with_a_certificate_of_its_own_speaks_tls_alone(home, tmp_path):
    home.config_file.write_text(QUICK)
    made = run_appliance("tls", "create", "localhost", "127.0.0.1", "--json", home=home.root)
    assert made.returncode == 0, made.stderr
    fingerprint = json.loads(made.stdout)["fingerprint"]
    assert fingerprint in run_appliance("tls", "show", home=home.root).stdout.decode()
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (home.root / "tls").iterdir())
    log = tmp_path / "log"
    command = [sys.executable, "-m", "appliance", "serve", "--port", "0", "--no-setup-link", "--home", str(home.root)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        url = next(found[1] for line in follow(log, process) if (found := re.search(r"at (https://\S+)", line)))
        trusted = ssl.create_default_context(cafile=home.root / "tls" / "authority.pem")
        answer = httpx.get(f"{url}/healthz", verify=trusted, trust_env=False, timeout=ANSWER_S)
        assert answer.status_code == 200 and answer.headers["strict-transport-security"] == "max-age=31536000"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{url}/healthz", trust_env=False, timeout=ANSWER_S)  # known to no authority of the system
        with pytest.raises(httpx.HTTPError):
            httpx.get(url.replace("https", "http") + "/healthz", trust_env=False, timeout=ANSWER_S)
        assert stop_server(process) == 0
    finally:
        process.kill()
        process.wait()


def test_the_firms_certificate_must_fit_its_key_and_name_a_host(home, tmp_path):
    home.config_file.write_text(QUICK)
    for folder in ("one", "two"):
        other = tmp_path / folder
        assert run_appliance("tls", "create", f"{folder}.example", home=home.root).returncode == 0
        other.mkdir()
        for path in (home.root / "tls").iterdir():
            (other / path.name).write_bytes(path.read_bytes())
    mixed = run_appliance(
        "tls", "use", str(tmp_path / "one/server.pem"), str(tmp_path / "two/server.key"), home=home.root
    )
    assert mixed.returncode == 4 and b"not the one of this certificate" in mixed.stderr
    authority = make_authority("Ward 3", ["one.example"], now=datetime.now(UTC), days=9)
    nameless = tmp_path / "nameless.pem", tmp_path / "nameless.key"
    for path, text in zip(nameless, (authority.certificate, authority.key), strict=True):
        path.write_text(text)
    refused = run_appliance("tls", "use", *map(str, nameless), home=home.root)
    assert refused.returncode == 4 and b"names no host" in refused.stderr
    taken = run_appliance(
        "tls", "use", str(tmp_path / "one/server.pem"), str(tmp_path / "one/server.key"), home=home.root
    )
    assert taken.returncode == 0 and b"one.example" in taken.stdout
    assert b"neither a host nor" in run_appliance("tls", "create", "a b", home=home.root).stderr


def asked_from(client, networks=("10.20.0.0/16", "fd00::/8"), kind="http", secure=False):
    """Status and headers of an answer to a client with that address."""
    sent = []

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    asyncio.run(OnlyFrom(application, networks, secure=secure)({"type": kind, "client": client}, None, send))
    return sent[0].get("status", sent[0]["type"]), dict(sent[0].get("headers", ()))


@pytest.mark.parametrize(
    ("client", "status"),
    [
        (("10.20.3.4", 5), 200), (("fd00::1", 5), 200), (("::ffff:10.20.0.1", 5), 200), (None, 200),
        (("10.21.0.1", 5), 403), (("203.0.113.9", 5), 403), (("2001:db8::1", 5), 403), (("nonsense", 5), 403),
    ],
)  # fmt: skip
def test_only_networks_of_the_site_are_served(client, status):
    assert asked_from(client)[0] == status
    assert (asked_from(client, kind="websocket")[0] == "websocket.close") == (status == 403)


def test_browsers_are_told_to_stay_with_tls_only_where_there_is_some():
    assert b"strict-transport-security" in asked_from(None, secure=True)[1]
    assert b"strict-transport-security" not in asked_from(None)[1]
