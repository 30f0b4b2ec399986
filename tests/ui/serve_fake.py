"""The site over the in-memory API as a server process of its own, for the browser tests: `python serve_fake.py`.

Prints its address when it listens, and "ready" when the Gradio pages are there. `/v1/fake` lets a test look inside:
GET tells what tried to leave the machine and what lies in the temporary folder, POST changes the fake
(`{"tampered": true}`, `{"end_sessions": true}`, …).
"""

from __future__ import annotations

import asyncio
import os
import socket

import httpx
import uvicorn
from fake_api import FakeApi
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.event_streams import is_end
from ui.hardening import MEMORY_FOLDER, install_egress_tripwire
from ui.settings import UiSettings
from ui.site import create_site


def fake_with_controls(attempts: list[str]) -> FakeApi:
    users = {"m.keller": ["user"], "b.other": ["user"], "a.stone": ["auditor"], "d.reed": ["admin"]}
    users["c.lowe"] = ["admin", "auditor"]
    fake = FakeApi(users=users)

    async def control(request: Request) -> Response:
        if request.method == "POST":
            for name, value in (await request.json()).items():
                if name == "end_sessions":
                    fake.sessions.clear()
                elif name == "fill":
                    fake.fill(value)
                elif name == "ask_release":
                    asked = {"by": value, "by_name": None, "time": "2026-11-24T09:00:00+00:00"}
                    fake.audit.holds[-1]["release_requested"] = asked
                elif name == "expire":
                    fake.audit.retention["exchange"]["expired"] = value
                elif name == "hostile":
                    add_hostile(fake, value)
                elif name == "add_version":
                    fake.specialists.add_version(*value)
                elif name == "installed_by":
                    fake.specialists.versions[value[0]][0]["installed_by"] = value[1]
                elif name == "rename":
                    specialist, words = value
                    fake.specialists.cards[specialist] |= dict.fromkeys(("name", "summary", "limits", "licence"), words)
                elif name == "drop_hostile":
                    fake.records.pop()
                elif hasattr(fake.people, name):
                    setattr(fake.people, name, value)
                elif hasattr(fake, name):
                    setattr(fake, name, value)
                else:
                    setattr(fake.audit, name, value)
        folders = MEMORY_FOLDER.glob(f"cloister-ui-{os.getpid()}-*")
        files = [str(path) for folder in folders for path in folder.rglob("*") if path.is_file()]
        audit = {name: getattr(fake.audit, name) for name in ("searches", "cancelled", "verified")}
        asked = fake.specialists.asked
        changed = {"guard": fake.guard.policies, "passwords": fake.people.changed}
        return JSONResponse({"attempts": attempts, "files": files, "audit": audit, "asked": asked, **changed})

    fake.app.router.routes.append(Route("/v1/fake", control, methods=["GET", "POST"]))
    return fake


def add_hostile(fake: FakeApi, text: str) -> None:
    """A record and a hold whose every value is `text`."""
    record = fake._append(text, text, text, {text: text})
    record |= {"exchange_id": text, "actor_name": text}
    asked = {"by": text, "by_name": text, "time": text}
    hold = {"hold": "ab" * 8, "reason": text, "subjects": 1, "classes": [text], "released": None}
    fake.audit.holds = [{**hold, "set": {"seq": 1, **asked}, "release_requested": asked}]


class LateEnds:
    """A network that is slow to carry the end of a stream: `fake.ends_late_s` seconds."""

    def __init__(self, site: ASGIApp, fake: FakeApi) -> None:
        self._site, self._fake = site, fake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if is_end(message.get("body", b"")):
                await asyncio.sleep(self._fake.ends_late_s)
            await send(message)

        await self._site(scope, receive, sending)


async def say_when_ready(site: ASGIApp) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=site), base_url="http://127.0.0.1") as http:
        while not (await http.get("/ui/status")).json()["ready"]:
            await asyncio.sleep(0.05)
    print("ready", flush=True)


async def main() -> None:
    attempts: list[str] = []
    install_egress_tripwire(attempts.append)
    settings = UiSettings(site_name="St. Brigid Hospital", version="0.1.0", session_check_s=0.2, text_chars_max=20_000)
    fake = fake_with_controls(attempts)
    site = LateEnds(create_site(fake.app, settings), fake)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(site, log_level="warning", timeout_graceful_shutdown=1))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    waiting = asyncio.create_task(say_when_ready(site))
    await server.serve(sockets=[listener])
    await waiting


if __name__ == "__main__":
    asyncio.run(main())
