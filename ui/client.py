"""The only way from the pages to the product: the HTTP API, with the visitor's own session.

A `Visitor` can do what its cookie may do and nothing else; permission, routing and retention are decided behind
the API. Calls stay in this process (ASGI transport), so no socket is opened and no proxy setting applies.

    visitor = Client(api, cookie_name="sid").visitor(cookie="...", address=("10.0.0.7", 50122))
    answer = await visitor.deidentify(note, style="label")    # raises Refused with the API's own words
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from http.cookies import SimpleCookie
from urllib.parse import quote

import httpx
from starlette.types import ASGIApp

from ui.answers import Json, Refused, file_name, lines_in, object_in, refusal_in, refusal_of
from ui.streaming import StreamingTransport

# Never resolved: the transport hands the request to the application. The name only fills the Host header.
_ORIGIN = "http://127.0.0.1"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who the session belongs to, as the API tells it. `id` is how records name that person."""

    name: str
    roles: tuple[str, ...]
    site: str
    version: str
    csrf: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Download:
    """A file on its way from the API. `pieces` must be read or closed; leaving it early ends the API's work."""

    name: str
    media_type: str
    pieces: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Client:
    """Holds the API application and the cookie's name; makes one `Visitor` per request."""

    api: ASGIApp
    cookie_name: str = "sid"
    secure: bool = False

    def visitor(self, *, cookie: str | None, address: tuple[str, int] | None) -> Visitor:
        """`address` is the browser's, so that the API counts failed sign-ins against the right one."""
        return Visitor(self, cookie, address or ("127.0.0.1", 0))


@dataclass(frozen=True, slots=True)
class Visitor:
    """One browser session's view of the API. Every method is one call of it."""

    client: Client
    cookie: str | None
    address: tuple[str, int]

    async def session(self) -> SignedIn:
        """Who is signed in; raises `Refused` with status 401 when nobody is."""
        body = await self._json("GET", "/v1/sessions/current")
        user = body["user"]
        return SignedIn(
            name=str(user["name"]),
            roles=tuple(str(role) for role in user.get("roles", ())),
            site=str(body.get("site") or ""),
            version=str(body.get("version") or ""),
            csrf=str(body.get("csrf") or ""),
            id=str(user.get("id") or ""),
        )

    async def sign_in(self, username: str, password: str) -> str:
        """Returns the new session's secret, for the browser's cookie."""
        response = await self._send("POST", "/v1/sessions", {"username": username, "password": password})
        return self._session_secret(response)

    async def sign_out(self) -> None:
        await self._change("DELETE", "/v1/sessions/current")

    async def setup_is_open(self) -> bool:
        return bool((await self._json("GET", "/v1/setup")).get("open"))

    async def create_first_administrator(self, token: str, username: str, password: str) -> None:
        await self._send("POST", "/v1/setup", {"token": token, "username": username, "password": password})

    async def deidentify(self, text: str, *, style: str) -> Json:
        return (await self._change("POST", "/v1/deidentify", {"text": text, "style": style})).json()

    async def records(self, *, after: int | None = None, limit: int = 25, epoch: int | None = None) -> Json:
        """Newest first; pass the answer's `next` as `after` to go on."""
        parameters = _given({"limit": limit, "after": after, "epoch": epoch})
        return await self._json("GET", "/v1/audit/records", parameters=parameters)

    async def record_numbered(self, seq: int) -> Json:
        """The record with that number, as `record` gives it; raises `Refused` when the visitor may not see it."""
        page = await self.records(after=seq + 1, limit=1)
        for found in page["data"]:
            if found["seq"] == seq:
                return await self.record(str(found["record_id"]))
        raise Refused(404, "record_not_found", f"there is no record {seq} that you may see", "check the number")

    async def record(self, record_id: str) -> Json:
        return await self._json("GET", f"/v1/audit/records/{_segment(record_id)}")

    async def receipt(self, record_id: str) -> Json:
        return await self._json("GET", f"/v1/audit/receipts/{_segment(record_id)}")

    async def checkpoint(self) -> Json:
        return await self._json("GET", "/v1/audit/checkpoint")

    async def verify(self, *, full: bool = False) -> Json:
        """Everything since the last verification, or the whole log once more."""
        return await self._changed("POST", "/v1/audit/verify", parameters={"full": "true"} if full else None)

    async def check_receipt(self, proof_file: str) -> Json:
        return await self._changed("POST", "/v1/audit/receipts/check", {"proof_file": proof_file})

    async def search(self, query: Mapping[str, object]) -> AsyncGenerator[Json]:
        """The lines of the answer: `progress`, `record`, `end`. Leaving early ends the search.

        Raises `Refused`, also in the middle: when the API says so, or when its answer breaks off.
        """
        async with aclosing(self._lines("/v1/audit/search", query, last="end")) as lines:
            async for line in lines:
                yield line

    async def conversations(self) -> Json:
        """One's own, and whether instructions and parameters are one's to set."""
        return await self._json("GET", "/v1/conversations")

    async def conversation(self, conversation: str) -> Json:
        return await self._json("GET", f"/v1/conversations/{_segment(conversation)}")

    async def begin_conversation(self, wanted: Mapping[str, object]) -> Json:
        return await self._changed("POST", "/v1/conversations", wanted)

    async def change_conversation(self, conversation: str, change: Mapping[str, object]) -> Json:
        return await self._changed("PATCH", f"/v1/conversations/{_segment(conversation)}", change)

    async def delete_conversation(self, conversation: str) -> None:
        await self._change("DELETE", f"/v1/conversations/{_segment(conversation)}")

    async def answer(self, conversation: str, asked: Mapping[str, object]) -> AsyncGenerator[Json]:
        """The lines of an answer: `piece`, `end`, `kept`. Leaving early stops it. Raises as `search`."""
        path = f"/v1/conversations/{_segment(conversation)}/answer"
        async with aclosing(self._lines(path, asked, last="kept")) as lines:
            async for line in lines:
                yield line

    async def models(self) -> Json:
        """Models that write, specialists, and what chooses among them."""
        return await self._json("GET", "/v1/models")

    async def guard(self) -> Json:
        """The policy about identifiers: the visitor's, everybody's for whoever may see that, and measured figures."""
        return await self._json("GET", "/v1/guard")

    async def set_guard_policy(self, workspace: str, policy: str) -> Json:
        return await self._changed("PUT", f"/v1/guard/workspaces/{_segment(workspace)}", {"policy": policy})

    async def assign_workspace(self, account: str, workspace: str) -> Json:
        return await self._changed("PUT", f"/v1/guard/members/{_segment(account)}", {"workspace": workspace})

    async def accounts(self) -> Json:
        return await self._json("GET", "/v1/accounts")

    async def create_account(self, name: str, password: str, roles: list[str]) -> Json:
        return await self._changed("POST", "/v1/accounts", {"username": name, "password": password, "roles": roles})

    async def disable_account(self, name: str) -> Json:
        return await self._changed("POST", f"/v1/accounts/{_segment(name)}/disable")

    async def enable_account(self, name: str) -> Json:
        return await self._changed("POST", f"/v1/accounts/{_segment(name)}/enable")

    async def set_password(self, name: str, password: str) -> None:
        await self._change("POST", f"/v1/accounts/{_segment(name)}/password", {"password": password})

    async def change_own_password(self, current: str, password: str) -> None:
        """Every session of the account ends, this one too."""
        await self._change("POST", "/v1/sessions/current/password", {"current": current, "password": password})

    async def api_keys(self) -> Json:
        """One's own; an administrator's are everybody's."""
        return await self._json("GET", "/v1/api-keys")

    async def create_api_key(self, name: str, scopes: list[str], days: int | None) -> Json:
        """With `secret`, which is shown once."""
        return await self._changed("POST", "/v1/api-keys", {"name": name, "scopes": scopes, "days": days})

    async def revoke_api_key(self, key_id: str) -> Json:
        return object_in(await self._change("DELETE", f"/v1/api-keys/{_segment(key_id)}"), "/v1/api-keys")

    async def activity(self, from_: str, to: str, *, buckets: int) -> Json:
        parameters = _given({"from": from_, "to": to, "buckets": buckets})
        return await self._json("GET", "/v1/audit/activity", parameters=parameters)

    async def exposure(self) -> Json:
        return await self._json("GET", "/v1/audit/exposure")

    async def holds(self) -> Json:
        return await self._json("GET", "/v1/audit/holds")

    async def set_hold(self, subjects: list[str], classes: list[str], reason: str) -> Json:
        body = {"subjects": subjects, "classes": classes, "reason": reason}
        return await self._changed("POST", "/v1/audit/holds", body)

    async def release_hold(self, hold: str) -> Json:
        """The first person asks, a second one releases; the API tells them apart."""
        return await self._changed("POST", f"/v1/audit/holds/{_segment(hold)}/release")

    async def retention(self) -> Json:
        return await self._json("GET", "/v1/audit/retention")

    async def set_retention(self, record_class: str, months: int) -> Json:
        return await self._changed("PUT", "/v1/audit/retention", {"class": record_class, "months": months})

    async def run_retention(self) -> Json:
        return await self._changed("POST", "/v1/audit/retention/run")

    async def shred(self, subject: str, reason: str) -> Json:
        return await self._changed("POST", "/v1/audit/shred", {"subject": subject, "reason": reason})

    async def erasures(self) -> Json:
        return await self._json("GET", "/v1/audit/erasures")

    async def epochs(self) -> Json:
        return await self._json("GET", "/v1/audit/epochs")

    async def export(self, format_: str, *, from_: str | None, to: str | None) -> Download:
        """The log as a file, piece by piece; nothing of it is kept here."""
        parameters = _given({"format": format_, "from": from_, "to": to})
        return await self._download("/v1/audit/export", f"audit-{format_}", parameters)

    async def protection(self) -> Json:
        """Egress, backup, rehearsal, recovery kit and certificate, with a remedy for each that is not in order."""
        return await self._json("GET", "/v1/system/protection")

    async def capacity(self) -> Json:
        """How many people each model serves at once here, where it was measured."""
        return await self._json("GET", "/v1/system/capacity")

    async def specialists(self) -> Json:
        return await self._json("GET", "/v1/specialists")

    async def specialist(self, specialist: str) -> Json:
        return await self._json("GET", f"/v1/specialists/{_segment(specialist)}")

    async def specialist_versions(self, specialist: str) -> Json:
        return await self._json("GET", f"/v1/specialists/{_segment(specialist)}/versions")

    async def every_version(self) -> Json:
        """Of every specialist, those that wait for approval too."""
        return await self._json("GET", "/v1/specialist-versions")

    async def specialist_file(self, specialist: str, version: str) -> Download:
        """The file and its signature, as one archive."""
        path = f"/v1/specialists/{_segment(specialist)}/versions/{_segment(version)}/file"
        return await self._download(path, "specialist.zip")

    async def decide_version(self, decision: str, specialist: str, version: str) -> Json:
        """`approve`, `promote` or `verify` one version. Approving is for another person than who installed it."""
        path = f"/v1/specialists/{_segment(specialist)}/versions/{_segment(version)}/{_segment(decision)}"
        return await self._changed("POST", path)

    async def roll_back(self, specialist: str) -> Json:
        """The version before the active one answers again."""
        return await self._changed("POST", f"/v1/specialists/{_segment(specialist)}/rollback")

    async def remove_version(self, specialist: str, version: str) -> None:
        await self._change("DELETE", f"/v1/specialists/{_segment(specialist)}/versions/{_segment(version)}")

    async def run_specialist(self, specialist: str, given: Mapping[str, object]) -> Json:
        """`given` as the specialist's task takes it: a text, sentences, or a question and a context."""
        return await self._changed("POST", f"/v1/specialists/{_segment(specialist)}/run", given)

    async def route(self, text: str) -> Json:
        """Whose a text is, and why."""
        return await self._changed("POST", "/v1/route", {"text": text})

    async def upload_table(self, body: AsyncIterator[bytes], content_type: str) -> Json:
        """A table of labelled rows as the browser sent it; returns what was found in it."""
        return await self._uploaded("/v1/teaching/tables", body, content_type)

    async def install_specialist(self, body: AsyncIterator[bytes], content_type: str) -> Json:
        """A specialist's file and its signature as the browser sent them; returns the version that now waits."""
        return await self._uploaded("/v1/specialists", body, content_type)

    async def trusted_keys(self) -> Json:
        return await self._json("GET", "/v1/specialist-keys")

    async def trust_key(self, name: str, public_key: str) -> Json:
        return await self._changed("POST", "/v1/specialist-keys", {"name": name, "public_key": public_key})

    async def distrust_key(self, name: str) -> None:
        await self._change("DELETE", f"/v1/specialist-keys/{_segment(name)}")

    async def _uploaded(self, path: str, body: AsyncIterator[bytes], content_type: str) -> Json:
        """A form passed on piece by piece.

        `body` may raise `Refused` to end the upload; the application that reads it sees a broken connection.
        """
        broken: list[Refused] = []

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in body:
                    yield piece
            except Refused as refusal:
                broken.append(refusal)
                raise

        signed_in = await self.session()
        headers = self._headers(csrf=signed_in.csrf) | {"content-type": content_type}
        whole = httpx.ASGITransport(app=self.client.api, raise_app_exceptions=False, client=self.address)
        async with self._http(whole) as http:
            answer = await http.post(path, headers=headers, content=pieces())
        if broken:
            raise broken[0]
        if not answer.is_success:
            raise refusal_in(answer)
        return object_in(answer, path)

    async def start_teaching(self, wanted: Mapping[str, object]) -> Json:
        return await self._changed("POST", "/v1/teaching/jobs", wanted)

    async def teaching_job(self, job: str) -> Json:
        return await self._json("GET", f"/v1/teaching/jobs/{_segment(job)}")

    async def submit_taught(self, job: str) -> Json:
        """Ask for approval: the new version then waits for a second person."""
        return await self._changed("POST", f"/v1/teaching/jobs/{_segment(job)}/submit")

    async def stop_teaching(self, job: str) -> None:
        await self._change("DELETE", f"/v1/teaching/jobs/{_segment(job)}")

    async def _lines(self, path: str, body: Mapping[str, object], *, last: str) -> AsyncGenerator[Json]:
        """Each line of a streamed answer. One that ends before its `last` line broke off."""
        signed_in = await self.session()
        headers = self._headers(csrf=signed_in.csrf) | {"content-type": "application/json"}
        async with (
            self._http(StreamingTransport(self.client.api, self.address)) as http,
            http.stream("POST", path, headers=headers, content=_encoded(body)) as answer,
        ):
            if not answer.is_success:
                await answer.aread()
                raise refusal_in(answer)
            ended = False
            async with aclosing(lines_in(answer)) as lines:
                async for line in lines:
                    if "error" in line:
                        raise refusal_of(answer.status_code, line)
                    ended = ended or last in line
                    yield line
            if not ended:
                raise Refused(502, "unreadable_answer", "the answer broke off before its end", "try again")

    async def _download(self, path: str, otherwise: str, parameters: Mapping[str, str | int] | None = None) -> Download:
        """`otherwise` is the file's name when the API gives none."""
        http = self._http(StreamingTransport(self.client.api, self.address))
        answer = await http.send(
            http.build_request("GET", path, params=parameters, headers=self._headers()), stream=True
        )
        if not answer.is_success:
            await answer.aread()
            await http.aclose()
            raise refusal_in(answer)

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in answer.aiter_raw():
                    yield piece
            finally:
                await answer.aclose()
                await http.aclose()

        media_type = answer.headers.get("content-type", "application/octet-stream")
        return Download(file_name(answer, otherwise), media_type, pieces())

    async def _json(self, method: str, path: str, *, parameters: Mapping[str, str | int] | None = None) -> Json:
        return object_in(await self._send(method, path, parameters=parameters), path)

    async def _changed(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        parameters: Mapping[str, str | int] | None = None,
    ) -> Json:
        return object_in(await self._change(method, path, body, parameters=parameters), path)

    async def _change(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        parameters: Mapping[str, str | int] | None = None,
    ) -> httpx.Response:
        """A state-changing call: the API asks for the session's CSRF token, which only the session can read."""
        signed_in = await self.session()
        return await self._send(method, path, body, parameters=parameters, csrf=signed_in.csrf)

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        parameters: Mapping[str, str | int] | None = None,
        csrf: str | None = None,
    ) -> httpx.Response:
        headers, content = self._headers(csrf=csrf), None
        if body is not None:
            headers["content-type"] = "application/json"
            content = _encoded(body)
        whole = httpx.ASGITransport(app=self.client.api, raise_app_exceptions=False, client=self.address)
        async with self._http(whole) as http:
            response = await http.request(method, path, headers=headers, params=parameters, content=content)
        if response.is_success:
            return response
        raise refusal_in(response)

    def _headers(self, *, csrf: str | None = None) -> dict[str, str]:
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if self.cookie:
            headers["cookie"] = f"{self.client.cookie_name}={self.cookie}"
        if csrf:
            headers["x-csrf-token"] = csrf
        return headers

    def _http(self, transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
        base = _ORIGIN.replace("http:", "https:") if self.client.secure else _ORIGIN
        return httpx.AsyncClient(transport=transport, base_url=base, trust_env=False, timeout=None)  # noqa: S113 - in process; the API bounds its own work

    def _session_secret(self, response: httpx.Response) -> str:
        for line in response.headers.get_list("set-cookie"):
            morsel = SimpleCookie(line).get(self.client.cookie_name)
            if morsel is not None and morsel.value:
                return morsel.value
        raise Refused(502, "unreadable_answer", "the server accepted the password but opened no session")


def _given(parameters: Mapping[str, str | int | None]) -> dict[str, str | int]:
    return {name: value for name, value in parameters.items() if value is not None}


def _encoded(body: Mapping[str, object]) -> bytes:
    """As UTF-8; a lone surrogate has no UTF-8 and goes as an escape, so that the API refuses it in its own words."""
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(body).encode()


def _segment(value: str) -> str:
    """One path segment: what a person typed cannot become another path."""
    return quote(value, safe="") or "-"
