"""Guaranteed, as people meet it in a browser: a conversation is begun, answered while one watches, stopped, answered
again, edited, renamed, opened again and deleted after a question; every answer has its receipt; whatever is written
stays text, whoever wrote it; without a model the page says what to do; it passes axe and fits in both themes.

Chromium against the real server, whose models repeat what they are asked (the engine's echo backend): what a person
types comes back as what a model wrote. Every test ends with the recorder's lists empty."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browsing import SCREENSHOTS, START_WAIT_MS, Recorder, Server, axe_findings, new_context, saved_text
from playwright.sync_api import Browser, Locator, Page, expect

from appliance.config import Home, ModelsConfig
from appliance.service.models import read_facts
from appliance.specialists.language_models.library import ModelLibrary, Origin
from benchmarks.random_decoder import TINY, write_decoder
from tests.conftest import ADMIN_PASSWORD, USER_PASSWORD, start_server, stop_server

pytestmark = pytest.mark.timeout(600)  # of a busy machine: starting Chromium alone can take a minute

SETTINGS = '[generation]\nbackend = "echo"\ncontext_tokens = 400000\n[engine]\nbackend = "echo"\n'
MARKDOWN = "# Plan\n\n1. **First**\n2. `code`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\nlet x = 1;\n```"
HOSTILE = (
    '<img src="http://evil.test/a.png" onerror="window.pwned=1"><script>window.pwned=2</script>'
    "![p](http://evil.test/b.png) [click](http://evil.test/c) <http://evil.test/d> [ref]: http://evil.test/e "
    "<div style=background:url(http://evil.test/f)> &lt;b&gt; javascript:alert(1) \u202egnp"
)
LONG = "The patient is well. " * 8000
LEAVING = ["AbortError", "network error", "Connection errored out"]


@pytest.fixture(scope="module")
def server(home_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server with one model, an administrator who is a user, and a user."""
    folder = tmp_path_factory.mktemp("echoing")
    home = Home(folder / "home")
    shutil.copytree(home_template, home.root)
    home.config_file.write_text(SETTINGS)
    process, url, token = start_server(home.root, folder / "server.log")
    try:
        setup = {"token": token, "username": "admin", "password": ADMIN_PASSWORD}
        assert httpx.post(f"{url}/v1/setup", json=setup, trust_env=False, timeout=120).status_code == 201
        with httpx.Client(base_url=url, trust_env=False, timeout=120) as client:
            signed_in = client.post("/v1/sessions", json={"username": "admin", "password": ADMIN_PASSWORD}).json()
            body = {"username": "ana", "password": USER_PASSWORD, "roles": ["user"]}
            headers = {"X-CSRF-Token": signed_in["csrf"]}
            assert client.post("/v1/accounts", json=body, headers=headers).status_code == 201
            while not client.get("/ui/status").json()["ready"]:  # bounded by the test's own time limit
                time.sleep(0.2)  # asking without a pause takes what the pages need to start
        running = Server(process, url)
        running.home = home  # type: ignore[attr-defined]
        yield running
        assert stop_server(process) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def model(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Added while the server runs, as an administrator would."""
    file = tmp_path_factory.mktemp("model") / "tiny-writer.gguf"
    write_decoder(file, TINY, seed=7)
    library = ModelLibrary(server.home, ModelsConfig(disk_free_bytes_min=0), read_facts)  # type: ignore[attr-defined]
    return library.add(file, Origin(kind="file", file=file.name), added_by="t").id


@pytest.fixture(autouse=True)
def calm(recorder: Recorder) -> None:
    recorder.expected += LEAVING


@pytest.fixture
def page(browser: Browser, server: Server, recorder: Recorder) -> Iterator[Page]:
    with new_context(browser, server, recorder) as context:
        yield signed_in(context.new_page(), "ana", USER_PASSWORD)


def signed_in(page: Page, name: str, password: str) -> Page:
    page.goto("/login")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#note textarea")).to_be_visible(timeout=START_WAIT_MS)
    page.get_by_role("link", name="Assistant").click()
    expect(page.locator("#chats nav")).to_be_visible(timeout=START_WAIT_MS)
    return page


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def send(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Control+Enter")


def shows(page: Page, *messages: str) -> None:
    """All messages of the conversation, and that nothing is being written any more."""
    expect(page.locator("#talk .said")).to_have_text(list(messages))
    expect(page.locator("#live article")).to_have_count(0)
    expect(button(page, "Send")).to_be_enabled()


def complete(page: Page, messages: int = 2) -> None:
    expect(page.locator("#talk article")).to_have_count(messages)
    expect(page.locator("#chat-state")).to_have_text("The answer is complete.")


def test_without_a_model_the_page_says_what_to_do_and_leads_to_specialists(page: Page) -> None:
    """First of all: no model was added yet."""
    empty = page.get_by_role("region", name="No model that writes is installed on this server")
    expect(empty).to_contain_text("appliance models import FILE.gguf")
    expect(button(page, "Send")).to_be_disabled()
    assert axe_findings(page) == []
    page.get_by_role("link", name="see which there are").click()
    expect(page.locator(".specialist-cards > li").first).to_be_visible()


@pytest.mark.usefixtures("model")
def test_a_conversation_is_begun_by_keyboard_answered_and_proved(page: Page, recorder: Recorder) -> None:
    page.reload()
    expect(page.get_by_label("Answered by")).to_have_value("tiny-writer")
    expect(page.get_by_label("Answered by").locator("option").first).to_have_text("Choose for me")
    send(page, "Dear colleague, ")
    shows(page, "Dear colleague,", "Dear colleague,")
    expect(page.get_by_label("Message", exact=True)).to_have_value("")
    expect(page.locator("#chat-state")).to_have_text("The answer is complete.")
    expect(page.locator("#chat-head h2")).to_have_text("Dear colleague,")
    expect(page).to_have_url(re.compile(r"\?conversation=[0-9a-f]{32}$"))
    send(page, "yours")
    shows(page, "Dear colleague,", "Dear colleague,", "yours", "Dear colleague, Dear colleague, yours")
    receipt = page.locator(".turn-receipt").last
    receipt.locator("summary").click()
    expect(receipt.locator("summary")).to_have_text("Receipt of answer 2")
    expect(receipt).to_contain_text("The whole answer was recorded in the audit log as number")
    name, proof = saved_text(page, lambda: receipt.get_by_role("link", name="Download receipt").click())
    assert name.endswith(".tlog-proof") and proof.startswith("c2sp.org/tlog-proof@v1")
    page.reload()
    expect(page.locator("#talk article")).to_have_count(4)
    page.locator(".turn-receipt summary").last.click()
    page.get_by_role("link", name="Show the record").last.click()
    expect(page.locator("#record h2")).to_contain_text("Record")
    expect(page.locator("#record")).to_contain_text("model.generate")
    assert not [url for url in recorder.urls if "Dear" in url]  # nothing that was written is in an address


@pytest.mark.usefixtures("model")
def test_an_answer_is_stopped_kept_as_far_as_it_came_and_given_again(page: Page) -> None:
    send(page, LONG)
    live = page.locator("#live .said")
    expect(live).to_contain_text("The patient is well.")
    button(page, "Stop").click()
    expect(page.locator("#chat-state")).to_have_text("The answer was stopped.")
    expect(button(page, "Send")).to_be_enabled()
    expect(page.locator("#live article")).to_have_count(0)
    answer = page.locator("#talk article").last
    expect(answer).to_contain_text("You stopped it here.")
    kept = answer.locator(".said").inner_text()
    assert 0 < len(kept) < len(LONG) - 100
    button(page, "Edit message 1").click()
    field = page.get_by_label("Message", exact=True)
    expect(field).to_be_focused()
    expect(page.locator("#editing")).to_contain_text("takes the place of that message")
    button(page, "Keep it as it is").click()
    expect(field).to_have_value("")
    button(page, "Edit message 1").click()
    expect(field).to_have_value(LONG)
    send(page, "Short.")
    shows(page, "Short.", "Short.")
    expect(page.locator("#editing .notice")).to_have_count(0)
    before = page.locator(".turn-receipt a").first.get_attribute("href")
    button(page, "Answer again").click()
    expect(page.locator(f'.turn-receipt a[href="{before}"]')).to_have_count(0)  # another answer, another record
    shows(page, "Short.", "Short.")


@pytest.mark.usefixtures("model")
def test_leaving_the_page_ends_the_answer_and_keeps_what_was_there(page: Page) -> None:
    send(page, LONG)
    expect(page.locator("#live .said")).to_contain_text("The patient is well.")
    page.reload()
    for _ in range(100):  # the server notices that nobody reads any more, and keeps what was read
        if page.locator("#talk article").count() == 2:
            break
        page.reload()
        expect(page.locator("#talk article").first).to_be_visible()
    expect(page.locator("#talk article").last).to_contain_text("You stopped it here.")


@pytest.mark.usefixtures("model")
def test_conversations_are_renamed_opened_and_deleted_after_a_question(page: Page) -> None:
    send(page, "keep me")
    complete(page)
    page.get_by_role("link", name="New", exact=True).click()
    expect(page.locator("#talk")).to_contain_text("Write a message below")
    send(page, "destroy me")
    complete(page)
    button(page, "Rename").click()
    dialog = page.get_by_role("dialog", name="New title")
    expect(dialog.get_by_label("New title")).to_have_value("destroy me")
    dialog.get_by_label("New title").fill("Second <b>title</b>")
    page.keyboard.press("Enter")
    expect(page.locator("#chat-head h2")).to_have_text("Second <b>title</b>")
    expect(page.locator("#chats li").first).to_contain_text("Second <b>title</b>")
    gone = page.url
    button(page, "Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    shows(page, "destroy me", "destroy me")
    button(page, "Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#talk")).to_contain_text("its key is destroyed")
    expect(page.locator("#chats")).not_to_contain_text("Second")
    page.goto(gone)
    expect(page.get_by_role("alert")).to_contain_text("no such conversation of yours")
    page.get_by_role("link", name="keep me").first.press("Enter")
    expect(page.locator("#talk .said").first).to_have_text("keep me")


@pytest.mark.usefixtures("model")
def test_what_is_written_stays_text_and_fetches_nothing(page: Page, recorder: Recorder) -> None:
    send(page, MARKDOWN)
    complete(page)
    answer = page.locator("#talk .said").last
    expect(answer.locator("h4")).to_have_text("Plan")
    expect(answer.locator("ol > li strong")).to_have_text("First")
    expect(answer.locator("table td")).to_have_text(["1", "2"])
    expect(answer.locator("pre code")).to_have_text("let x = 1;")
    page.get_by_role("link", name="New", exact=True).click()
    expect(page.locator("#talk")).to_contain_text("Write a message below")
    send(page, HOSTILE)
    complete(page)
    for shown in page.locator("#talk .said").all():
        assert "window.pwned=2</script>" in shown.inner_text() and "⟨U+202E⟩" in shown.inner_text()
        assert shown.locator("a, img, script, [style]").count() == 0
    assert page.evaluate("window.pwned") is None
    assert not [url for url in recorder.urls if "evil.test" in url]


@pytest.mark.usefixtures("model")
def test_another_person_sees_none_of_it_and_parameters_are_for_those_who_may(
    page: Page, browser: Browser, server: Server, recorder: Recorder
) -> None:
    send(page, "mine alone")
    complete(page)
    expect(page.get_by_text("Instructions and parameters")).to_have_count(0)
    with new_context(browser, server, recorder) as context:
        other = signed_in(context.new_page(), "admin", ADMIN_PASSWORD)
        expect(other.locator("#chats")).to_contain_text("None yet")
        other.goto(page.url)
        expect(other.get_by_role("alert")).to_contain_text("no such conversation of yours")
        other.get_by_role("button", name="Instructions and parameters").click()
        other.get_by_label("Instructions before everything").fill("Be brief: ")
        other.get_by_label("Most tokens").fill("many")
        send(other, "hello")
        expect(other.get_by_role("alert")).to_contain_text("most tokens is not a number")
        other.get_by_label("Most tokens").fill("9")
        other.get_by_label("Message", exact=True).press("Control+Enter")
        shows(other, "hello", "Be brief:")
        expect(other.locator("#talk")).to_contain_text("It ends at the limit of its length.")
        other.get_by_label("Most tokens").fill("")
        button(other, "Use them in this conversation").click()
        expect(other.locator("#chat-state")).to_contain_text("from the next answer on")
        button(other, "Answer again").click()
        shows(other, "hello", "Be brief:hello")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 420), ("dark", 420)])
def test_the_page_passes_axe_and_fits(
    browser: Browser, server: Server, recorder: Recorder, scheme: str, width: int
) -> None:
    findings: dict[str, object] = {}
    options = {"viewport": {"width": width, "height": 990}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with new_context(browser, server, recorder, **options) as context:
        page = signed_in(context.new_page(), "admin", ADMIN_PASSWORD)

        def check(name: str) -> None:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png", full_page=True)
            if found := axe_findings(page):
                findings[name] = found
            if (overflow := page.evaluate("document.documentElement.scrollWidth - innerWidth")) > 0:
                findings[f"{name} is wider than the window"] = overflow

        check("assistant-new")
        send(page, MARKDOWN)
        complete(page)
        send(page, "And a short one, please: what is due on Monday?")
        complete(page, 4)
        page.locator(".turn-receipt summary").last.click()
        page.get_by_role("button", name="Instructions and parameters").click()
        expect(page.get_by_label("Seed")).to_be_visible()
        button(page, "Edit message 2").click()
        expect(page.locator("#editing .notice")).to_be_visible()
        check("assistant")
    assert findings == {}
