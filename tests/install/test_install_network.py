"""Who reaches the server, and over what: a certificate for the name that browsers type, the networks that they are in,
in the unit and in the configuration; told once, kept by later runs. Without them it serves its own machine.
"""

import os
import pty
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from appliance.config import ServerConfig
from tests.install.install_site import Site, snapshot

NAME, NETWORK = "ward3.clinic.example", "10.20.0.0/16"
SERVED = ("--host", NAME, "--allow-from", NETWORK)


def server_settings(site: Site) -> ServerConfig:
    return ServerConfig(**tomllib.loads((site.data / "config.toml").read_text())["server"])


def allowed(site: Site, *options: str) -> list[str]:
    return re.search(r"^IPAddressAllow=(.*)$", site.run("unit", *options).stdout, re.MULTILINE)[1].split()


def test_a_name_and_a_network_make_https_for_that_network(site: Site) -> None:
    done = site.run("install", "--yes", *SERVED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.calls()[:3] == ["init --if-missing", f"tls create {NAME}", "doctor"]
    server = server_settings(site)
    assert (server.host, server.public_hosts) == ("0.0.0.0", (NAME,))
    assert server.client_networks == ("127.0.0.0/8", "::1/128", NETWORK)
    steps = (site.prefix / "next-steps.txt").read_text()
    assert f"https://{NAME}:8943" in steps
    assert "SHA-256 AB:CD" in steps
    assert f"for its browsers: {site.data}/tls/authority.pem" in steps

    before = snapshot(site.folder)
    again = site.run("install")  # told nothing, it keeps what it was told
    assert "no change" in again.stdout, again.stdout + again.stderr
    assert snapshot(site.folder) == before
    assert allowed(site) == ["localhost", NETWORK]
    assert allowed(site, "--allow-from", "10.21.0.0/16") == ["localhost", "10.21.0.0/16"]


def test_an_address_that_the_server_may_reach_is_let_by_the_unit_too(site: Site) -> None:
    assert allowed(site) == ["localhost"]
    assert allowed(site, "--allow-to", "10.30.0.5/32") == ["localhost", "10.30.0.5/32"]


def test_a_configuration_that_the_site_changed_stays_and_the_new_one_lies_beside_it(site: Site) -> None:
    assert site.run("install", "--yes", *SERVED).returncode == 0
    config = site.data / "config.toml"
    made = config.read_text()
    assert site.run("install", "--yes", "--allow-from", "10.22.0.0/16").returncode == 0
    assert "10.22.0.0/16" in config.read_text()  # it was still as it had been made
    config.write_text("# ours\n" + made)
    done = site.run("install", "--yes", "--allow-from", "10.23.0.0/16")
    assert done.returncode == 0, done.stderr
    assert config.read_text() == "# ours\n" + made
    assert "10.23.0.0/16" in (site.data / "config.toml.new").read_text()
    assert "is yours and stays" in done.stdout


def test_the_firms_certificate_is_taken_and_taken_once(site: Site, tmp_path: Path) -> None:
    firm = tmp_path / "firm"
    firm.mkdir()
    (firm / "a.pem").write_text("the firm's")
    (firm / "a.key").write_text("its key")
    options = (*SERVED, "--tls-cert", str(firm / "a.pem"), "--tls-key", str(firm / "a.key"))
    assert site.run("install", "--yes", *options).returncode == 0
    assert (site.data / "tls" / "server.pem").read_text() == "the firm's"
    assert not [call for call in site.calls() if call.startswith("tls create")]
    assert not (site.prefix / "tmp").exists()  # no copy of the key stays
    for told in (options, ()):  # a later run knows the name and not the files: what is there stays
        again = site.run("install", *told)
        assert "no change" in again.stdout, again.stdout


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--allow-from", NETWORK), "--allow-from without --host"),
        (("--host", NAME, "--allow-from", "8.8.8.0/24"), "8.8.8.0/24: not a network of the inside"),
        (("--host", NAME, "--allow-from", "0.0.0.0/0"), "not a network of the inside"),
        (("--host", NAME, "--allow-from", "10.20.0.1/16"), "10.20.0.1/16: no network (10.20.0.1/16 has host bits set)"),
        (("--allow-to", "10.30.0.5", "--allow-to", "999.1.1.1"), "999.1.1.1: neither an address nor a network"),
        (("--tls-cert", "/nowhere/a.pem", "--tls-key", "/nowhere/a.key"), "/nowhere/a.pem cannot be read"),
    ],
)
def test_what_cannot_be_served_fails_before_anything_is_touched(
    site: Site, options: tuple[str, ...], complaint: str
) -> None:
    done = site.run("install", "--yes", *options)
    assert done.returncode == 3
    assert re.search(rf"^FAIL  .*{re.escape(complaint)}\n      \S", done.stdout, re.MULTILINE), done.stdout
    assert snapshot(site.folder) == {}


def test_at_a_terminal_it_asks_three_questions_and_no_more(site: Site) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        terminal.write(f"{NAME}\n{NETWORK}\ny\n".encode())
        done = subprocess.run(site.command("install"), stdin=theirs, capture_output=True, text=True, cwd=site.folder)
    os.close(theirs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("type, as") + done.stdout.count("are in, as") + done.stdout.count("[y/N]") == 3
    assert server_settings(site).client_networks[-1] == NETWORK
