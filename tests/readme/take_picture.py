"""Takes the picture of the README anew: the De-identify page of a real server, after its own sample note.

    python -m tests.readme.take_picture       # writes tests/readme/deidentify.png; wants Chromium and the base model

Not a test: what a page looks like is for people to judge. `make readme-picture` runs it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from appliance.config import Home, load_config
from appliance.service.initialise import initialise
from tests.conftest import ADMIN_PASSWORD, BASE_MODEL, start_server, stop_server

PICTURE = Path(__file__).with_name("deidentify.png")
SETTINGS = '[server]\nsite_name = "St. Brigid Hospital"\n'
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * 127.0.0.1:9, EXCLUDE 127.0.0.1"]
START_MS = 240_000
SIZE = (1440, 1010)
COLOURS = 160


def main() -> None:
    """A data folder of its own, a server, one signed-in browser."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        home.root.mkdir(mode=0o700)
        shutil.copytree(BASE_MODEL / "models", home.root / "models")
        initialise(load_config(home.root), progress=lambda _line: None)
        home.config_file.write_text(SETTINGS)
        process, url, token = start_server(home.root, Path(folder) / "server.log")
        try:
            take(url, token)
            stop_server(process)
        finally:
            process.kill()
            process.wait()


def take(url: str, token: str) -> None:
    """Set up, sign in, de-identify the sample twice (the first time loads the specialist), and take the picture."""
    setup = {"token": token, "username": "m.keller", "password": ADMIN_PASSWORD}
    assert httpx.post(f"{url}/v1/setup", json=setup, trust_env=False, timeout=60).status_code == 201
    found = next(path for name in ("chromium", "chromium-browser") if (path := shutil.which(name)))
    expect.set_options(timeout=START_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=CHROMIUM_ARGUMENTS)
        size = {"width": SIZE[0], "height": SIZE[1]}
        page = browser.new_page(base_url=url, viewport=size, color_scheme="light", reduced_motion="reduce")
        page.goto("/login")
        page.get_by_label("User name").fill("m.keller")
        page.get_by_label("Password").fill(ADMIN_PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#note textarea")).to_be_visible()
        deidentify(page)
        page.get_by_role("button", name="Clear").click()
        expect(page.locator("#note textarea")).to_have_value("")
        deidentify(page)
        page.locator("h1").click()  # nothing has the focus in a picture
        page.screenshot(path=PICTURE)
        browser.close()
    shrink(PICTURE)


def deidentify(page: Page) -> None:
    """Ask about the sample and wait for the receipt."""
    page.get_by_role("button", name="Use a sample").click()
    expect(page.locator("#note textarea")).not_to_have_value("")
    page.get_by_role("button", name="De-identify", exact=True).click()
    expect(page.locator(".receipt code").first).to_be_visible()


def shrink(picture: Path) -> None:
    """Fewer colours: a picture of text needs no more, and it comes with every copy of the repository."""
    Image.open(picture).convert("RGB").quantize(COLOURS).save(picture, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
