"""Imports Gradio and builds its pages in a thread, after the API is up. Owner of "is Gradio there yet".

Importing Gradio takes seconds; nothing that the API answers waits for it. `ui.gradio_pages` imports Gradio at its
top and must therefore be imported by nobody but this module, and only after `hardening.set_environment`.
"""

from __future__ import annotations

import asyncio
import logging
from importlib import import_module
from pathlib import Path

from fastapi import FastAPI
from starlette.types import ASGIApp

from ui.client import Client
from ui.hardening import close_fetching, install_egress_tripwire, make_temp_folder, remove_folder, set_environment, wipe
from ui.settings import UiSettings

logger = logging.getLogger(__name__)

_WIPE_EVERY_S = 60.0
_WIPE_OLDER_THAN_S = 900.0
_STOP_S = 5.0


class Loader:
    """`start` returns at once; `app` is None until the pages are built; `stop` ends what was started."""

    def __init__(self, client: Client, settings: UiSettings) -> None:
        self._client = client
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.app: ASGIApp | None = None
        self.failed = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="ui-loader")

    async def stop(self) -> None:
        self._stopping.set()
        self.app = None
        if self._task is not None:
            _, pending = await asyncio.wait({self._task}, timeout=_STOP_S)
            for task in pending:
                task.cancel()

    async def _run(self) -> None:
        """Everything Gradio needs, from its first import to its end, in one task."""
        folder = make_temp_folder()
        try:
            mounted = await asyncio.to_thread(_build, self._client, self._settings, folder)
            async with mounted.router.lifespan_context(mounted):
                self.app = mounted
                logger.info("the pages are ready")
                while not self._stopping.is_set():
                    wipe(folder, older_than_s=_WIPE_OLDER_THAN_S)
                    try:
                        await asyncio.wait_for(self._stopping.wait(), _WIPE_EVERY_S)
                    except TimeoutError:
                        continue
        except Exception:  # whatever Gradio raises: the API goes on, and the log says why
            self.failed = True
            logger.exception("the pages could not be started; the API is not affected")
        finally:
            self.app = None
            remove_folder(folder)


def _build(client: Client, settings: UiSettings, folder: Path) -> FastAPI:
    """The slow part, in a thread. Gradio makes a loop for every lock unless one is running; this one ends here."""

    async def build() -> FastAPI:
        set_environment(folder)
        if settings.egress_tripwire:
            install_egress_tripwire(allowed_addresses=settings.allowed_addresses)
        gradio_pages = import_module("ui.gradio_pages")
        close_fetching()
        return gradio_pages.mounted_pages(client, settings)

    return asyncio.run(build())
