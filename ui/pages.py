"""The pages that need no Gradio: sign-in, setup, sign-out, downloads, static files, and "starting" until it is there.

All of it is plain server HTML and works without script, apart from moving the one-time code out of the address.
The code comes after the `#` of the link, a part that browsers never send, so it is in no log of any proxy; the
form then posts it. Downloads are answered from memory: nothing of them is on disk, and nothing is cached.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from ui.chrome import landing_path
from ui.client import Client, Json, Refused, Visitor
from ui.markup import page
from ui.periods import days
from ui.policy import PAGES, UPLOAD_SPECIALIST, UPLOAD_TABLE
from ui.sessions import Sessions
from ui.settings import UiSettings

FORM_FIELDS_MAX = 8
Upload = Callable[[AsyncIterator[bytes], str], Awaitable[Json]]  # a form's body and its content type
_NOTICES = {
    "ended": "Your session has ended. Sign in again; what you had typed is gone.",
    "out": "You are signed out.",
    "created": "The account has been created. Sign in with it.",
}


class GradioState(Protocol):
    """The part of the loader that these pages look at."""

    @property
    def app(self) -> ASGIApp | None: ...

    @property
    def failed(self) -> bool: ...


def create_pages(client: Client, sessions: Sessions, gradio: GradioState, settings: UiSettings) -> Starlette:
    """The application behind the guard. Gradio is mounted by looking it up per request, because it comes later."""
    pages = _Pages(client, sessions, gradio, settings)
    static = StaticFiles(directory=Path(str(files("ui"))) / "static")
    return Starlette(
        routes=[
            Route("/", pages.home),
            Route("/login", pages.sign_in_form, methods=["GET"]),
            Route("/login", pages.sign_in, methods=["POST"]),
            Route("/setup", pages.setup_form, methods=["GET"]),
            Route("/setup", pages.setup, methods=["POST"]),
            Route("/logout", pages.sign_out, methods=["POST"]),
            Route("/receipts/{record_id}", pages.receipt),
            Route("/checkpoint", pages.checkpoint),
            Route("/audit/export", pages.export),
            Route("/specialists/{specialist}/{version}/file", pages.specialist_file),
            Route(UPLOAD_TABLE, pages.table, methods=["POST"]),
            Route(UPLOAD_SPECIALIST, pages.specialist, methods=["POST"]),
            Route("/ui/status", pages.status),
            Route("/favicon.ico", pages.icon),
            Mount("/ui/static", static),
            Mount("", _Gradio(gradio, settings)),  # last: whatever else the guard let through is Gradio's
        ]
    )


@dataclass(frozen=True, slots=True)
class _Pages:
    client: Client
    sessions: Sessions
    gradio: GradioState
    settings: UiSettings

    async def home(self, request: Request) -> Response:
        try:
            holder = await self.sessions.find(request.cookies.get(self.settings.session_cookie))
        except Refused as refusal:
            return self._message("The server is busy", refusal)
        return _see_other(landing_path(holder.user) if holder else "/login")

    async def sign_in_form(self, request: Request) -> Response:
        notice = _NOTICES.get(request.query_params.get("why", ""))
        return self._sign_in_page(notice=notice)

    async def sign_in(self, request: Request) -> Response:
        form = await request.form(max_files=0, max_fields=FORM_FIELDS_MAX)
        username, password = _field(form.get("username")), _field(form.get("password"))
        try:
            return await self._open_session(request, username, password)
        except Refused as refusal:
            return self._sign_in_page(username=username, problem=refusal, status=_form_status(refusal))

    async def setup_form(self, request: Request) -> Response:
        try:
            return self._setup_page(open_=await self._visitor(request).setup_is_open())
        except Refused as refusal:
            return self._setup_page(problem=refusal, status=_form_status(refusal))

    async def setup(self, request: Request) -> Response:
        form = await request.form(max_files=0, max_fields=FORM_FIELDS_MAX)
        username, password = _field(form.get("username")), _field(form.get("password"))
        if password != _field(form.get("repeated")):
            problem = Refused(400, "passwords_differ", "the two passwords are not the same", "type them once more")
            return self._setup_page(username=username, problem=problem, status=400)
        try:
            await self._visitor(request).create_first_administrator(
                _field(form.get("token")).strip(), username, password
            )
        except Refused as refusal:
            return self._setup_page(username=username, problem=refusal, status=_form_status(refusal))
        try:
            return await self._open_session(request, username, password)
        except Refused:
            return _see_other("/login?why=created")

    async def sign_out(self, request: Request) -> Response:
        """Whatever the API says, this browser forgets the session."""
        cookie = request.cookies.get(self.settings.session_cookie)
        try:
            if cookie:
                await self._visitor(request).sign_out()
        except Refused as refusal:
            if not refusal.signed_out:
                return self._message("You may still be signed in", refusal)
        self.sessions.forget(cookie)
        answer = _see_other("/login?why=out")
        answer.delete_cookie(
            self.settings.session_cookie, path="/", secure=self.settings.secure, httponly=True, samesite="strict"
        )
        answer.headers["clear-site-data"] = '"cache", "storage"'
        return answer

    async def receipt(self, request: Request) -> Response:
        record_id = request.path_params["record_id"]
        try:
            receipt = await self._visitor(request).receipt(record_id)
        except Refused as refusal:
            return self._message("This receipt cannot be shown", refusal)
        return _download(str(receipt["proof_file"]), f"receipt-{record_id[:16]}.tlog-proof")

    async def checkpoint(self, request: Request) -> Response:
        try:
            checkpoint = await self._visitor(request).checkpoint()
        except Refused as refusal:
            return self._message("The checkpoint cannot be shown", refusal)
        return _download(str(checkpoint["checkpoint"]), f"checkpoint-{int(checkpoint['size'])}.txt")

    async def export(self, request: Request) -> Response:
        """Passed on piece by piece; no file of it is made here, and an answer left early ends the export."""
        if request.method == "HEAD":
            return Response(headers={"content-disposition": "attachment"})
        asked = request.query_params
        try:
            from_, to = days(asked.get("from"), asked.get("to"))
            export = await self._visitor(request).export(asked.get("format", "bundle")[:16], from_=from_, to=to)
        except Refused as refusal:
            return self._message("The log cannot be exported", refusal, back=PAGES["audit-proof"])
        headers = {"content-disposition": f'attachment; filename="{export.name}"', "x-robots-tag": "none"}
        return StreamingResponse(export.pieces, media_type=export.media_type, headers=headers)

    async def specialist_file(self, request: Request) -> Response:
        """A version's file and its signature, as one archive, passed on piece by piece."""
        if request.method == "HEAD":
            return Response(headers={"content-disposition": "attachment"})
        named = request.path_params["specialist"], request.path_params["version"]
        try:
            archive = await self._visitor(request).specialist_file(*named)
        except Refused as refusal:
            return self._message("This file cannot be handed out", refusal, back=PAGES["specialists"])
        headers = {"content-disposition": f'attachment; filename="{archive.name}"', "x-robots-tag": "none"}
        return StreamingResponse(archive.pieces, media_type=archive.media_type, headers=headers)

    async def table(self, request: Request) -> Response:
        return await self._passed_on(request, self._visitor(request).upload_table)

    async def specialist(self, request: Request) -> Response:
        return await self._passed_on(request, self._visitor(request).install_specialist)

    async def _passed_on(self, request: Request, upload: Upload) -> Response:
        """Piece by piece; nothing of it is kept here. The answer is the API's, refusals too."""
        try:
            found = await upload(self._bounded(request), request.headers.get("content-type", ""))
        except Refused as refusal:
            error = {"code": refusal.code, "message": refusal.message, "hint": refusal.hint}
            return JSONResponse({"error": error}, refusal.status)
        return JSONResponse(found)

    async def _bounded(self, request: Request) -> AsyncIterator[bytes]:
        received = 0
        async for piece in request.stream():
            received += len(piece)
            if received > self.settings.upload_bytes_max:
                most = self.settings.upload_bytes_max // 2**20
                raise Refused(
                    413,
                    "input_too_long",
                    f"the file is larger than {most} MiB",
                    "send a smaller one: of a table, a sample of its rows",
                )
            yield piece

    async def status(self, _: Request) -> Response:
        return JSONResponse({"ready": self.gradio.app is not None, "failed": self.gradio.failed})

    async def icon(self, _: Request) -> Response:
        return RedirectResponse("/ui/static/logo.svg", status_code=301)

    def _visitor(self, request: Request) -> Visitor:
        address = (request.client.host, request.client.port) if request.client else None
        return self.client.visitor(cookie=request.cookies.get(self.settings.session_cookie), address=address)

    async def _open_session(self, request: Request, username: str, password: str) -> Response:
        visitor = self._visitor(request)
        secret = await visitor.sign_in(username, password)
        user = await self.client.visitor(cookie=secret, address=visitor.address).session()
        answer = _see_other(landing_path(user))
        answer.set_cookie(
            self.settings.session_cookie,
            secret,
            path="/",
            secure=self.settings.secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    def _sign_in_page(
        self, *, username: str = "", notice: str | None = None, problem: Refused | None = None, status: int = 200
    ) -> Response:
        html = page("login", site=self.settings.site_name, username=username, notice=notice, problem=problem)
        return HTMLResponse(html, status)

    def _setup_page(
        self, *, username: str = "", open_: bool = True, problem: Refused | None = None, status: int = 200
    ) -> Response:
        html = page("setup", site=self.settings.site_name, username=username, open=open_, problem=problem)
        return HTMLResponse(html, status)

    def _message(self, heading: str, refusal: Refused, *, back: str = "/") -> Response:
        html = page("message", site=self.settings.site_name, heading=heading, problem=refusal, back=back)
        return HTMLResponse(html, refusal.status)


@dataclass(frozen=True, slots=True)
class _Gradio:
    """Gradio once it is loaded; until then a page that waits for it."""

    state: GradioState
    settings: UiSettings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.state.app
        if app is not None:
            await app(scope, receive, send)
            return
        if "text/html" not in Request(scope).headers.get("accept", ""):
            raise HTTPException(503, "the pages are starting", headers={"retry-after": "2"})
        html = page("starting", site=self.settings.site_name, failed=self.state.failed)
        await HTMLResponse(html, 503, headers={"retry-after": "2"})(scope, receive, send)


def _field(value: object) -> str:
    return value if isinstance(value, str) else ""


def _form_status(refusal: Refused) -> int:
    """A refused form is shown again; a status that a browser or proxy would act on is kept from it."""
    return refusal.status if refusal.status in {400, 403, 409, 422, 429, 503} else 400


def _see_other(path: str) -> RedirectResponse:
    return RedirectResponse(path, status_code=303)


def _download(text: str, name: str) -> Response:
    return Response(
        text,
        media_type="text/plain; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"', "x-robots-tag": "none"},
    )
