"""Guaranteed: the pages about people say of every account what it may do and whether it may sign in, offer nobody to
disable themselves, and show of a key everything but its secret, which is there once; every value stays text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from fake_people import LATER, TIME
from test_ui_escaping import HOSTILE, Reader

from ui import people_views
from ui.client import SignedIn

NOW = datetime(2026, 11, 26, tzinfo=UTC)
BOSS = SignedIn("boss", ("admin",), "S", "1", "c")


def account(name: str, **more) -> dict:
    return {"id": 7, "name": name, "roles": ["user"], "created": TIME, "disabled": None, **more}


def key(name: str, **more) -> dict:
    made = {"id": 3, "name": name, "owner": "ana", "scopes": ["specialist.run"], "created": TIME, "expires": LATER}
    return made | {"revoked": None, "last_used": None} | more


def test_accounts_say_what_they_may_and_are_offered_what_is_possible():
    accounts = [account("ana"), account("ben", disabled=TIME), account("boss", roles=["admin", "user"])]
    drawn = people_views.people({"data": accounts}, BOSS)
    text = " ".join(Reader(drawn).text.split())
    assert "3 accounts" in text and "User: works with specialists" in text and "in the log as user:7" in text
    assert drawn.count('data-press="person-disable"') == 1 and drawn.count('data-press="person-enable"') == 1
    assert "Disabled 2 Nov 2026" in text and "boss you" in text


def test_keys_say_what_they_may_until_when_and_those_that_are_over_come_last():
    keys = [key("old", expires=TIME), key("gone", revoked=TIME), key("live", last_used=TIME)]
    drawn = people_views.api_keys({"data": keys}, whose=True, now=NOW)
    text = " ".join(Reader(drawn).text.split())
    assert text.index("live") < text.index("old") and "Expired 2 Nov 2026" in text and "Revoked 2 Nov 2026" in text
    assert drawn.count('data-press="key-revoke"') == 1 and "Of ana. Last used 2 Nov 2026" in text
    assert "There is no API key." in people_views.api_keys({"data": []}, whose=False, now=NOW)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_hostile_names_stay_text(text):
    drawn = people_views.people({"data": [account(text, roles=[text])]}, BOSS)
    drawn += people_views.api_keys({"data": [key(text, owner=text, scopes=[text])]}, whose=True, now=NOW)
    read = Reader(drawn + people_views.key_made({"name": text, "secret": text}))
    assert {tag for tag, _ in read.elements}.isdisjoint({"script", "img", "style", "svg"})
    assert not [name for _, attributes in read.elements for name, _ in attributes if name.startswith("on")]
