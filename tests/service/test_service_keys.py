"""What unlocks the log changes only by those who may, only after it was recorded, and how it ended is recorded, too.

The data folder, its log and its sequencer are real; passphrases are derived at the lowest cost that is configurable.
"""

import asyncio
import dataclasses

import pytest

import migrations
from appliance.accounts.actions import local_operator
from appliance.audit.key_slots import list_slots, slot_of
from appliance.audit.keystore import create_keystore
from appliance.audit.root_key import create_root_key, read_root_key
from appliance.audit.root_source import failures_of, unlock_with
from appliance.config import Home, load_config
from appliance.errors import Conflict, HomeInUse, NotFound, PermissionDenied, WrongKey
from appliance.service import keys
from appliance.service.home import hold_server_lock
from appliance.service.unlocking import open_unlocked
from appliance.types import Principal

OPERATOR = local_operator(1000)
AUDITOR = Principal("user:3", "eve", "user", frozenset({"auditor"}))
FIRST, SECOND = "correct horse battery", "river lantern copper"


@pytest.fixture
def config(tmp_path):
    home = Home(tmp_path / "home")
    for folder in home.folders():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    migrations.upgrade(home.root)
    home.marker.write_text('{"format": 1}')
    create_keystore(home, create_root_key(home.root_key_file), origin="clinic.example/audit")
    loaded = load_config(home.root)
    cheap = {"argon2_memory_kib": 8 * 1024, "argon2_time_cost": 1, "argon2_parallelism": 1}
    return dataclasses.replace(loaded, keys=loaded.keys.model_copy(update=cheap))


async def changed(config, work, principal=OPERATOR):
    async with keys.open_keys(config) as opened:
        return await work(opened, principal)


def recorded(config):
    """Events of keys in the log, oldest first: name, outcome, what is said about them."""

    async def read():
        async with keys.open_keys(config) as opened:
            views = await asyncio.to_thread(opened.log.records, None, 200)
            return [(v.event, v.outcome, dict(v.attributes)) for v in reversed(views) if v.event.startswith("key.")]

    return asyncio.run(read())


def test_each_change_is_announced_made_and_concluded(config, tmp_path):
    async def work(opened, who):
        assert await keys.add_passphrase(opened, who, FIRST) == 1
        assert await keys.add_file(opened, who, tmp_path / "usb.key") == 2
        assert await keys.change_passphrase(opened, who, FIRST, SECOND) == 1
        await keys.remove_slot(opened, who, 2)
        await keys.rotate(opened, who, "kek", "scheduled")
        await keys.rotate(opened, who, "signing", "scheduled")

    asyncio.run(changed(config, work))
    events = [(event, outcome) for event, outcome, _ in recorded(config)]
    names = ["key.slot_added", "key.slot_added", "key.slot_changed", "key.slot_removed", "key.rotated", "key.rotated"]
    assert [event for event in events if event[0] != "key.rotate"] == [
        (name, outcome) for name in names for outcome in ("accepted", "completed")
    ]
    by_name = {event: about for event, outcome, about in recorded(config) if outcome == "completed"}
    assert by_name["key.slot_added"] == {"kind": "file", "slot": 2} and by_name["key.slot_changed"] == {"slot": 1}
    assert slot_of(config.home, unlock_with(config, SECOND)) == 1
    assert [slot.number for slot in list_slots(config.home)] == [0, 1]


@pytest.mark.parametrize(
    ("work", "error"),
    [
        (lambda opened, who: keys.remove_slot(opened, who, 0), Conflict),
        (lambda opened, who: keys.remove_slot(opened, who, 7), NotFound),
        (lambda opened, who: keys.change_passphrase(opened, who, FIRST, SECOND), WrongKey),
        (lambda opened, who: keys.add_file(opened, who, opened.config.home.root_key_file), Conflict),
    ],
)
def test_what_is_refused_changes_nothing_and_never_ends_as_completed(config, work, error):
    before = list_slots(config.home)
    with pytest.raises(error):
        asyncio.run(changed(config, work))
    assert list_slots(config.home) == before
    assert "completed" not in [outcome for _, outcome, _ in recorded(config)]


def test_who_may_not_manage_keys_changes_nothing_and_sees_nothing(config, tmp_path):
    for work in (
        lambda opened, who: keys.add_passphrase(opened, who, FIRST),
        lambda opened, who: keys.add_file(opened, who, tmp_path / "usb.key"),
        lambda opened, who: keys.rotate(opened, who, "kek", "scheduled"),
        lambda opened, who: keys.distrust(opened, who),
        lambda opened, who: keys.remove_slot(opened, who, 0),
    ):
        with pytest.raises(PermissionDenied):
            asyncio.run(changed(config, work, AUDITOR))
    with pytest.raises(PermissionDenied):
        asyncio.run(keys.list_keys(config, AUDITOR))
    with pytest.raises(PermissionDenied):
        asyncio.run(keys.rotate_root(config, AUDITOR, "scheduled"))
    with pytest.raises(PermissionDenied):
        asyncio.run(keys.check_key(config, AUDITOR))
    assert not (tmp_path / "usb.key").exists() and len(list_slots(config.home)) == 1


def test_a_stolen_signing_key_signs_nothing_more_and_the_log_says_from_where_on(config):
    before = asyncio.run(keys.list_keys(config, OPERATOR)).signing_keys[0]
    asyncio.run(changed(config, keys.distrust))
    after = asyncio.run(keys.list_keys(config, OPERATOR)).signing_keys
    assert after[1].public == before.public and after[1].retired_ms is not None and after[0].retired_ms is None
    distrusted = [about for event, _, about in recorded(config) if event == "key.distrust"]
    assert len(distrusted) == 1 and distrusted[0]["key"] == before.public.hex()


def test_a_new_root_key_needs_a_stopped_server_and_no_other_slots(config):
    old = read_root_key(config.home.root_key_file)
    with hold_server_lock(config.home), pytest.raises(HomeInUse):
        asyncio.run(keys.rotate_root(config, OPERATOR, "scheduled"))
    asyncio.run(changed(config, lambda opened, who: keys.add_passphrase(opened, who, FIRST)))
    with pytest.raises(Conflict):
        asyncio.run(keys.rotate_root(config, OPERATOR, "scheduled"))
    assert read_root_key(config.home.root_key_file) == old
    asyncio.run(changed(config, lambda opened, who: keys.remove_slot(opened, who, 1)))
    asyncio.run(keys.rotate_root(config, OPERATOR, "compromised"))
    assert read_root_key(config.home.root_key_file) != old
    rotated = [(outcome, about) for event, outcome, about in recorded(config) if event == "key.rotated"]
    about = {"level": "root", "reason": "compromised"}
    assert rotated == [("accepted", about), ("completed", about)]


def test_wrong_passphrases_are_recorded_once_after_the_next_unlocking(config):
    asyncio.run(changed(config, lambda opened, who: keys.add_passphrase(opened, who, FIRST)))
    for _ in range(3):
        with pytest.raises(WrongKey):
            asyncio.run(keys.check_key(config, OPERATOR, passphrase="not that one, surely"))
    assert failures_of(config).unrecorded() == 3

    async def open_twice():
        for _ in range(2):
            log = await open_unlocked(config, unlock_with(config, FIRST))
            await log.close()

    asyncio.run(open_twice())
    refused = [
        about for event, outcome, about in recorded(config) if (event, outcome) == ("key.passphrase_refused", "refused")
    ]
    assert refused == [{"failures": 3}] and failures_of(config).unrecorded() == 0


def test_which_slot_a_key_opens_is_told_recorded_and_changes_no_key(config, tmp_path):
    create_root_key(tmp_path / "other.key")
    assert asyncio.run(keys.check_key(config, OPERATOR)) == 0  # its record makes the month's first key
    before = config.home.keystore.read_bytes()
    assert asyncio.run(keys.check_key(config, OPERATOR)) == 0
    with pytest.raises(WrongKey):
        asyncio.run(keys.check_key(config, OPERATOR, path=tmp_path / "other.key"))
    assert config.home.keystore.read_bytes() == before
    assert [about for event, _, about in recorded(config) if event == "key.checked"] == [{"slot": 0}] * 2
