"""Where the root key comes from at a start, and what a wrong one does: it is called that, with its slot, nothing is
written, and the log can still be verified. People who guess are held up and will be in the log.

Time is a parameter or the real clock with a lock of an hour; nobody sleeps.
"""

import asyncio
import dataclasses
import secrets

import pytest
from audit_home import an_event, config_of, opened

import migrations
from appliance.audit.key_slots import PassphraseCost, add_file_slot, add_passphrase_slot, slot_of
from appliance.audit.keystore import create_keystore, open_keystore, public_material
from appliance.audit.log import AuditLog
from appliance.audit.passphrase_failures import PassphraseFailures
from appliance.audit.root_key import create_root_key
from appliance.audit.root_source import new_root_key, unlock, unlock_with
from appliance.audit.signer import read_signed_head
from appliance.cli.exit_codes import exit_code_of
from appliance.config import load_config
from appliance.errors import ConfigInvalid, InvalidRequest, KeystoreInvalid, KeystoreLocked, WrongKey
from tests.audit.audit_recorded import verify

CHEAP = PassphraseCost(memory_kib=8, iterations=1, lanes=1)
RIGHT, WRONG = "correct horse battery", "incorrect horse battery"


def sourced(home, answer=None, **keys):
    """The configuration with another source of the root key, and somebody who answers."""
    config = config_of(home)
    ask = None if answer is None else lambda _prompt, _new: answer
    settings = config.keys.model_copy(
        update={"argon2_memory_kib": 8, "argon2_time_cost": 1, "argon2_parallelism": 1} | keys
    )
    return dataclasses.replace(config, keys=settings, ask=ask)


@pytest.fixture
def with_passphrase(home, root_key):
    add_passphrase_slot(home, root_key, RIGHT, cost=CHEAP)
    return home


def test_each_source_gives_the_key_of_its_slot(with_passphrase, root_key, tmp_path):
    home = with_passphrase
    elsewhere = create_root_key(tmp_path / "elsewhere.key")
    add_file_slot(home, root_key, elsewhere)
    assert unlock(config_of(home)) == root_key
    assert unlock(sourced(home, file=tmp_path / "elsewhere.key")) == elsewhere
    assert slot_of(home, unlock(sourced(home, RIGHT, source="passphrase"))) == 1
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "cloister-root-key").write_bytes(elsewhere)
    (credentials / "cloister-root-key").chmod(0o400)
    credential = dataclasses.replace(sourced(home, source="credential"), credentials=credentials)
    assert slot_of(home, unlock(credential)) == 2


def test_the_folder_of_credentials_is_what_systemd_says(home, monkeypatch, tmp_path):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_config(home.root).credentials == tmp_path
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert load_config(home.root).credentials is None
    with pytest.raises(ConfigInvalid, match="was given no credentials"):
        unlock(sourced(home, source="credential"))


def test_where_nobody_can_be_asked_the_keystore_stays_locked_and_says_how_to_ask(with_passphrase):
    with pytest.raises(KeystoreLocked) as refused:
        unlock(sourced(with_passphrase, source="passphrase"))
    assert "--passphrase-fd" in refused.value.hint and exit_code_of(refused.value) == 20


def test_a_new_data_folder_can_begin_with_a_passphrase(home, root_key):
    new = new_root_key(sourced(home, RIGHT, source="passphrase"))
    assert new.salt and new.cost.memory_kib == 8
    with pytest.raises(InvalidRequest):
        new_root_key(sourced(home, "too short", source="passphrase"))
    home.keystore.unlink()
    migrations.upgrade(home.root)
    create_keystore(home, new.key, salt=new.salt, cost=new.cost)
    assert open_keystore(home, unlock(sourced(home, RIGHT, source="passphrase"))).origin


def images(home):
    return {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()}


async def recorded(home):
    async with opened(home) as log:
        await log.append(an_event(content=b"something"))


async def open_log(config, root_key):
    log = await AuditLog.open(config, root_key)
    await log.close()


@pytest.mark.parametrize("wrong", ["key file", "passphrase", "foreign keystore"])
def test_a_wrong_key_names_its_slot_writes_nothing_and_leaves_integrity_verifiable(
    with_passphrase, _first_home, tmp_path, wrong
):
    home = with_passphrase
    asyncio.run(recorded(home))
    keys = public_material(home).verifier_keys  # as the auditor was given them
    kept = read_signed_head(home.signer_state, public_material(home).origin).note
    config, slot = config_of(home), 0
    if wrong == "key file":
        create_root_key(tmp_path / "other.key")
        config = sourced(home, file=tmp_path / "other.key")
    elif wrong == "passphrase":
        config, slot = sourced(home, WRONG, source="passphrase"), 1
    else:
        home.keystore.unlink()
        migrations.upgrade(home.root)
        create_keystore(home, secrets.token_bytes(32), origin="foreign.example/audit")
    before = images(home)
    with pytest.raises(WrongKey, match=rf"wrong key \(slot {slot}\)") as refused:
        asyncio.run(open_log(config, unlock(config)))
    assert exit_code_of(refused.value) == 20
    changed = {path for path, image in images(home).items() if before.get(path) != image}
    assert changed <= {home.passphrase_failures}
    assert verify(home.audit_database, keys, [kept], folder=tmp_path)["exit_code"] == 0
    if wrong != "foreign keystore":
        assert public_material(home).verifier_keys == keys


def test_after_five_wrong_passphrases_even_the_right_one_has_to_wait(with_passphrase):
    home = with_passphrase
    config = sourced(home, source="passphrase", passphrase_lock_s=3600.0)
    for _ in range(5):
        with pytest.raises(WrongKey):
            unlock_with(config, WRONG)
    for passphrase in (RIGHT, WRONG):
        with pytest.raises(KeystoreLocked, match="too many wrong passphrases") as refused:
            unlock_with(config, passphrase)
        assert 3500 < refused.value.retry_after_s <= 3600
    image = home.passphrase_failures.read_bytes()
    assert home.passphrase_failures.stat().st_mode & 0o077 == 0 and len(image) < 200
    assert RIGHT.encode() not in image and WRONG.encode() not in image
    assert unlock(config_of(home))  # a key file opens at once


def test_failures_lock_again_after_each_further_one_and_a_right_one_ends_the_count(tmp_path):
    failures = PassphraseFailures(tmp_path / "failures.json", failures_max=3, lock_s=60)
    failures.note(wrong=False, now_ms=0)
    assert not failures.path.exists() and failures.unrecorded() == 0
    for at_ms in (1000, 2000, 3000):
        failures.require_open(at_ms)
        failures.note(wrong=True, now_ms=at_ms)
    with pytest.raises(KeystoreLocked):
        failures.require_open(62_000)
    failures.require_open(63_001)
    failures.note(wrong=True, now_ms=63_001)
    with pytest.raises(KeystoreLocked):
        failures.require_open(100_000)
    failures.require_open(123_002)
    failures.note(wrong=False, now_ms=123_002)
    failures.note(wrong=True, now_ms=123_003)
    failures.require_open(123_004)
    assert failures.unrecorded() == 5
    failures.recorded(4)
    assert failures.unrecorded() == 1


def test_a_clock_that_is_set_back_locks_for_no_longer_than_the_lock(tmp_path):
    failures = PassphraseFailures(tmp_path / "failures.json", failures_max=1, lock_s=60)
    failures.note(wrong=True, now_ms=10**12)
    with pytest.raises(KeystoreLocked) as refused:
        failures.require_open(0)
    assert refused.value.retry_after_s <= 60


def test_a_state_file_that_a_power_cut_damaged_begins_anew(tmp_path):
    failures = PassphraseFailures(tmp_path / "failures.json", failures_max=1, lock_s=60)
    failures.path.write_bytes(b'{"failures":')
    failures.require_open(0)
    failures.note(wrong=True, now_ms=0)
    assert failures.unrecorded() == 1


def test_a_key_file_of_nobody_is_named_with_the_remedy(home):
    config = sourced(home, file=home.root / "absent.key")
    with pytest.raises(KeystoreInvalid, match=r"absent\.key") as refused:
        unlock(config)
    assert refused.value.hint
