"""What the browser tests share: the server process, the recorder of what must not happen, signing in, axe."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from axe_playwright_python.sync_playwright import Axe
from fake_api import PASSWORD
from playwright.sync_api import Browser, BrowserContext, Page, expect

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / ".cache" / "screenshots"
WAIT_MS = 60_000  # for what comes at once on a free machine: a busy one is slow, and slow is not wrong
START_WAIT_MS = 240_000  # Gradio's import and the first page
# What Gradio's client says when a page is left while an answer is on its way to it, be it the end of the last one.
LEAVING = ("AbortError", "network error", "Connection errored out")
STOP_WAIT_S = 120  # it may have much to end, on a machine that does other things
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * 127.0.0.1:9, EXCLUDE 127.0.0.1",
]  # fmt: skip
# What the page announces stands there for some seconds only, and a busy test may look later.
_ANNOUNCED = """
window.announced = [];
new MutationObserver(() => {
  const text = document.getElementById("announcement")?.textContent;
  if (text && text !== announced.at(-1)) announced.push(text);
}).observe(document, { childList: true, characterData: true, subtree: true });
"""


@dataclass
class Server:
    """One server process; `url` is its origin."""

    process: subprocess.Popen[str]
    url: str

    def control(self, **changes: object) -> dict[str, list[str]]:
        method = "POST" if changes else "GET"
        return httpx.request(method, f"{self.url}/v1/fake", json=changes or None).json()


@dataclass
class Recorder:
    """What must not happen. `expected` are console errors that leaving a page brings or a test provokes on purpose."""

    origin: str
    foreign: list[str] = field(default_factory=list)
    policy: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=lambda: list(LEAVING))

    def watch(self, context: BrowserContext) -> None:
        context.on("request", lambda request: self._request(request.url))
        context.on("console", lambda message: self._error(message.text) if message.type == "error" else None)
        context.on("weberror", lambda error: self._error(str(error.error)))
        context.expose_binding("policyViolated", lambda _, violation: self.policy.append(violation))
        context.add_init_script(
            "document.addEventListener('securitypolicyviolation',"
            " event => policyViolated(event.violatedDirective + ' ' + event.blockedURI))"
        )
        context.add_init_script(_ANNOUNCED)

    def _request(self, url: str) -> None:
        self.urls.append(url)
        if not url.startswith((f"{self.origin}/", "data:", "blob:")):
            self.foreign.append(url)

    def _error(self, text: str) -> None:
        if not any(words in text for words in self.expected):
            self.errors.append(text)


def start_server() -> Server:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "serve_fake.py")],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return Server(process, process.stdout.readline().strip())


def stop_server(server: Server) -> None:
    server.process.terminate()
    server.process.wait(STOP_WAIT_S)
    assert server.process.stdout is not None
    server.process.stdout.close()


def new_context(browser: Browser, server: Server, recorder: Recorder, **options) -> BrowserContext:
    viewport = {"width": 1440, "height": 990}
    context = browser.new_context(**{"base_url": server.url, "viewport": viewport, **options})
    context.set_default_timeout(WAIT_MS)
    recorder.watch(context)
    return context


def sign_in(page: Page, name: str = "m.keller") -> None:
    page.goto("/login")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#note textarea, #records table")).to_be_visible(timeout=START_WAIT_MS)


def saved_text(page: Page, press: Callable[[], None]) -> tuple[str, str]:
    with page.expect_download() as download:
        press()
    return download.value.suggested_filename, Path(download.value.path()).read_text()


def expect_announced(page: Page, words: str) -> None:
    """That the page has said it, or says it in a while."""
    for _ in range(WAIT_MS // 100):
        if any(words in text for text in page.evaluate("announced")):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"the page has not announced {words!r}, only {page.evaluate('announced')}")


def axe_findings(page: Page) -> list[tuple[str, list[str]]]:
    violations = Axe().run(page).response["violations"]
    return [(found["id"], [node["html"][:160] for node in found["nodes"]]) for found in violations]
