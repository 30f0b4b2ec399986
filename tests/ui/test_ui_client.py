"""Guaranteed: the pages reach the product only through the API, with the visitor's own cookie, address and CSRF
token, and show its refusals in its own words. Shown against the in-memory API, over the same transport as in use."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from fake_api import PASSWORD, SETUP_TOKEN, FakeApi
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ui.client import Client, Refused, Visitor
from ui.views import deidentified, verdict


def run(call: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(call)


def visitor(fake: FakeApi, name: str | None = "m.keller", address: tuple[str, int] = ("10.0.0.7", 50000)) -> Visitor:
    return Client(fake.app).visitor(cookie=fake.open_session(name) if name else None, address=address)


def refusal_of(call: Coroutine[Any, Any, Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        run(call)
    return caught.value


def test_signing_in_opens_a_session_for_the_browsers_own_address() -> None:
    fake = FakeApi()
    client = Client(fake.app)
    secret = run(client.visitor(cookie=None, address=("10.0.0.7", 1)).sign_in("m.keller", PASSWORD))
    assert fake.sessions == {secret: "m.keller"}
    assert fake.addresses == ["10.0.0.7"]
    assert run(client.visitor(cookie=secret, address=None).session()).roles == ("user",)


def test_a_refusal_keeps_the_words_of_the_api() -> None:
    refusal = refusal_of(visitor(FakeApi(), None).sign_in("m.keller", "wrong"))
    assert (refusal.status, refusal.code) == (401, "unauthenticated")
    assert (refusal.message, refusal.hint) == (
        "the user name or the password is wrong",
        "check both and try again",
    )


def test_without_a_cookie_every_call_is_nobodys() -> None:
    nobody = visitor(FakeApi(), None)
    calls = (nobody.session(), nobody.deidentify("x", style="label"), nobody.records(), nobody.verify())
    assert all(refusal_of(call).signed_out for call in calls)


def test_a_change_carries_the_sessions_csrf_token() -> None:
    fake = FakeApi()
    answer = run(visitor(fake).deidentify("Margaret came", style="label"))
    assert answer["text"] == "[NAME 1] came"
    assert fake.records[-1]["actor"] == "m.keller"


def test_signing_out_ends_the_session_at_the_api() -> None:
    fake = FakeApi()
    person = visitor(fake)
    run(person.sign_out())
    assert fake.sessions == {}
    assert refusal_of(person.session()).signed_out


def test_setup_goes_through_once() -> None:
    fake = FakeApi()
    nobody = visitor(fake, None)
    assert run(nobody.setup_is_open())
    run(nobody.create_first_administrator(SETUP_TOKEN, "chief", PASSWORD))
    assert not run(nobody.setup_is_open())
    refusal = refusal_of(nobody.create_first_administrator(SETUP_TOKEN, "second", PASSWORD))
    assert refusal.code == "setup_link_invalid"


def test_records_are_read_page_by_page_without_loss() -> None:
    fake = FakeApi()
    fake.fill(12)
    person, seen, after = visitor(fake), [], None
    while True:
        page = run(person.records(after=after, limit=5))
        seen += [record["seq"] for record in page["data"]]
        after = page["next"]
        if after is None:
            break
    assert seen == list(range(11, -1, -1))


def test_each_user_sees_what_the_api_shows_that_user() -> None:
    fake = FakeApi()
    fake.users["b.other"] = ["user"]
    run(visitor(fake, "b.other").deidentify("Ruth", style="label"))
    record_id = fake.records[0]["record_id"]
    assert run(visitor(fake, "m.keller").records())["data"] == []
    assert refusal_of(visitor(fake, "m.keller").record(record_id)).code == "record_not_found"
    assert run(visitor(fake, "a.stone").record(record_id))["content"] == "Ruth"


@pytest.mark.parametrize("record_id", ["../../accounts", "a/b", "", "..", "%2e%2e", "x?y=1#z", "\u202e", "é"])
def test_a_record_id_never_becomes_another_path(record_id: str) -> None:
    refusal = refusal_of(visitor(FakeApi()).record(record_id))
    assert refusal.status == 404


@pytest.mark.parametrize("text", ["\ud800 lone", "nul \0 byte", "\udfff"])
def test_text_that_is_no_text_reaches_the_api_and_is_refused_there(text: str) -> None:
    assert refusal_of(visitor(FakeApi()).deidentify(text, style="label")).code == "input_not_text"


def test_an_answer_that_is_not_the_apis_becomes_a_plain_sentence() -> None:
    broken = Starlette(routes=[Route("/v1/sessions/current", lambda _: PlainTextResponse("<b>trace</b>", 500))])
    refusal = refusal_of(Client(broken).visitor(cookie="x", address=None).session())
    assert refusal.code == "internal_error"
    assert "trace" not in refusal.message


def test_a_crash_of_the_api_is_a_refusal_and_not_a_crash_of_the_page() -> None:
    def crash(_: object) -> None:
        raise RuntimeError("secret content")

    broken = Starlette(routes=[Route("/v1/sessions/current", crash)])
    refusal = refusal_of(Client(broken).visitor(cookie="x", address=None).session())
    assert refusal.status == 500
    assert "secret" not in f"{refusal.message}{refusal.hint}"


def test_what_is_drawn_of_an_answer_counts_what_was_found() -> None:
    text = "Margaret O'Neill, born 03/14/1931, called (555) 014-2277."
    shown = deidentified(text, run(visitor(FakeApi()).deidentify(text, style="mask")))
    assert shown.problem == ""
    assert shown.marked.count("<mark") == 3
    assert "O'Neill" not in shown.redacted
    assert "<dd>3</dd>" in shown.summary
    assert "Download receipt" in shown.receipt


@pytest.mark.parametrize(("code", "good"), [(0, True), (2, True), (10, False), (20, False), (30, False), (99, False)])
def test_only_the_verifiers_accepting_codes_are_drawn_as_good(code: int, good: bool) -> None:
    drawn = verdict({"verdict": "x", "exit_code": code, "records": 3, "first_bad_seq": None, "messages": []})
    assert ("is-good" in drawn, "is-bad" in drawn) == (good, not good)
