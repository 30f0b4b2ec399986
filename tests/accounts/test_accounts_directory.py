"""Ids of the log lead back to who has them now, however many are asked for, and to nobody else."""

import pytest

from appliance.accounts import store
from appliance.accounts.directory import Directory


def test_ids_of_people_and_keys_are_named(site):
    ana, ben = site.add("ana"), site.add("Ben")
    key, _ = site.add_key("ana", name="lab system")
    ids = {f"user:{ana.id}", f"user:{ben.id}", f"api-key:{key.id}", "user:99", "api-key:99", "local:uid-0", "system"}
    found = site.directory.named(ids)
    assert {actor: one.name for actor, one in found.items()} == {
        f"user:{ana.id}": "ana",
        f"user:{ben.id}": "Ben",
        f"api-key:{key.id}": "ana/lab system",
    }
    assert {one.created for one in found.values()} == {site.clock()}
    assert site.directory.named([]) == {}


def test_disabled_accounts_and_revoked_keys_keep_their_names(site):
    ana = site.add("ana")
    key, _ = site.add_key("ana", name="lab")
    with site.change() as change:
        change.revoke_api_key(key.id)
        change.disable_account("ana")
        change.commit()
    assert {one.name for one in site.directory.named({f"user:{ana.id}", f"api-key:{key.id}"}).values()} == {
        "ana",
        "ana/lab",
    }


def test_more_ids_than_a_statement_takes_are_named(site):
    ana = site.add("ana")
    many = [f"user:{number}" for number in range(ana.id, ana.id + 3 * store.IDS_AT_ONCE)]
    assert [one.name for one in site.directory.named(many).values()] == ["ana"]


@pytest.mark.parametrize(
    "actor", ["user:0", "user:01", "user:x", "USER:1", "user:1\n", "api-key:", "local:uid-1", "system", ""]
)
def test_what_is_no_id_of_this_room_is_not_looked_for(site, actor):
    site.add("ana")
    assert not Directory.keeps(actor)
    assert site.directory.named({actor}) == {}
