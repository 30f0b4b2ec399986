"""One offline bundle and one finished installation for the whole run; see `install_site.py`."""

from pathlib import Path

import pytest

from tests.install.install_site import Site, write_wheelhouse

LONGEST_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Installing takes seconds, and minutes on a busy machine: a test that does it a few times is given a quarter of an
    hour, unless it says otherwise."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONGEST_S))


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
