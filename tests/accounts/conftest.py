"""A directory over a real database in a temporary folder, with a clock that only a test moves."""

from datetime import UTC, datetime, timedelta

import pytest

import migrations
from appliance.accounts.directory import Directory
from appliance.config import AccountsConfig, Home
from appliance.storage.database import open_database

PASSWORD = "four unrelated words"
CONFIG = AccountsConfig(
    argon2_time_cost=1, argon2_memory_kib=8 * 1024, argon2_parallelism=1, attempts_per_address=10_000
)


class Clock:
    """The time of a test."""

    def __init__(self):
        self.time = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)

    def __call__(self):
        return self.time

    def advance(self, **amount):
        self.time += timedelta(**amount)


class Site:
    """One site under test: its directory, and changes with fresh record ids."""

    def __init__(self, root):
        self.home = Home(root)
        migrations.upgrade(self.home.root)
        self.clock = Clock()
        self.config = CONFIG
        self.password = PASSWORD
        self.engine = open_database(self.home.database, mode="rw", busy_s=0.05)
        self.directory = Directory(self.engine, CONFIG, self.clock)
        self._records = 0

    def record_id(self):
        self._records += 1
        return self._records.to_bytes(16, "big")

    def change(self, record_id=None):
        return self.directory.change(record_id or self.record_id(), by="local:uid-0")

    def add(self, name, *roles, password=PASSWORD):
        with self.change() as change:
            account = change.create_account(name, password, roles or ("user",))
            change.commit()
        return account

    def add_key(self, owner, *scopes, name="letters", days=None):
        with self.change() as change:
            view, text = change.create_api_key(owner, name, scopes or ("specialist.run",), days)
            change.commit()
        return view, text

    def sign_in(self, name, password=PASSWORD, address="10.0.0.7"):
        return self.directory.sign_in(name, password, address)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "home")
    yield site
    site.engine.dispose()
