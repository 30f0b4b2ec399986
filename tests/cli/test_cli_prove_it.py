"""The commands under "Prove it" in the README do what they say, typed as they stand there, in a fresh data folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.e2e.sites import configure

VERIFIER = ROOT / "appliance" / "audit" / "auditverify.py"


def block() -> list[str]:
    section = (ROOT / "README.md").read_text().partition("## Prove it")[2]
    lines = re.search(r"```sh\n(.*?)```", section, re.S)[1].splitlines()
    return [line for line in lines if line.strip()]


def test_what_the_readme_proves_is_proven(home, tmp_path):
    configure(home.root)
    place = tmp_path / "auditor"
    place.mkdir()
    shutil.copyfile(VERIFIER, place / "auditverify.py")
    (place / "note.txt").write_text("Seen by Ana Lima, ana@example.org")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    known = {**os.environ, "PATH": path, "APPLIANCE_HOME": str(home.root)}
    commands = block()
    assert len(commands) == 6
    for command in commands:
        done = subprocess.run(command, shell=True, cwd=place, env=known, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, (command, done.stdout[-500:], done.stderr[-500:])
    assert (place / "note.tlog-proof").read_text().startswith("c2sp.org/tlog-proof@v1\n")
