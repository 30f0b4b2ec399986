"""Signing keys rotate under load, old notes verify with old keys, and nothing that was written is written again.

The signer's memory, in three slots of one file, is read whatever a crash left of it, and refuses an older log.
"""

import asyncio
import random

import pytest
from audit_home import an_event, opened
from pysqlite3 import dbapi2

from appliance.audit.keystore import open_keystore
from appliance.audit.signer_memory import SLOT_BYTES, SLOTS, SignedHead, SignerMemory, read_signed_head
from appliance.crypto.note import verify_note
from appliance.errors import AuditLogInvalid

ORIGIN = "clinic.example/audit/x/e1"
SEED = random.SystemRandom().randrange(2**32)


def rows(home):
    connection = dbapi2.connect(f"file:{home.audit_database}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT seq, record_id, header, env_ct, con_ct FROM record ORDER BY seq").fetchall()
    finally:
        connection.close()


def signers_of(note, keystore):
    """Which of the keystore's keys, newest first, signed the note."""
    found = []
    for number, key in enumerate(keystore.public_keys()):
        try:
            verify_note(note, key.origin, key.public)
        except ValueError:
            continue
        found.append(number)
    return found


def test_twenty_rotations_under_load_leave_old_rows_as_they_are(home):
    notes = []

    async def run():
        async with opened(home) as log:
            done = asyncio.Event()
            await log.append(an_event(content=b"the keys of the month are made"))

            async def submit():
                while not done.is_set():
                    await log.append(an_event(content=b"text"))

            submitting = [asyncio.create_task(submit()) for _ in range(4)]
            seen = []
            for _ in range(20):
                receipt = await log.rotate_signing_key("scheduled")
                assert signers_of(receipt.checkpoint, log._keystore) == [0, 1]
                now = rows(home)
                assert now[: len(seen)] == seen
                seen = now
                notes.append(receipt.checkpoint)
            done.set()
            await asyncio.gather(*submitting)
            assert [view.event for view in log.records(event="key.rotate", limit=100)] == ["key.rotate"] * 20
            for number, note in enumerate(reversed(notes)):
                assert signers_of(note, log._keystore) == [number, number + 1]
            with pytest.raises(ValueError, match="not signed by"):
                verify_note(notes[0], log._keystore.origin, log._keystore.public_key)
            return seen

    seen = asyncio.run(run())
    assert rows(home)[: len(seen)] == seen


def test_the_key_before_signs_until_the_overlap_ends(home):
    async def run(overlap_s):
        async with opened(home, signing_overlap_s=overlap_s) as log:
            await log.rotate_signing_key("scheduled")
            return signers_of((await log.append(an_event())).checkpoint, log._keystore)

    assert asyncio.run(run(3600.0)) == [0, 1]

    async def again():
        async with opened(home, signing_overlap_s=3600.0) as log:
            return signers_of((await log.append(an_event())).checkpoint, log._keystore)

    assert asyncio.run(again()) == [0, 1]
    assert asyncio.run(run(1e-6)) == [0]


def test_a_compromised_key_signs_nothing_more_and_is_named(home):
    async def run():
        async with opened(home) as log:
            receipt = await log.rotate_signing_key("compromised")
            assert signers_of(receipt.checkpoint, log._keystore) == [0]
            distrusted = next(view for view in log.records() if view.event == "key.distrust")
            assert distrusted.attributes == {
                "v": 1, "key": log._keystore.public_keys()[1].public.hex(), "after_size": receipt.seq,
            }  # fmt: skip
            assert signers_of((await log.append(an_event())).checkpoint, log._keystore) == [0]

    asyncio.run(run())


def test_a_rotation_that_the_log_never_heard_of_is_recorded_at_the_next_start(home, root_key):
    async def run():
        async with opened(home) as log:
            receipt = await log.append(an_event())
            return signers_of(receipt.checkpoint, log._keystore), [view.event for view in reversed(log.records())]

    asyncio.run(run())
    open_keystore(home, root_key).rotate_signing_key()
    signers, events = asyncio.run(run())
    assert signers == [0, 1]
    assert events[:7] == ["genesis", "start", "deidentify", "stop", "key.rotate", "start", "deidentify"]
    assert asyncio.run(run())[1].count("key.rotate") == 1


def test_a_sequencer_that_is_replaced_after_a_rotation_signs_with_the_new_key(home):
    async def run():
        async with opened(home) as log:
            await log.rotate_signing_key("scheduled")
            log.client._link.process.kill()
            await log.client._link.process.wait()
            for _ in range(2):
                receipt = await log.append(an_event())
                assert signers_of(receipt.checkpoint, log._keystore) == [0, 1]
            return [view.event for view in log.records(event="key.rotate")]

    assert len(asyncio.run(run())) == 1


# --- the memory -------------------------------------------------------------------------------------------------------


def head(size):
    return SignedHead(size, bytes([size % 251]) * 32, f"{ORIGIN}\n{size}\n", size * 1000)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "signer.json"


def test_what_is_written_is_read_and_written_on_after_a_restart(path):
    for size in range(1, 40):
        memory = SignerMemory(path, ORIGIN, head(0))
        memory.write(head(size))
        assert read_signed_head(path, ORIGIN) == head(size)
        if size % 3 == 0:
            memory.sync()
        memory.close()
    assert path.stat().st_size == SLOTS * SLOT_BYTES


def test_a_power_cut_that_ruins_every_slot_written_since_the_last_sync_leaves_the_synced_one(path):
    print("seed", SEED)
    chance = random.Random(SEED)
    memory, synced = SignerMemory(path, ORIGIN, head(0)), 0
    for size in range(1, 200):
        before = path.read_bytes()
        memory.write(head(size))
        after = bytearray(path.read_bytes())
        changed = {i // 512 for i in range(len(after)) if after[i] != before[i]}
        assert changed
        # Everything but the slot that was newest at the last sync may be lost or torn.
        keep = next(i for i in range(SLOTS) if b'"size":%d,' % synced in path_slot(before, i))
        torn = bytearray(after)
        for i in range(SLOTS):
            if i != keep:
                start = i * SLOT_BYTES + 512 * chance.randrange(8)
                torn[start : start + 512] = chance.randbytes(512)
        path.with_name("torn").write_bytes(torn)
        found = read_signed_head(path.with_name("torn"), ORIGIN)
        assert synced <= found.size <= size
        if chance.random() < 0.2:
            memory.sync()
            synced = size
    memory.close()


def path_slot(content, index):
    return content[index * SLOT_BYTES : (index + 1) * SLOT_BYTES]


def test_the_file_of_an_earlier_release_is_read_and_replaced(path):
    path.write_text(f'{{"origin":"{ORIGIN}","size":7,"root":"{"A" * 43}=","note":"n"}}')
    assert read_signed_head(path, ORIGIN) == SignedHead(7, bytes(32), "n")
    SignerMemory(path, ORIGIN, SignedHead(7, bytes(32), "n")).close()
    assert path.stat().st_size == SLOTS * SLOT_BYTES
    assert read_signed_head(path, ORIGIN) == SignedHead(7, bytes(32), "n")


def test_another_log_and_damage_are_refused_and_nothing_is_nothing(path):
    assert read_signed_head(path, ORIGIN) is None
    SignerMemory(path, ORIGIN, head(3)).close()
    with pytest.raises(AuditLogInvalid, match="belongs to the log"):
        read_signed_head(path, "other")
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(AuditLogInvalid, match="damaged"):
        read_signed_head(path, ORIGIN)


def test_a_note_with_two_signatures_of_a_long_origin_fits(path):
    note = f"{'o' * 260}\n123\nroot\n\n" + "— " + "o" * 260 + " " + "A" * 92 + "\n"
    SignerMemory(path, "o" * 260, SignedHead(1, bytes(32), note + note)).close()
    assert read_signed_head(path, "o" * 260).note == note + note
