"""Installed by root for a user of its own: that user writes nothing of the program, and nobody else reads the data.

Needs root. Nothing here belongs to the test's own folder, which nobody else may enter.
"""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from tests.install.install_site import Site, write_wheelhouse

USER = "nobody"


@pytest.fixture(scope="module")
def place():
    assert os.geteuid() == 0, "installing for another user needs root"
    with tempfile.TemporaryDirectory(prefix="cloister-rights-") as name:
        folder = Path(name)
        folder.chmod(0o777)  # where the stand-in says what it was asked
        site = Site(folder, write_wheelhouse(folder / "wheels"))
        done = site.run("install", "--yes", "--user", USER)
        assert done.returncode == 0, done.stdout + done.stderr
        yield site


def everything(folder):
    return [folder, *folder.rglob("*")]


def test_the_server_can_write_nothing_of_the_program(place):
    writable = [
        path
        for path in everything(place.prefix)
        if not path.is_symlink() and (path.stat().st_mode & stat.S_IWOTH or path.owner() == USER)
    ]
    assert writable == []


def test_it_can_read_what_it_runs(place):
    current = (place.prefix / "current").resolve() / "venv"
    closed = [path for path in everything(current) if not path.is_symlink() and not path.stat().st_mode & stat.S_IROTH]
    assert closed == []


def test_the_data_belongs_to_it_and_nobody_else_may_enter(place):
    assert {path.owner() for path in everything(place.data)} == {USER}
    assert stat.S_IMODE(place.data.stat().st_mode) == 0o700


def test_what_is_for_root_alone_is_closed_to_everybody_else(place):
    for path in [place.prefix / "next-steps.txt", *(place.prefix / "logs").iterdir()]:
        assert path.owner() == "root" and stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
