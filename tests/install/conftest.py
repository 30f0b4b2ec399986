"""One offline bundle and one finished installation for the whole run; see `install_site.py`."""

from pathlib import Path

import pytest

from tests.install.install_site import Site, write_wheelhouse


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wheelhouse(tmp_path_factory.mktemp("offline") / "wheels")


@pytest.fixture
def site(tmp_path: Path, wheels: Path) -> Site:
    return Site(tmp_path, wheels)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Site:
    """One finished installation for tests that change nothing in it."""
    site = Site(tmp_path_factory.mktemp("installed"), wheels)
    done = site.run("install", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    return site
