"""The systemd unit confines the server to its data folder and this machine. Where systemd's own tools are, they find no
fault in it and score its exposure at most 2.0, the acceptance value.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.install.install_site import Site

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def unit(site: Site) -> str:
    done = site.run("unit", "--port", "9000")
    assert done.returncode == 0, done.stderr
    return done.stdout


def settings(unit: str) -> set[str]:
    return {line for line in unit.splitlines() if re.match(r"[A-Z]\w+=", line)}


def test_the_server_may_write_its_data_folder_only(site: Site, unit: str) -> None:
    assert {"ProtectSystem=strict", f"ReadWritePaths={site.data}", f"ReadOnlyPaths={site.prefix}"} <= settings(unit)
    assert unit.count("ReadWritePaths=") == 1


def test_the_server_reaches_this_machine_only(unit: str) -> None:
    assert {"IPAddressDeny=any", "IPAddressAllow=localhost"} <= settings(unit)


def test_the_current_release_is_started_on_the_chosen_port(site: Site, unit: str) -> None:
    start = f"ExecStart={site.prefix}/current/venv/bin/appliance serve --port 9000 --no-setup-link"
    assert start in settings(unit)


def test_the_one_time_link_never_reaches_the_journal(unit: str) -> None:
    assert "--no-setup-link" in unit


@needs_systemd
def test_systemd_finds_no_fault_and_little_exposure(unit: str, tmp_path: Path) -> None:
    path = tmp_path / "cloister.service"
    path.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/sh", unit))  # the release is not installed here
    checked = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert "cloister.service" not in checked.stderr, checked.stderr
    scored = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert float(re.search(r"exposure level for \S+ (\d+\.\d)", scored.stdout)[1]) <= 2.0


@needs_systemd
@pytest.mark.parametrize("options", [("--backup-dir", "/mnt/backups"), ("--allow-to", "10.20.0.0/16")])
def test_every_unit_is_scored(site: Site, tmp_path: Path, options: tuple[str, ...]) -> None:
    for verb, name in (("unit", "cloister.service"), ("firewall-unit", "cloister-firewall.service")):
        path = tmp_path / name
        path.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/sh", site.run(verb, *options).stdout))
        scored = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", path], capture_output=True, text=True
        )
        assert float(re.search(r"exposure level for \S+ (\d+\.\d)", scored.stdout)[1]) <= 2.0, scored.stdout


def test_a_backup_folder_is_the_only_other_place_that_is_written(site: Site) -> None:
    unit = site.run("unit", "--backup-dir", "/mnt/backups").stdout
    assert "ReadWritePaths=-/mnt/backups" in settings(unit) and unit.count("ReadWritePaths=") == 2
