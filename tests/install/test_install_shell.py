"""The shell code is clean: shellcheck finds nothing, not even of style, in the installer and in the tests' set-up."""

import subprocess
import sys
from pathlib import Path

from tests.install.install_site import SCRIPT

ROOT = SCRIPT.parent
SCRIPTS = [
    SCRIPT,
    ROOT / ".ci" / "run",
    ROOT / ".ci" / "wheelhouse",
    ROOT / ".ci" / "gpu-pack",
    *sorted((ROOT / "tests" / "setup").glob("*.sh")),
]


def test_shellcheck_finds_nothing():
    shellcheck = Path(sys.executable).with_name("shellcheck")
    assert shellcheck.exists(), "shellcheck is missing: it comes with the extra `dev`"
    done = subprocess.run([shellcheck, *SCRIPTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_installer_is_read_by_a_plain_shell():
    assert subprocess.run(["sh", "-n", SCRIPT]).returncode == 0
