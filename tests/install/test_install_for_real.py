"""The product itself, installed from this checkout as a newcomer does it: packages from the index or pip's cache, the
base model from wherever it can be had. What comes out works, and leaves without a trace. Minutes: `make test-long`.
"""

import getpass
import json
import subprocess
from pathlib import Path

import pytest

from tests.install.install_site import PURGE, SCRIPT, snapshot


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_an_installation_of_this_checkout_is_well_and_leaves_without_a_trace(tmp_path: Path) -> None:
    checkout = snapshot(SCRIPT.parent / "appliance")
    prefix, data = tmp_path / "program", tmp_path / "data"
    options = ["--prefix", prefix, "--data-dir", data, "--user", getpass.getuser(), "--no-service", "--port", "8944"]
    subprocess.run(["sh", SCRIPT, "install", "--yes", *options], check=True)
    assert snapshot(SCRIPT.parent / "appliance") == checkout  # building left nothing in it

    appliance = prefix / "bin" / "appliance"
    verdict = subprocess.run([appliance, "audit", "verify", "--json"], capture_output=True, check=True)
    assert json.loads(verdict.stdout)["records"] > 0
    link = subprocess.run([appliance, "users", "setup-link"], capture_output=True, text=True, check=True)
    assert link.stdout.startswith("/setup#")

    again = subprocess.run(["sh", SCRIPT, "install", *options], capture_output=True, text=True, check=True)
    assert "no change" in again.stdout
    remove = ["sh", prefix / "install.sh", "uninstall", "--prefix", prefix, *PURGE]
    subprocess.run(remove, check=True)
    assert snapshot(tmp_path) == {}
