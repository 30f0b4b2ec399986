"""Guaranteed, as people meet it in a browser: an administrator sets what happens to identifiers, and from the next
message on it does. Masked, the asker sees their own words, what was kept from the model, and what it read and wrote;
blocked, they keep their text and are told how to go on; the page passes axe in both themes and fits a narrow window.

Chromium against the real server with the real detector; the model repeats what it reads (the engine's echo backend)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browsing import SCREENSHOTS, START_WAIT_MS, Recorder, Server, axe_findings, new_context
from playwright.sync_api import Browser, Page, expect

from appliance.config import Home, ModelsConfig
from appliance.service.models import read_facts
from appliance.specialists.language_models.library import ModelLibrary, Origin
from benchmarks.random_decoder import TINY, write_decoder
from tests.conftest import ADMIN_PASSWORD, USER_PASSWORD, start_server, stop_server

pytestmark = pytest.mark.timeout(600)  # of a busy machine: starting Chromium alone can take a minute

SETTINGS = '[generation]\nbackend = "echo"\ncontext_tokens = 2000\n'
NOTE = "Please write to Mrs. Hannah Okafor, MRN 48213377, about her visit."
LEAVING = ["AbortError", "network error", "Connection errored out"]


@pytest.fixture(scope="module")
def server(home_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server with one model that echoes, an administrator and a user."""
    folder = tmp_path_factory.mktemp("guarded")
    home = Home(folder / "home")
    shutil.copytree(home_template, home.root)
    home.config_file.write_text(SETTINGS)
    file = folder / "tiny-writer.gguf"
    write_decoder(file, TINY, seed=7)
    library = ModelLibrary(home, ModelsConfig(disk_free_bytes_min=0), read_facts)
    library.add(file, Origin(kind="file", file=file.name), added_by="t")
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
        yield Server(process, url)
        assert stop_server(process) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def calm(recorder: Recorder) -> None:
    recorder.expected += LEAVING


@pytest.fixture
def admin(browser: Browser, server: Server, recorder: Recorder) -> Iterator[Page]:
    with new_context(browser, server, recorder) as context:
        page = signed_in(context.new_page(), "admin", ADMIN_PASSWORD)
        page.goto("/app/identifiers")
        expect(page.locator("#rules tbody tr").first).to_be_visible(timeout=START_WAIT_MS)
        yield page


@pytest.fixture
def page(browser: Browser, server: Server, recorder: Recorder) -> Iterator[Page]:
    with new_context(browser, server, recorder) as context:
        yield signed_in(context.new_page(), "ana", USER_PASSWORD)


def signed_in(page: Page, name: str, password: str) -> Page:
    page.goto("/login")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#page-head h1")).to_be_visible(timeout=START_WAIT_MS)
    return page


def decide(admin: Page, policy: str) -> None:
    """For everybody, as an administrator does it."""
    admin.get_by_label(f"{policy}:").check()
    admin.get_by_role("button", name="Set this policy", exact=True).click()
    admin.get_by_role("dialog").get_by_role("button", name="Set this policy").click()
    expect(admin.locator("#said")).to_contain_text(f"default: {policy.lower()} from the next question on.")


def begin(page: Page, text: str) -> None:
    page.goto("/app/assistant")
    expect(page.locator("#chats nav")).to_be_visible(timeout=START_WAIT_MS)
    expect(page.locator("#chat-policy p")).to_be_visible()
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Control+Enter")


def test_what_is_masked_is_shown_to_whoever_asked_as_they_wrote_it_and_as_the_model_read_it(
    admin: Page, page: Page
) -> None:
    decide(admin, "Mask")
    begin(page, NOTE)
    expect(page.locator("#chat-state")).to_have_text("The answer is complete.")
    expect(page.locator("#chat-policy")).to_contain_text("it reads placeholders instead")
    question, answer = page.locator(".turn.is-user"), page.locator(".turn.is-assistant")
    expect(answer.locator(".said").first).to_have_text(NOTE)
    expect(question.locator(".said mark").first).to_contain_text("Hannah Okafor")
    expect(question.locator(".note")).to_contain_text("Kept from the model")
    question.get_by_text("Show what the model read").click()
    expect(question.locator(".turn-marks mark").first).to_contain_text("[NAME 1]")
    answer.get_by_text("Show what the model wrote").click()
    expect(answer.locator(".turn-marks")).not_to_contain_text("Okafor")
    page.reload()
    expect(page.locator(".turn.is-user .said mark").first).to_contain_text("Hannah Okafor")


def test_what_is_blocked_stays_in_its_field_and_the_page_says_how_to_go_on(admin: Page, page: Page) -> None:
    decide(admin, "Block")
    begin(page, f"Bed seven. {NOTE}")
    refused = page.get_by_role("alert")
    expect(refused).to_contain_text("the policy here lets none of them to a model")
    expect(refused).to_be_in_viewport()
    expect(page.get_by_label("Message", exact=True)).to_have_value(f"Bed seven. {NOTE}")
    # Nothing of it was kept, its first words as a conversation's title neither.
    expect(page.locator("#chats")).not_to_contain_text("Bed seven")
    assert "conversation=" not in page.url
    refused.get_by_role("link", name="de-identify the text first").click()
    expect(page.locator("#note textarea")).to_be_visible(timeout=START_WAIT_MS)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
def test_marked_messages_pass_axe_and_fit(
    browser: Browser, server: Server, recorder: Recorder, admin: Page, scheme: str, width: int
) -> None:
    decide(admin, "Mark")
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with new_context(browser, server, recorder, **options) as context:
        page = signed_in(context.new_page(), "ana", USER_PASSWORD)
        begin(page, NOTE)
        expect(page.locator("#chat-state")).to_have_text("The answer is complete.")
        page.get_by_text("Show what was marked").click()
        expect(page.locator(".turn-marks mark").first).to_be_visible()
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"guarded-{scheme}-{width}.png", full_page=True)
        assert axe_findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_a_conversation_that_no_longer_fits_says_what_was_not_read(admin: Page, page: Page) -> None:
    decide(admin, "Allow")
    page.goto("/app/assistant")
    expect(page.locator("#chats nav")).to_be_visible(timeout=START_WAIT_MS)
    for messages in (2, 4):
        page.get_by_label("Message", exact=True).fill("A long note. " * 60)
        page.keyboard.press("Control+Enter")
        expect(page.locator("#talk article")).to_have_count(messages)
        expect(page.locator("#chat-state")).to_have_text("The answer is complete.")
    expect(page.locator(".turn .note").last).to_contain_text("were not read for this answer")
