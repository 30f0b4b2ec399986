"""The key of the site's authority lies sealed: it comes back for the next certificate, on another machine with the kit,
after a new root key; one that an earlier release left in the clear is sealed and gone; with other keys it is refused.
"""

import asyncio
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.accounts.actions import local_operator
from appliance.audit.keystore import FILE_LABEL
from appliance.audit.log import AuditLog
from appliance.audit.root_key import read_root_key
from appliance.config import Home, load_config
from appliance.crypto.certificates import make_authority
from appliance.errors import DecryptionFailed, InvalidRequest, WrongKey
from appliance.service.keys import rotate_root
from appliance.service.site_certificate import KEY_LABEL, make_certificate, open_authority_key, seal_authority
from tests.service.test_service_backup import at_a_site, restored

ME = local_operator(0)
NAMES = ["ward3.example", "10.20.0.5"]


def with_log(home, work):
    async def run():
        log = await AuditLog.open(load_config(home.root), read_root_key(home.root_key_file))
        try:
            return await work(load_config(home.root), log)
        finally:
            await log.close()

    return asyncio.run(run())


def make(home, names=NAMES):
    return with_log(home, lambda config, log: make_certificate(config, log, ME, names))


def seal(home):
    async def work(config, log):
        seal_authority(config, log)

    with_log(home, work)


def leave_in_the_clear(home):
    """As an earlier release did it."""
    authority = make_authority("Ward 3", NAMES, now=datetime.now(UTC), days=3650)
    home.tls.mkdir(mode=0o700)
    (home.tls / "authority.key").write_text(authority.key)
    (home.tls / "authority.pem").write_text(authority.certificate)
    (home.tls / "authority.names").write_text("".join(f"{name}\n" for name in NAMES))
    return authority


def private_keys(home):
    return {path.name for path in home.tls.iterdir() if b"PRIVATE KEY" in path.read_bytes()}


def test_the_published_vector_opens_as_the_format_says():
    vector = json.loads((Path(__file__).parent / "vectors" / "sealed_authority.json").read_text())
    key = bytes.fromhex(vector["owner_key"])
    for label in (vector["file_label"], vector["label"]):
        key = hmac.digest(key, b"cloister-subkey-1\0" + label.encode(), "sha256")
    assert key.hex() == vector["file_key"]
    assert (FILE_LABEL.decode(), KEY_LABEL.decode()) == (vector["file_label"], vector["label"])
    assert open_authority_key(key, vector["authority.pem"], vector["authority.sealed"]) == vector["key"]
    with pytest.raises(DecryptionFailed):
        open_authority_key(key, vector["authority.pem"] + " ", vector["authority.sealed"])


def test_the_next_certificate_is_by_the_same_authority_also_after_a_new_root_key(home):
    first = make(home)
    authority = (home.tls / "authority.pem").read_text()
    assert private_keys(home) == {"server.key"}
    asyncio.run(rotate_root(load_config(home.root), ME, "scheduled"))
    second = make(home, NAMES[:1])
    assert (home.tls / "authority.pem").read_text() == authority
    assert (second.issuer, second.fingerprint != first.fingerprint) == (first.issuer, True)


def test_a_key_in_the_clear_is_sealed_and_goes_on_being_used(home):
    authority = leave_in_the_clear(home)
    seal(home)
    assert private_keys(home) == set() and not (home.tls / "authority.key").exists()
    seal(home)  # a second time there is nothing to do
    make(home)
    assert (home.tls / "authority.pem").read_text() == authority.certificate


def test_sealing_that_was_interrupted_after_the_overwriting_is_finished(home):
    authority = leave_in_the_clear(home)
    seal(home)
    (home.tls / "authority.key").write_bytes(bytes(len(authority.key)))
    make(home)
    assert not (home.tls / "authority.key").exists()
    assert (home.tls / "authority.pem").read_text() == authority.certificate


def test_a_key_of_another_authority_is_refused_and_kept(home):
    leave_in_the_clear(home)
    other = make_authority("Ward 4", NAMES, now=datetime.now(UTC), days=9)
    (home.tls / "authority.key").write_text(other.key)
    with pytest.raises(InvalidRequest, match="not the key of authority"):
        make(home)
    seal(home)  # a server that starts goes on
    assert (home.tls / "authority.key").read_text() == other.key


def test_it_comes_back_from_a_backup_on_another_machine(home, tmp_path):
    make(home)

    async def back_up(site):
        return (await site.backup()).path, site.kit

    path, kit = at_a_site(back_up, home, tmp_path / "backups")
    restored(path, tmp_path / "new", kit)
    new = Home(tmp_path / "new")
    make(new, NAMES[:1])
    assert (new.tls / "authority.pem").read_text() == (home.tls / "authority.pem").read_text()


@pytest.mark.parametrize("what", ["authority.sealed", "authority.pem"])
def test_what_was_altered_or_belongs_to_other_keys_is_refused_with_the_remedy(home, what):
    make(home)
    path = home.tls / what
    text = path.read_text()
    path.write_text(text[:60] + ("A" if text[60] != "A" else "B") + text[61:])
    with pytest.raises(WrongKey) as refusal:
        make(home)
    assert "move it away" in refusal.value.hint
