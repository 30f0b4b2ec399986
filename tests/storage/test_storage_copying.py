"""A copy of a database in use is one state of it: everything that was committed before, nothing that came after."""

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select

from appliance.errors import HomeError
from appliance.storage.copying import check_database, copy_database
from appliance.storage.database import open_database, reading, writing

METADATA = MetaData()
NUMBERS = Table("numbers", METADATA, Column("n", Integer, primary_key=True))


def add(engine, *numbers: int) -> None:
    with writing(engine) as connection:
        connection.execute(insert(NUMBERS), [{"n": number} for number in numbers])


def count(path) -> int:
    engine = open_database(path, mode="rw")
    with reading(engine) as connection:
        found = connection.execute(select(func.count()).select_from(NUMBERS)).scalar_one()
    engine.dispose()
    return found


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_copy_has_what_the_transaction_sees_and_nothing_later(tmp_path, journal):
    engine = open_database(tmp_path / "a.db", mode="create", journal=journal)
    METADATA.create_all(engine)
    add(engine, *range(1000))  # in WAL mode these are not in the file yet
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(NUMBERS)).scalar_one() == 1000
        if journal == "wal":
            add(engine, 1000)  # by somebody else, meanwhile
        copy_database(connection, tmp_path / "copy.db")
    engine.dispose()
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    check_database(tmp_path / "copy.db", journal)
    assert count(tmp_path / "copy.db") == 1000


def test_an_existing_file_is_not_overwritten(tmp_path):
    engine = open_database(tmp_path / "a.db", mode="create")
    (tmp_path / "copy.db").write_bytes(b"precious")
    with reading(engine) as connection, pytest.raises(FileExistsError):
        copy_database(connection, tmp_path / "copy.db")
    engine.dispose()
    assert (tmp_path / "copy.db").read_bytes() == b"precious"


def test_a_damaged_copy_is_found(tmp_path):
    engine = open_database(tmp_path / "a.db", mode="create", journal="delete")
    METADATA.create_all(engine)
    add(engine, *range(5000))
    engine.dispose()
    content = bytearray((tmp_path / "a.db").read_bytes())
    content[4096 * 2 + 100 : 4096 * 2 + 200] = b"\xff" * 100
    (tmp_path / "a.db").write_bytes(content)
    with pytest.raises(HomeError, match="damaged"):
        check_database(tmp_path / "a.db", "delete")
