"""A data folder with keys and tables, copied for each test."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

import migrations
from appliance.audit.keystore import create_keystore
from appliance.audit.root_key import create_root_key, read_root_key
from appliance.config import Home
from appliance.storage.database import open_database
from tests.audit.audit_recorded import Recorded, record_ten_thousand


@pytest.fixture(autouse=True)
def _patient_keystore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many take turns at one keystore here, and on a slow disk each turn is long: no fault of those who wait."""
    monkeypatch.setattr("appliance.audit.key_slots.open_database", partial(open_database, busy_s=60.0))


@pytest.fixture(scope="session")
def _first_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = Home(tmp_path_factory.mktemp("home"))
    for folder in home.folders():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    migrations.upgrade(home.root)
    create_keystore(home, create_root_key(home.root_key_file), origin="clinic.example/audit")
    return home.root


@pytest.fixture
def home(_first_home: Path, tmp_path: Path) -> Home:
    """A data folder of its own, with an empty log."""
    root = tmp_path / "home"
    shutil.copytree(_first_home, root)
    return Home(root)


@pytest.fixture
def root_key(home: Home) -> bytes:
    return read_root_key(home.root_key_file)


@pytest.fixture(scope="session")
def recorded(_first_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Ten thousand records and what left the machine meanwhile; attack a copy."""
    folder = tmp_path_factory.mktemp("recorded")
    return record_ten_thousand(Home(shutil.copytree(_first_home, folder / "home")), folder)
