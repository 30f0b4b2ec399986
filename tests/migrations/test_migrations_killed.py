"""An upgrade that is killed at any system call: the root is what it was, running it again completes, the log verifies.

A data folder of every earlier revision gets a log under that revision's tables, written here row by row, because no
code of that release is left. Then the upgrade runs under `strace`, once for each call that touches a database, and is
killed there. The ordinary run takes a sample and a small log; `make test-long` takes every call and 100,000 records.
"""

import io
import shutil
from contextlib import redirect_stdout

import pytest
from sqlalchemy import text

import migrations
from appliance.audit import auditverify
from appliance.audit.header import RecordHeader
from appliance.config import Home
from appliance.crypto.merkle import Frontier, leaf_hash
from appliance.storage.database import open_database, reading
from appliance.storage.revisions import DATABASES, HEAD, REVISIONS, require_current
from tests.audit.audit_bundle import Log, verifier_key
from tests.audit.faults.tracing import NAMES, WRITES, Experiment, evenly, inject, occurrences_of, traced_calls
from tests.audit.faults.zygote import Zygote

EARLIER = [revision for revision in REVISIONS if revision != HEAD]
RECORDS, SAMPLE = 2000, 6
COPIED = ("record", "public_body", "tile", "checkpoint", "log_head")
KILLED = -9


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Databases as the log builder writes them, by number of records; made once."""
    folder = tmp_path_factory.mktemp("logs")
    made = {}

    def log_of(records):
        if records not in made:
            log = Log.of(records)
            made[records] = (log.write_database(folder / f"{records}.db"), log)
        return made[records]

    return log_of


def earlier_home(root, revision, source):
    """A data folder of an earlier revision that holds the log of `source`."""
    migrations.upgrade(root, revision)
    home = Home(root)
    engine = open_database(home.audit_database, mode="rw", connections=1)
    raw = engine.raw_connection()
    raw.execute("ATTACH DATABASE ? AS source", (str(source),))
    raw.execute("BEGIN IMMEDIATE")
    theirs = {row[0] for row in raw.execute("SELECT name FROM source.sqlite_master WHERE type = 'table'")}
    for table in COPIED:
        if table not in theirs:
            continue
        wanted = [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
        given = {row[1] for row in raw.execute(f"PRAGMA source.table_info({table})")}
        columns = ", ".join(name for name in wanted if name in given)
        raw.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM source.{table}")
    raw.execute("COMMIT")
    raw.close()
    engine.dispose()
    return home


def root_of(home):
    """Size and root, from the stored headers alone."""
    engine = open_database(home.audit_database, mode="rw", connections=1)
    frontier = Frontier.empty()
    try:
        with reading(engine) as connection:
            for row in connection.execute(text("SELECT header FROM record ORDER BY seq")):
                assert RecordHeader.decode(row.header)
                frontier = frontier.append(leaf_hash(row.header))
    finally:
        engine.dispose()
    return frontier.size, frontier.root()


def verifies(home, note, folder):
    trusted = folder / "trusted"
    trusted.write_text(note)
    said = io.StringIO()
    with redirect_stdout(said):
        status = auditverify.verify(
            [str(home.audit_database), "--pub", verifier_key(), "--trusted", str(trusted), "--json"]
        )
    assert status == 0, said.getvalue()


def is_current(home):
    for database in DATABASES:
        engine = open_database(database.path(home), mode="rw", journal=database.journal)
        require_current(engine, database.path(home))
        engine.dispose()


def put_back(home, kept):
    shutil.rmtree(home.root)
    shutil.copytree(kept, home.root)


def killed_at(zygote, logs, tmp_path, revision, records, sample):
    source, log = logs(records)
    home = earlier_home(tmp_path / "home", revision, source)
    before = root_of(home)
    assert before[0] == records
    verifies(home, log.head(), tmp_path)
    kept = tmp_path / "kept"
    shutil.copytree(home.root, kept)
    files = [database.path(home) for database in DATABASES]
    paths = [path.with_name(path.name + end) for path in files for end in ("", "-wal", "-shm", "-journal")]
    folders = sorted({path.parent for path in files})
    experiment = Experiment("upgrade", (str(home.root),), (*folders, *paths), tmp_path)
    kinds = (*WRITES, *NAMES)
    chosen = evenly(occurrences_of(traced_calls(zygote, experiment, kinds), kinds), sample)
    assert len(chosen) > 5
    is_current(home)
    for name, n in chosen:
        put_back(home, kept)
        run = inject(zygote, experiment, f"{name}:signal=KILL", n)
        assert run.status == KILLED, f"{name} {n} ended with {run.status}"
        assert root_of(home) == before, f"{name} {n}"
        migrations.upgrade(home.root)
        is_current(home)
        assert root_of(home) == before
        verifies(home, log.head(), tmp_path)
    print(f"the upgrade from {revision} was killed at {len(chosen)} system calls over {records} records")


@pytest.mark.parametrize("revision", EARLIER)
def test_killed_upgrade_changes_no_record_and_is_completed_by_the_next_sample(zygote, logs, tmp_path, revision):
    killed_at(zygote, logs, tmp_path, revision, RECORDS, SAMPLE)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("revision", EARLIER)
def test_upgrade_killed_at_every_call_changes_no_record_and_is_completed(zygote, logs, tmp_path, revision):
    killed_at(zygote, logs, tmp_path, revision, RECORDS, 10_000)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("revision", EARLIER)
def test_killed_upgrade_of_a_hundred_thousand_records(zygote, logs, tmp_path, revision):
    killed_at(zygote, logs, tmp_path, revision, 100_000, SAMPLE)


def test_there_is_an_earlier_revision_to_upgrade_from():
    assert EARLIER, "the list of revisions has one entry: nothing above was tested"
