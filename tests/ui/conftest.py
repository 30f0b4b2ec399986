"""One server and one browser for each file of browser tests; every test ends with the recorder's lists empty."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import (
    CHROMIUM_ARGUMENTS,
    CHROMIUM_NAMES,
    WAIT_MS,
    Recorder,
    Server,
    new_context,
    sign_in,
    start_server,
    stop_server,
)
from playwright.sync_api import Browser, Page, expect, sync_playwright

expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = start_server()
    assert running.process.stdout is not None and running.process.stdout.readline() == "ready\n"
    running.control(fill=60)
    yield running
    inside = running.control()
    stop_server(running)
    assert (inside["attempts"], inside["files"]) == ([], [])
    assert not list(Path("/dev/shm").glob(f"cloister-ui-{running.process.pid}-*"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("Chromium is not installed: sudo apt-get install -y chromium", pytrace=False)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=CHROMIUM_ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def recorder(server: Server) -> Iterator[Recorder]:
    watching = Recorder(server.url)
    yield watching
    assert (watching.foreign, watching.policy, watching.errors) == ([], [], [])


@pytest.fixture
def page(browser: Browser, server: Server, recorder: Recorder) -> Iterator[Page]:
    with new_context(browser, server, recorder) as context:
        opened = context.new_page()
        sign_in(opened)
        yield opened
