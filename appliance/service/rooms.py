"""Opens one room of a data folder without the others: for commands that need no engine.

    async with open_accounts(config) as (directory, log):
        await create_account(directory, log, principal, ...)

The registry's is `service/specialists.py`; the whole is opened by `service/appliance.py`. Kept apart so that a command
imports what it uses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from appliance.accounts.directory import Directory
from appliance.audit.conversations import Conversations
from appliance.audit.log import AuditLog
from appliance.audit.root_source import unlock
from appliance.config import Config
from appliance.service.home import check_home, check_marker
from appliance.service.recovery import close_abandoned
from appliance.service.unlocking import open_unlocked
from appliance.storage.database import Engine, open_database
from appliance.storage.revisions import require_current


@asynccontextmanager
async def open_log(config: Config, root_key: bytes | None = None) -> AsyncIterator[AuditLog]:
    """The audit log alone, for commands that need no engine. `root_key`: for those who unlocked the keys already."""
    await asyncio.to_thread(check_home, config.home)
    log = await open_unlocked(config, unlock(config) if root_key is None else root_key)
    try:
        await close_abandoned(config.home, log)
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def open_accounts(config: Config) -> AsyncIterator[tuple[Directory, AuditLog]]:
    """What an administrative change needs: the accounts, and the log that records it first."""
    async with open_log(config) as log:
        with open_directory(config) as directory:
            yield directory, log


@contextmanager
def open_directory(config: Config) -> Iterator[Directory]:
    """The accounts alone."""
    with open_app_database(config) as engine:
        yield Directory(engine, config.accounts)


@contextmanager
def open_conversations(config: Config, log: AuditLog) -> Iterator[Conversations]:
    """People's conversations with models that write, under keys of the log's keystore."""
    with open_app_database(config) as engine:
        yield log.conversations(engine, config.conversations)


@contextmanager
def open_app_database(config: Config) -> Iterator[Engine]:
    """The database of everything but the log, of this release's revision."""
    check_marker(config.home)
    engine = open_database(config.home.database, mode="rw")
    try:
        require_current(engine, config.home.database)
        yield engine
    finally:
        engine.dispose()
