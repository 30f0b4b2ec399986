"""Every key above the keys of records is replaced while others work, and wherever that is cut off the keystore opens.

An interruption is a real one: a child process kills itself (SIGKILL) at its n-th call into the rooms that write, for
every n until it gets through. What is then on the disk, hot journal included, is opened by the parent.
"""

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from itertools import count

import pytest
from audit_home import WAIT_S, an_event, opened, until
from pysqlite3 import dbapi2

from appliance.audit import auditverify
from appliance.audit.key_rotation import finish_rotation, read_generations, rotate_root_key, rotate_wrapping_key
from appliance.audit.key_slots import (
    PassphraseCost,
    add_passphrase_slot,
    change_passphrase,
    list_slots,
    remove_slot,
    root_key_from_passphrase,
)
from appliance.audit.keystore import open_keystore
from appliance.audit.root_key import read_root_key
from appliance.errors import Conflict, KeystoreLocked, WrongKey

CHEAP = PassphraseCost(memory_kib=8, iterations=1, lanes=1)
OWNERS = [f"subject:{number}" for number in range(7)]


def keys_of(home, root_key):
    """What must never change: the keys of records by id, names of owners, the signing seed."""
    keystore = open_keystore(home, root_key)
    made = [keystore.content_key(1, 600, owner) for owner in OWNERS]
    made += [keystore.env_key(1, 600), keystore.index_key(600)]
    found = {key.id: key.key for key in made}
    assert found == {scope_id: keystore.key_by_id(scope_id) for scope_id in found}
    return found, [keystore.owner_id(owner) for owner in OWNERS], keystore.signing_seed()


def blobs(home, query="SELECT blob FROM kek UNION SELECT wrapped FROM root_slot"):
    connection = dbapi2.connect(home.keystore)
    found = [row[0] for row in connection.execute(query)]
    connection.close()
    return found


def test_a_new_wrapping_key_re_wraps_everything_and_the_old_one_is_gone(home, root_key):
    before, wrapped = keys_of(home, root_key), blobs(home, "SELECT wrapped FROM scope_key UNION SELECT blob FROM kek")
    open_keystore(home, root_key).rotate_signing_key()
    seeds = open_keystore(home, root_key).signing_seeds()
    assert [rotate_wrapping_key(home, root_key) for _ in range(3)] == [2, 3, 4]
    assert read_generations(home) == (4,)
    image = home.keystore.read_bytes()
    assert not [old for old in wrapped if old in image]
    found, owners, _ = keys_of(home, root_key)
    assert (found, owners) == before[:2] and open_keystore(home, root_key).signing_seeds() == seeds


def test_a_process_that_holds_the_keystore_goes_on_through_a_rotation(home, root_key):
    keystore = open_keystore(home, root_key)
    made = keystore.content_key(1, 600, "subject:1")
    rotate_wrapping_key(home, root_key)
    other = open_keystore(home, root_key).content_key(1, 600, "subject:2")
    assert keystore.key_by_id(other.id) == other.key and keystore.key_by_id(made.id) == made.key
    rotate_wrapping_key(home, root_key)
    assert keystore.content_key(1, 600, "subject:3").key and keystore.generations == (3,)
    assert keystore.signing_seed() == open_keystore(home, root_key).signing_seed()


def test_a_new_root_key_takes_the_place_of_the_file_and_the_old_file_opens_nothing(home, root_key):
    before = keys_of(home, root_key)
    running = open_keystore(home, root_key)
    for _ in range(3):
        old = read_root_key(home.root_key_file)
        new = rotate_root_key(home, old, home.root_key_file)
        assert new == read_root_key(home.root_key_file) != old
        assert keys_of(home, new) == before and len(list_slots(home)) == 1
        with pytest.raises(WrongKey):
            open_keystore(home, old)
    assert sorted(path.name for path in home.keystore.parent.iterdir()) == ["keystore.db", "root.key"]
    with pytest.raises(KeystoreLocked, match="was replaced while this process ran"):
        running.content_key(1, 601, "subject:1")


def test_a_new_root_key_under_the_same_passphrase(home, root_key):
    before = keys_of(home, root_key)
    add_passphrase_slot(home, root_key, "correct horse battery", cost=CHEAP)
    with pytest.raises(Conflict, match="lock out slot 1"):
        rotate_root_key(home, root_key, home.root_key_file)
    assert not home.root_key_file.with_name("root.key.new").exists()
    unlocked = root_key_from_passphrase(home, "correct horse battery")
    remove_slot(home, unlocked, 0)
    protected = blobs(home)
    assert rotate_root_key(home, unlocked) == unlocked == root_key_from_passphrase(home, "correct horse battery")
    assert keys_of(home, unlocked) == before
    assert not [blob for blob in protected if blob in home.keystore.read_bytes()]


def killed_at(call, work):
    """Run `work` in a child that kills itself at its n-th call into the rooms that write; whether it was killed."""
    child = os.fork()
    if child == 0:
        calls = count(1)

        def watch(frame, event, _):
            if event in ("call", "c_call") and "/appliance/" in frame.f_code.co_filename and next(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(watch)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def rotate_and_kill(home, root_key, work, step):
    before = keys_of(home, root_key)
    pristine = home.root / "pristine"
    shutil.copytree(home.keystore.parent, pristine)
    killed = 0
    for call in count(1, step):
        shutil.rmtree(home.keystore.parent)
        shutil.copytree(pristine, home.keystore.parent)
        was_killed = killed_at(call, work)
        unlocked = read_root_key(home.root_key_file)
        assert keys_of(home, unlocked) == before, call
        finish_rotation(home, unlocked)
        assert len(read_generations(home)) == 1
        # Whatever was left behind, the next rotation gets through and only the key in the file opens.
        again = rotate_root_key(home, unlocked, home.root_key_file)
        assert keys_of(home, again) == before and len(list_slots(home)) == 1
        if not was_killed:
            return killed
        killed += 1
    return killed


@pytest.mark.parametrize("step", [67, pytest.param(1, marks=pytest.mark.long)])
def test_a_rotation_of_the_root_key_cut_off_anywhere_leaves_a_keystore_that_opens(home, root_key, step):
    work = lambda: rotate_root_key(home, root_key, home.root_key_file)  # noqa: E731
    assert rotate_and_kill(home, root_key, work, step) >= (5 if step > 1 else 300)


@pytest.mark.parametrize("step", [67, pytest.param(1, marks=pytest.mark.long)])
def test_a_rotation_of_the_wrapping_key_cut_off_anywhere_leaves_a_keystore_that_opens(home, root_key, step):
    work = lambda: rotate_wrapping_key(home, root_key)  # noqa: E731
    assert rotate_and_kill(home, root_key, work, step) >= (5 if step > 1 else 300)


def rows_of(home, size):
    connection = dbapi2.connect(f"file:{home.audit_database}?mode=ro", uri=True)
    rows = connection.execute("SELECT * FROM record WHERE seq < ? ORDER BY seq", [size]).fetchall()
    connection.close()
    return len(rows), hashlib.sha256(repr(rows).encode()).hexdigest()


async def rotate_under_load(home, rounds):
    """Twenty of everything while records are appended: yields how many records there were and what they were."""
    images, contents = [], {}
    async with opened(home, signing_overlap_s=3600.0) as log:
        done = asyncio.Event()
        first_note = log.checkpoint()

        async def load():
            number = 0
            while not done.is_set():
                event = an_event(number, content=b"content %d" % number)
                receipt = await log.append(event)
                contents[receipt.record_id] = event.content
                number += 1

        loading = asyncio.create_task(load())
        root_key = read_root_key(home.root_key_file)
        slot = add_passphrase_slot(home, root_key, "the passphrase of round 0", cost=CHEAP)
        unlocked = root_key_from_passphrase(home, "the passphrase of round 0")
        for number in range(1, rounds + 1):
            size = int(log.checkpoint().split("\n")[1])
            images.append((size, rows_of(home, size)))
            await asyncio.to_thread(rotate_wrapping_key, home, root_key)
            passphrase = f"the passphrase of round {number}"
            assert await asyncio.to_thread(change_passphrase, home, unlocked, passphrase, cost=CHEAP) == slot
            unlocked = await asyncio.to_thread(root_key_from_passphrase, home, passphrase)
            await log.rotate_signing_key("scheduled")
            await asyncio.to_thread(open_keystore(home, unlocked).env_key, 1, 1000 + number)  # a month begins
            await until(lambda number=number: len(contents) > number or loading.done())  # records came meanwhile
        done.set()
        await loading
        assert len(contents) > rounds
        for size, image in images:
            assert rows_of(home, size) == image
        for record_id, content in contents.items():
            assert log.content(record_id) == content and log.record(record_id).readable
        bundle = home.root / "bundle"
        log.export(bundle, ciphertexts=True)
        return bundle, log.checkpoint(), first_note, open_keystore(home, root_key).public_keys()


def verdict_of(home, bundle, note, keys):
    trusted = home.root / "trusted"
    trusted.write_text(note)
    command = [sys.executable, "-I", auditverify.__file__, str(bundle), "--trusted", str(trusted)]
    for key in keys:
        command += ["--pub", key.verifier_key]
    return subprocess.run(command, capture_output=True, timeout=2 * WAIT_S, check=False)


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.long)])
def test_every_level_rotates_under_load_and_no_record_changes(home, rounds):
    bundle, note, first_note, keys = asyncio.run(rotate_under_load(home, rounds))
    assert len(keys) == rounds + 1
    assert verdict_of(home, bundle, note, keys).returncode == 0
    # The newest key alone opens no older note, and the verdict says which one is missing.
    newest_alone = verdict_of(home, bundle, first_note, keys[:1])
    assert newest_alone.returncode == 13
    assert keys[-1].verifier_key.encode() in newest_alone.stdout
    root_key = read_root_key(home.root_key_file)
    assert read_generations(home) == (rounds + 1,)
    remove_slot(home, root_key, 1)
    for _ in range(rounds):
        root_key = rotate_root_key(home, root_key, home.root_key_file)

    async def read_again():
        async with opened(home) as log:
            return [log.content(bytes.fromhex(view.record_id)) for view in log.records(limit=50) if view.has_content]

    assert all(content.startswith(b"content ") for content in asyncio.run(read_again()))
