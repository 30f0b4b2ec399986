"""A person in a browser, the real pages, the real server, the real model: from the one-time link to a verified log.

One walk, watched throughout: no request goes to another origin, the content security policy is never touched, and
the console shows no error. How the pages behave in detail is tested in `tests/ui` against an API in memory.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

import appliance.audit
from tests.conftest import ANSWER_S, start_server, stop_server
from tests.e2e.sites import PAGES_S, eventually

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Another name or address resolves to a closed port of this machine, so that an attempt fails instead of leaving.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * 127.0.0.1:9, EXCLUDE 127.0.0.1",
]  # fmt: skip
PASSWORD = "river-lantern-copper-7"
NOTE = "Seen in clinic. Write to ana.lima@example.org or call (555) 014-2277."
VERIFIER = Path(appliance.audit.__file__).with_name("auditverify.py")
_PAGES_MS = 120_000  # what is waited for comes within a second or two where nothing else runs


@dataclass
class Watch:
    """What must not happen."""

    origin: str
    foreign: list[str] = field(default_factory=list)
    policy: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext) -> None:
        context.on("request", lambda request: self._request(request.url))
        context.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.expose_binding("policyViolated", lambda _, violation: self.policy.append(violation))
        context.add_init_script(
            "document.addEventListener('securitypolicyviolation',"
            " event => policyViolated(event.violatedDirective + ' ' + event.blockedURI))"
        )

    def _request(self, url: str) -> None:
        self.addresses.append(url)
        if not url.startswith((f"{self.origin}/", "data:", "blob:")):
            self.foreign.append(url)


@pytest.fixture
def context():
    found = next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("Chromium is not installed: sudo apt-get install -y chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=CHROMIUM_ARGUMENTS)
        opened = browser.new_context(viewport={"width": 1440, "height": 990})
        opened.set_default_timeout(_PAGES_MS)
        expect.set_options(timeout=_PAGES_MS)
        yield opened
        browser.close()


@pytest.mark.timeout(900)  # a busy machine takes its time; each wait has a bound of its own
def test_from_the_one_time_link_to_a_verified_log(home, tmp_path, context):
    process, url, token = start_server(home.root, tmp_path / "server.log")
    watch = Watch(url)
    watch.over(context)
    try:
        # Until Gradio is imported the pages answer 503 and ask for patience, which a browser's console calls an error.
        status = {"url": f"{url}/ui/status", "trust_env": False, "timeout": ANSWER_S}
        eventually(lambda: httpx.get(**status).json()["ready"], "the pages are there", PAGES_S)
        page = context.new_page()
        create_administrator(page, f"{url}/setup#{token}")
        record = deidentify(page)
        receipt = save(page, page.get_by_role("link", name="Download receipt"), tmp_path)
        look_at_the_log(page, record)
        note = save(page, page.get_by_role("link", name="Download checkpoint"), tmp_path)
        sign_out_and_in_again(page, url)
    finally:
        status = stop_server(process)
    assert (watch.foreign, watch.policy, watch.errors) == ([], [], [])
    assert not [address for address in watch.addresses if token in address or NOTE[:8] in address]
    assert status == 0
    verify_offline(receipt, note, home, tmp_path)


def create_administrator(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_label("User name").fill("chief")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password, once more").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.locator("#note textarea")).to_be_visible()


def deidentify(page: Page) -> str:
    """De-identify the note; returns the record id of the receipt that is shown."""
    page.locator("#note textarea").fill(NOTE)
    page.get_by_role("button", name="De-identify", exact=True).click()
    expect(page.locator(".receipt")).to_be_visible()
    expect(page.locator("#redacted textarea")).to_have_value(re.compile(r"\[EMAIL 1\].*\[PHONE 1\]"))
    expect(page.locator("#marked mark").nth(1)).to_be_visible()  # two of them at least
    return page.locator(".receipt code").first.inner_text()


def look_at_the_log(page: Page, record: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name="Audit log").click()
    expect(page.locator("#records table")).to_be_visible()
    page.get_by_label("Record id").fill(record)
    page.get_by_role("button", name="Open", exact=True).click()
    expect(page.locator("#record")).to_contain_text(record)
    page.get_by_role("button", name="Verify the log").click()
    expect(page.locator(".verdict.is-good")).to_contain_text("The audit log verifies")


def save(page: Page, link, folder: Path) -> Path:
    with page.expect_download() as download:
        link.click()
    target = folder / download.value.suggested_filename
    download.value.save_as(target)
    return target


def sign_out_and_in_again(page: Page, url: str) -> None:
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")
    page.goto(f"{url}/app/deidentify")
    page.get_by_label("User name").fill("chief")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#note textarea")).to_have_value("")


def verify_offline(receipt: Path, note: Path, home, folder: Path) -> None:
    """What the browser saved convinces the stand-alone verifier, together with the public key."""
    command = [sys.executable, "-m", "appliance", "audit", "checkpoint", "--json", "--home", str(home.root)]
    key = re.search(rb'"verifier_key": "([^"]+)"', subprocess.run(command, capture_output=True, check=True).stdout)
    (folder / "key.txt").write_bytes(key[1] + b"\n")
    for target, options in ((receipt, ()), (home.audit_database, ("--trusted", str(note)))):
        words = [sys.executable, "-I", str(VERIFIER), str(target), "--pub", str(folder / "key.txt"), *options]
        done = subprocess.run(words, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout
