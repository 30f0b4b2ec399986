"""Guaranteed: sign-in, setup, sign-out and downloads work without Gradio and without script, the session cookie is
protected, nothing secret is in an address, and the API is up before and after Gradio. Shown by driving the real site
over the in-memory API, without a browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from fake_api import PASSWORD, SETUP_TOKEN, FakeApi
from starlette.types import Message

from ui.client import Client
from ui.loader import Loader
from ui.settings import UiSettings
from ui.site import Site, create_site

SETTINGS = UiSettings(site_name="St. Brigid Hospital", version="0.1.0", session_check_s=0.0)
SAME = {"sec-fetch-site": "same-origin"}
Steps = Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]


def visit(fake: FakeApi, steps: Steps, settings: UiSettings = SETTINGS) -> Any:
    """Run `steps` with a browser-like client of a site whose Gradio has not started."""

    async def run() -> Any:
        transport = httpx.ASGITransport(app=create_site(fake.app, settings), client=("10.0.0.7", 40000))
        scheme = "https" if settings.secure else "http"
        async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://127.0.0.1:8443", headers=SAME) as http:
            return await steps(http)

    return asyncio.run(run())


async def sign_in(http: httpx.AsyncClient, name: str = "m.keller", password: str = PASSWORD) -> httpx.Response:
    return await http.post("/login", data={"username": name, "password": password})


def test_the_front_door_leads_to_sign_in_and_then_to_the_users_page() -> None:
    async def steps(http: httpx.AsyncClient) -> None:
        assert (await http.get("/")).headers["location"] == "/login"
        answer = await sign_in(http)
        assert (answer.status_code, answer.headers["location"]) == (303, "/app/deidentify")
        assert (await http.get("/")).headers["location"] == "/app/deidentify"

    visit(FakeApi(), steps)


def test_an_auditor_starts_where_an_auditor_works() -> None:
    async def steps(http: httpx.AsyncClient) -> str:
        return (await sign_in(http, "a.stone")).headers["location"]

    assert visit(FakeApi(), steps) == "/app/audit"


def test_the_session_cookie_is_closed_to_scripts_and_other_sites() -> None:
    async def steps(http: httpx.AsyncClient) -> str:
        return (await sign_in(http)).headers["set-cookie"].lower()

    plain = visit(FakeApi(), steps)
    assert plain.startswith("sid=")
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip() for part in plain.split(";")}


def test_a_refused_sign_in_keeps_the_name_and_never_the_password() -> None:
    fake = FakeApi()

    async def steps(http: httpx.AsyncClient) -> httpx.Response:
        return await sign_in(http, "m.keller", "wrong-password-1")

    answer = visit(fake, steps)
    assert answer.status_code == 400
    assert "the user name or the password is wrong" in answer.text
    assert "m&#46;keller" in answer.text
    assert "wrong&#45;password" not in answer.text and "wrong-password" not in answer.text
    assert "set-cookie" not in answer.headers
    assert fake.addresses == ["10.0.0.7"]


def test_setup_creates_the_administrator_and_signs_in() -> None:
    fake = FakeApi()
    form = {"token": f" {SETUP_TOKEN} ", "username": "chief", "password": PASSWORD, "repeated": PASSWORD}

    async def steps(http: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        return await http.post("/setup", data=form), await http.get("/setup")

    done, afterwards = visit(fake, steps)
    assert (done.status_code, done.headers["location"]) == (303, "/app/deidentify")
    assert fake.users["chief"] == ["admin", "user"]
    assert "No setup is waiting" in afterwards.text and "<form" not in afterwards.text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"repeated": "another password"}, "the two passwords are not the same"),
        ({"token": "wrong"}, "this setup link is not valid"),
        ({"password": "short", "repeated": "short"}, "shorter than 12 characters"),
    ],
)
def test_a_refused_setup_says_why_and_shows_no_secret(changed: dict[str, str], said: str) -> None:
    fake = FakeApi()
    form = {"token": SETUP_TOKEN, "username": "chief", "password": PASSWORD, "repeated": PASSWORD, **changed}

    async def steps(http: httpx.AsyncClient) -> httpx.Response:
        return await http.post("/setup", data=form)

    answer = visit(fake, steps)
    assert said in answer.text
    assert "chief" not in fake.users
    assert SETUP_TOKEN not in answer.text.replace("&#45;", "-")


def test_signing_out_ends_the_session_and_clears_the_browser() -> None:
    fake = FakeApi()

    async def steps(http: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        await sign_in(http)
        out = await http.post("/logout")
        return out, await http.get("/app/deidentify", headers={"accept": "text/html"})

    out, afterwards = visit(fake, steps)
    assert fake.sessions == {}
    assert out.headers["clear-site-data"] == '"cache", "storage"'
    assert 'sid=""' in out.headers["set-cookie"] and "Max-Age=0" in out.headers["set-cookie"]
    assert (afterwards.status_code, afterwards.headers["location"]) == (303, "/login")


def test_signing_out_twice_is_no_error() -> None:
    async def steps(http: httpx.AsyncClient) -> int:
        return (await http.post("/logout")).status_code

    assert visit(FakeApi(), steps) == 303


def test_a_receipt_is_a_download_for_its_owner_only() -> None:
    fake = FakeApi()
    fake.users["b.other"] = ["user"]
    fake.fill(1)
    record_id = fake.records[0]["record_id"]

    async def steps(http: httpx.AsyncClient) -> list[httpx.Response]:
        await sign_in(http)
        own = await http.get(f"/receipts/{record_id}")
        await http.post("/logout")
        await sign_in(http, "b.other")
        return [own, await http.get(f"/receipts/{record_id}"), await http.get("/checkpoint")]

    own, others, checkpoint = visit(fake, steps)
    assert own.text.startswith("c2sp.org/tlog-proof@v1\nindex 0\n")
    assert own.headers["content-disposition"] == f'attachment; filename="receipt-{record_id[:16]}.tlog-proof"'
    assert own.headers["cache-control"] == "no-store"
    assert others.status_code == 404 and "tlog-proof" not in others.text
    assert checkpoint.headers["content-disposition"] == 'attachment; filename="checkpoint-1.txt"'


def test_while_gradio_starts_a_person_sees_a_page_and_a_script_an_error() -> None:
    async def steps(http: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        await sign_in(http)
        page = await http.get("/app/deidentify", headers={"accept": "text/html"})
        return page, await http.get("/app/theme.css"), await http.get("/ui/status")

    page, style, status = visit(FakeApi(), steps)
    assert page.status_code == style.status_code == 503
    assert "The pages are starting" in page.text and 'class="entry"' in page.text
    assert status.json() == {"ready": False, "failed": False}


def test_with_tls_the_site_announces_it_and_the_cookie_is_secure() -> None:
    fake = FakeApi()
    settings = UiSettings(secure=True)

    async def steps(http: httpx.AsyncClient) -> httpx.Response:
        return await sign_in(http)

    answer = visit(fake, steps, settings)
    assert "secure" in answer.headers["set-cookie"].lower()
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_a_form_with_many_fields_or_a_file_is_refused() -> None:
    async def steps(http: httpx.AsyncClient) -> list[int]:
        many = await http.post("/login", data={f"field{number}": "x" for number in range(50)})
        file = await http.post("/login", files={"username": ("a.txt", b"x")})
        return [many.status_code, file.status_code]

    assert visit(FakeApi(), steps) == [400, 400]


@dataclass
class RecordingLoader:
    """Stands where the real loader stands, and writes down when it is started and stopped."""

    told: list[str]

    def start(self) -> None:
        self.told.append("pages start")

    async def stop(self) -> None:
        self.told.append("pages stop")


def test_the_api_is_up_before_the_pages_start_and_until_they_have_stopped() -> None:
    told: list[str] = []

    @asynccontextmanager
    async def lifespan(_: object):
        told.append("api up")
        yield {"opened": True}
        told.append("api down")

    fake = FakeApi()
    fake.app.router.lifespan_context = lifespan
    scope: dict[str, Any] = {"type": "lifespan", "state": {}}

    async def run() -> list[str]:
        arriving: asyncio.Queue[Message] = asyncio.Queue()
        sent: asyncio.Queue[Message] = asyncio.Queue()
        site = Site(fake.app, guard=fake.app, loader=RecordingLoader(told))
        task = asyncio.create_task(site(scope, arriving.get, sent.put))
        await arriving.put({"type": "lifespan.startup"})
        first = await sent.get()
        transport = httpx.ASGITransport(app=site)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            told.append(f"answers {(await http.get('/healthz')).status_code}")
        await arriving.put({"type": "lifespan.shutdown"})
        last = await sent.get()
        await task
        return [first["type"], last["type"]]

    assert asyncio.run(run()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert told == ["api up", "pages start", "answers 200", "pages stop", "api down"]
    assert scope["state"] == {"opened": True}


def test_a_loader_that_was_never_started_stops_without_waiting() -> None:
    loader = Loader(Client(FakeApi().app), SETTINGS)
    asyncio.run(loader.stop())
    assert (loader.app, loader.failed) == (None, False)


def test_a_table_reaches_the_api_as_it_was_sent_and_comes_back_as_it_was_answered() -> None:
    files = {"file": ("rows.csv", "text,label\ncafé,a\nb,b\n".encode("latin-1"), "text/csv")}

    async def steps(http: httpx.AsyncClient) -> tuple[httpx.Response, ...]:
        nobody = await http.post("/teaching/tables", files=files)
        await sign_in(http)
        sent = await http.post("/teaching/tables", files=files)
        refused = await http.post("/teaching/tables", files={"file": ("rows.csv", b"one\nx\n")})
        foreign = await http.post("/teaching/tables", files=files, headers={"sec-fetch-site": "cross-site"})
        return nobody, sent, refused, foreign

    nobody, sent, refused, foreign = visit(FakeApi(), steps)
    assert (nobody.status_code, foreign.status_code) == (401, 403)
    assert (sent.json()["rows"], sent.json()["label_column"], sent.json()["ready"]) == (2, "label", True)
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "the table has 1 columns")


def test_a_table_over_the_limit_is_refused_without_reading_on() -> None:
    answer, read = sent_without_end(FakeApi(), "m.keller", "/teaching/tables")
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "input_too_long")
    assert read <= 2**20 // 2**16 + 2


def sent_without_end(fake: FakeApi, name: str, place: str) -> tuple[httpx.Response, int]:
    """What a site that takes 1 MiB answers to a file without an end, and how many pieces of 64 KiB it read."""
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        yield b'--x\r\ncontent-disposition: form-data; name="file"; filename="rows.csv"\r\n\r\n'
        while True:
            read += 1
            yield b"x" * 2**16

    async def steps(http: httpx.AsyncClient) -> httpx.Response:
        await sign_in(http, name)
        headers = {"content-type": "multipart/form-data; boundary=x"}
        return await http.post(place, content=endless(), headers=headers)

    return visit(fake, steps, replace(SETTINGS, upload_bytes_max=2**20)), read


def administered() -> FakeApi:
    fake = FakeApi()
    fake.users["c.lowe"] = ["admin"]
    return fake


def test_a_specialist_is_installed_by_an_administrator_and_by_nobody_else_whatever_its_file_is_called() -> None:
    fake = administered()
    files = {
        "file": ("../../etc/<b>passwd</b>.gguf", b"ward-triage 2.0.0", "application/octet-stream"),
        "signature": ("../x.sig", b"signature"),
    }
    place, link = "/specialists/files", "/specialists/ward-triage/2.0.0/file"

    async def steps(http: httpx.AsyncClient) -> list[httpx.Response]:
        answers = [await http.post(place, files=files), await http.get(link)]
        await sign_in(http)
        answers += [await http.post(place, files=files), await http.get(link)]
        http.cookies.clear()
        await sign_in(http, "c.lowe")
        answers.append(await http.post(place, files=files, headers={"sec-fetch-site": "cross-site"}))
        assert "ward-triage" not in fake.specialists.versions
        unsigned = {"file": files["file"]}
        return [*answers, await http.post(place, files=unsigned), await http.post(place, files=files)]

    nobody, led_away, user, kept_back, foreign, unsigned, sent = visit(fake, steps)
    assert [one.status_code for one in (nobody, led_away, user, kept_back, foreign)] == [401, 303, 403, 403, 403]
    assert (unsigned.status_code, unsigned.json()["error"]["code"]) == (409, "signer_untrusted")
    assert (sent.status_code, sent.json()["id"], sent.json()["state"]) == (200, "ward-triage", "awaiting_approval")
    assert "passwd" not in sent.text + nobody.text + unsigned.text
    assert [one["version"] for one in fake.specialists.versions["ward-triage"]] == ["2.0.0"]


def test_a_specialist_is_handed_out_as_the_api_names_it_and_looking_alone_takes_nothing() -> None:
    async def steps(http: httpx.AsyncClient) -> tuple[httpx.Response, ...]:
        await sign_in(http, "c.lowe")
        link = "/specialists/bank-intent/1.0.0/file"
        return await http.head(link), await http.get(link)

    looked, taken = visit(administered(), steps)
    assert (looked.status_code, looked.content) == (200, b"")
    assert taken.headers["content-disposition"] == 'attachment; filename="bank-intent-1.0.0.zip"'
    assert taken.headers["cache-control"].startswith("no-store")
    assert taken.content == b"PK bank-intent-1.0.0"


def test_a_specialist_over_the_limit_is_refused_without_reading_on() -> None:
    answer, read = sent_without_end(administered(), "c.lowe", "/specialists/files")
    assert (answer.status_code, answer.json()["error"]["message"]) == (413, "the file is larger than 1 MiB")
    assert read <= 2**20 // 2**16 + 2
