"""Guaranteed, as people meet it in a browser: an administrator adds somebody who then signs in, keeps somebody out and
lets them in, and gives another password; everybody changes their own and is signed out, makes a key that is shown once,
and revokes it. A password stays in no field and no page. Both pages pass axe and fit a narrow window."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browsing import SCREENSHOTS, Recorder, Server, axe_findings, expect_announced, new_context
from fake_api import PASSWORD
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.timeout(600)  # of a busy machine: starting Chromium alone can take a minute

LEAVING = ["AbortError", "network error", "Connection errored out", "401"]


@pytest.fixture(autouse=True)
def calm(recorder: Recorder) -> None:
    recorder.expected += LEAVING


@pytest.fixture
def admin(browser: Browser, server: Server, recorder: Recorder) -> Iterator[Page]:
    with new_context(browser, server, recorder) as context:
        yield signed_in(context.new_page(), "d.reed")


@pytest.fixture
def user(browser: Browser, server: Server, recorder: Recorder) -> Iterator[Page]:
    with new_context(browser, server, recorder) as context:
        page = signed_in(context.new_page(), "m.keller")
        page.get_by_role("link", name="My account").click()
        expect(page.locator("#api-keys .people")).to_be_visible()
        yield page


def signed_in(page: Page, name: str) -> Page:
    page.goto("/login")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#page-head h1")).to_be_visible()
    return page


def press(page: Page, name: str, sure: str = "") -> None:
    page.get_by_role("button", name=name, exact=True).click()
    if sure:
        page.get_by_role("dialog").get_by_role("button", name=sure, exact=True).click()


def test_an_administrator_adds_somebody_who_then_signs_in_and_keeps_others_out(
    admin: Page, browser: Browser, server: Server, recorder: Recorder
) -> None:
    admin.get_by_role("link", name="People").click()
    expect(admin.locator("#people li").first).to_be_visible()
    admin.get_by_label("User name").fill("e.new")
    admin.get_by_label("Password", exact=True).fill("short")
    press(admin, "Add this person")
    expect(admin.locator("#problem [role=alert]")).to_contain_text("the password is too short")
    admin.get_by_label("Password", exact=True).fill(PASSWORD)
    press(admin, "Add this person")
    expect(admin.locator("#said")).to_contain_text("e.new may sign in now.")
    expect(admin.get_by_label("Password", exact=True)).to_have_value("")
    expect(admin.locator("#people")).to_contain_text("e.new")
    with new_context(browser, server, recorder) as context:
        signed_in(context.new_page(), "e.new")
    press(admin, "Disable b.other", "Disable")
    expect(admin.locator("#said")).to_contain_text("b.other is signed out and may not sign in.")
    press(admin, "Let b.other sign in again")
    expect(admin.locator("#said")).to_contain_text("b.other may sign in.")
    expect(admin.get_by_role("button", name="Disable d.reed")).to_have_count(0)
    admin.get_by_label("Account", exact=True).fill("b.other")
    admin.get_by_label("New password").fill("another-long-one")
    press(admin, "Set this password", "Set this password")
    expect(admin.locator("#said")).to_contain_text("b.other signs in with it from now on.")
    assert server.control()["passwords"][-1] == ["b.other", "16"]


def test_what_is_confirmed_when_its_list_was_drawn_anew_is_asked_for_again(admin: Page) -> None:
    admin.get_by_role("link", name="People").click()
    press(admin, "Disable b.other")
    admin.locator("#people").evaluate("(people) => people.querySelectorAll('button').forEach((each) => each.remove())")
    admin.get_by_role("dialog").get_by_role("button", name="Disable", exact=True).click()
    expect_announced(admin, "Press again.")


def test_a_key_is_made_shown_once_and_revoked(user: Page) -> None:
    user.get_by_label("Name of the key").fill("letters")
    user.get_by_label("Valid for days").fill("many")
    press(user, "Make the key")
    expect(user.locator("#problem [role=alert]")).to_contain_text("not a whole number")
    user.get_by_label("Valid for days").fill("30")
    press(user, "Make the key")
    expect(user.locator("#new-key")).to_have_text("clk_1_secret")
    expect(user.locator("#api-keys li")).to_contain_text("letters")
    user.reload()
    expect(user.locator("#api-keys li")).to_contain_text("Never used.")
    assert "clk_1_secret" not in user.content()
    press(user, "Revoke the key letters", "Revoke")
    expect(user.locator("#said")).to_contain_text("The key letters is refused from now on.")


@pytest.mark.parametrize("slow_s", [0.0, 1.0])  # slow: its stream is cut before the answer is on it
def test_changing_one_s_password_asks_for_the_current_one_and_signs_out(
    user: Page, server: Server, recorder: Recorder, slow_s: float
) -> None:
    server.control(change_takes_s=slow_s)
    recorder.expected.append("Response")  # what Gradio throws when it is told 401, as all are that were signed out
    user.get_by_label("Current password").fill("wrong")
    user.get_by_label("New password", exact=True).fill("a-new-password-1")
    user.get_by_label("New password once more").fill("a-new-password-2")
    press(user, "Change the password")
    expect(user.locator("#problem [role=alert]")).to_contain_text("the two new passwords are not the same")
    user.get_by_label("New password once more").fill("a-new-password-1")
    press(user, "Change the password")
    expect(user.locator("#problem [role=alert]")).to_contain_text("the password is wrong")
    user.get_by_label("Current password").fill(PASSWORD)
    press(user, "Change the password")
    expect(user).to_have_url(f"{server.url}/login?why=ended")
    assert server.control()["passwords"][-1] == ["m.keller", "16"]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
def test_the_pages_about_people_pass_axe_and_fit(
    browser: Browser, server: Server, recorder: Recorder, scheme: str, width: int
) -> None:
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with new_context(browser, server, recorder, **options) as context:
        page = signed_in(context.new_page(), "d.reed")
        for name, drawn in (("people", "#api-keys .people"), ("account", "#own-change")):
            page.goto(f"/app/{name}")
            expect(page.locator(drawn)).to_be_visible()
            expect(page.locator("text=One moment…")).to_have_count(0)
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png", full_page=True)
            assert axe_findings(page) == []
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
