"""What a child of the zygote runs: the real writer, or the real sequencer, and nothing that is not in the product.

    append_batches(descriptor, start, 5)      # acknowledges every batch with one write to the descriptor

Records follow from their numbers, so that whoever looks at the log afterwards knows what belongs into it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import migrations
from appliance.audit import sequencer
from appliance.audit.clock import read_boot_id, read_clock
from appliance.audit.keystore import open_keystore
from appliance.audit.protocol import SealedRecord, Start
from appliance.audit.record import Moment, keys_for, seal
from appliance.audit.root_key import read_root_key
from appliance.audit.writer import LogWriter
from appliance.config import Home
from appliance.specialists.registry import Admission, Registry
from appliance.storage.database import open_database
from appliance.types import AuditEvent, Outcome

ACKNOWLEDGED = b"ack "


def noise(what: str, size: int) -> bytes:
    """Bytes that follow from a name."""
    return hashlib.shake_128(what.encode()).digest(size)


def id_of(number: int) -> bytes:
    """The record id of a number."""
    return noise(f"id {number}", 16)


def sealed(number: int, content_bytes: int = 1500) -> SealedRecord:
    """A record as the sequencer sees it; nobody opens it, so its ciphertexts may be any bytes."""
    return SealedRecord(
        record_id=id_of(number),
        record_class=1,
        month=600,
        env_key=noise("env", 16),
        con_scope=noise(f"con {number % 7}", 16),
        env_nonce=noise(f"en {number}", 24),
        con_nonce=noise(f"cn {number}", 24),
        env_ct=noise(f"e {number}", 288),
        con_ct=noise(f"c {number}", content_bytes),
    )


def append_batches(
    descriptor: int,
    start: Start,
    batches: int,
    batch: int = 3,
    first: int = 0,
    wal_pages: int | None = None,
    synchronous: str | None = None,
    stop: bool = True,
) -> int:
    """Open the log, append batches, acknowledge each after `commit` returned, stop in order.

    `wal_pages`: fold the write-ahead log in after so many pages, so that a short run does it too. `synchronous`: what
    no configuration of the appliance can do, to show that the tests would notice.
    """
    writer = LogWriter.open(start, clock=read_clock)
    _turn(writer, wal_pages, synchronous)
    for number in range(first, first + batches * batch, batch):
        committed = writer.commit([sealed(number + i) for i in range(batch)])
        places = {record_id.hex(): place.seq for record_id, place in committed.places.items()}
        line = json.dumps({"places": places, "note": committed.checkpoint}).encode()
        os.write(descriptor, ACKNOWLEDGED + line + b"\n")
    if stop:
        writer.append_stopped()
        writer.close()
    return 0


def run_sequencer(descriptor: int, parent: int) -> int:
    """The sequencer itself, in this process; ends without clean-up after a failure, as its own module does.

    The signer's memory is synced after every batch instead of every second: how often must not follow from how long a
    run takes, because a call is found again by its number.
    """
    sequencer.MEMORY_SYNC_S = 0.0
    return sequencer.main([str(descriptor), str(parent)])


def write_then_fork(descriptor: int, start: Start) -> int:
    """Write, let a forked child try to, and write again; says how each of them fared."""
    writer = LogWriter.open(start, clock=read_clock)
    writer.commit([sealed(1)])
    pid = os.fork()
    if pid == 0:
        try:
            writer.commit([sealed(2)])
            os.write(descriptor, b"child wrote\n")
        except Exception as error:  # noqa: BLE001  its name is what is asked for
            os.write(descriptor, f"child {type(error).__name__}\n".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    committed = writer.commit([sealed(3)])
    os.write(descriptor, f"parent {committed.places[id_of(3)].seq}\n".encode())
    writer.append_stopped()
    writer.close()
    return 0


def draw_nonces(root: str, folder: str, records: int, processes: int) -> int:
    """Open the keystore once, fork, and let each child seal records and write down its nonces."""
    home = Home(Path(root))
    keystore = open_keystore(home, read_root_key(home.root_key_file))
    moment = Moment(read_clock(), read_boot_id())
    event = AuditEvent("fork", "user:7", Outcome.ACCEPTED, "x", bytes(16), {}, b"text")
    keys = keys_for(keystore, event, moment, index=False)
    for number in range(processes):
        if os.fork() == 0:
            drawn = bytearray()
            for _ in range(records):
                record = seal(event, keys, moment)
                drawn += record.env_nonce + record.con_nonce
            (Path(folder) / f"nonces-{number}").write_bytes(drawn)
            os._exit(0)
    return max(os.waitpid(-1, 0)[1] for _ in range(processes))


def upgrade(_: int, root: str) -> int:
    """Bring the databases of a data folder to the newest revision."""
    migrations.upgrade(Path(root))
    return 0


def specialist_life(_: int, root: str, *paths: str) -> int:
    """Two versions through their whole life, from wherever an earlier run was cut off: the first answers at the end."""
    home = Home(Path(root))
    engine = open_database(home.database, mode="rw")
    registry = Registry(engine, home)
    for path in paths:
        entry = registry.admit(Path(path).read_bytes(), Admission("taught", by="user:7", person="account:ana"))
        specialist, version = entry.manifest.id, entry.manifest.version
        if entry.state == "awaiting_approval":
            entry = registry.approve(specialist, version, by="user:8")
        if entry.state == "approved":
            registry.promote(specialist, version, by="user:8")
    while registry.get(specialist).manifest.version == version:
        registry.rollback(specialist)
    registry.remove(specialist, version)
    engine.dispose()
    return 0


def _turn(writer: LogWriter, wal_pages: int | None, synchronous: str | None) -> None:
    """Settings of the writer's one connection, past everything that would refuse them."""
    connection = writer._connection.connection.driver_connection
    if wal_pages is not None:
        connection.execute(f"PRAGMA wal_autocheckpoint={wal_pages}").fetchall()
    if synchronous is not None:
        connection.execute(f"PRAGMA synchronous={synchronous}").fetchall()
