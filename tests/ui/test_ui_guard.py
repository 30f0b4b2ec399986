"""Guaranteed: nothing reaches the pages or Gradio that the policy does not name, no session sees another's tab, and
an answer ends with its session. Shown by sending requests through the real guard to the in-memory API and to an
application that tells what reached it; time is a value that the tests move."""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest
from fake_api import FakeApi
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from ui.chrome import Chrome, DocumentUnexpected
from ui.client import Client, SignedIn
from ui.event_streams import EventStreams
from ui.guard import SESSION_ENDED, Guard
from ui.ownership import TabOwners
from ui.policy import area_of, host_name, same_origin
from ui.sessions import Sessions
from ui.settings import UiSettings

HTML = b"<html><head><title>x</title></head><body style='a'><script>1</script><gradio-app></gradio-app></body></html>"
SAME = {"sec-fetch-site": "same-origin"}
JOIN = "/app/gradio_api/queue/join"


@dataclass
class Pages:
    """Behind the guard: remembers what reached it and answers what a test asks for."""

    reached: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[bytes, bytes]] = field(default_factory=list)
    content_type: bytes = b"application/json"
    body: bytes = b"{}"
    status: int = 200

    async def __call__(self, scope, receive, send) -> None:
        self.reached.append(f"{scope['method']} {scope['path']}")
        self.headers.append(dict(scope["headers"]))
        self.bodies.append((await receive()).get("body", b""))
        headers = [(b"content-type", self.content_type), (b"access-control-allow-credentials", b"true")]
        headers.append((b"content-length", str(len(self.body)).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    fake: FakeApi
    pages: Pages
    clock: Clock
    guard: Guard

    def request(self, method: str, path: str, *, cookie: str | None = None, **options) -> httpx.Response:
        headers = {**({"cookie": f"sid={cookie}"} if cookie else {}), **options.pop("headers", {})}

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.guard)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8443") as http:
                return await http.request(method, path, headers=headers, **options)

        return asyncio.run(send())

    def sent(self, method: str, path: str, *, cookie: str, body: bytes) -> list[Message]:
        """What the server under the guard is told to send, also where that is no whole answer."""
        told: list[Message] = []
        names = {"host": "127.0.0.1:8443", "cookie": f"sid={cookie}", **SAME}
        headers = [(name.encode(), value.encode()) for name, value in names.items()]
        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            told.append(message)

        asyncio.run(self.guard(scope, receive, send))
        return told

    def join(self, cookie: str, tab: object, **headers: str) -> httpx.Response:
        return self.request("POST", JOIN, cookie=cookie, json={"session_hash": tab}, headers={**SAME, **headers})


@pytest.fixture
def bench() -> Bench:
    return make_bench(UiSettings(body_bytes_max=4096))


def make_bench(settings: UiSettings, answer: ASGIApp | None = None) -> Bench:
    fake, pages, clock = FakeApi(), Pages(), Clock()
    sessions = Sessions(Client(fake.app), fresh_s=settings.session_check_s, limit=8, clock=clock)
    chrome = Chrome(settings)
    behind = answer or pages
    rooms = {"api": fake.app, "pages": behind, "sessions": sessions, "chrome": chrome, "settings": settings}
    return Bench(fake, pages, clock, Guard(**rooms, clock=clock))


END = b'data: {"msg":"close_stream","event_id":null}\n\n'


def test_the_answer_to_an_event_names_the_stream_of_its_tab_that_has_ended(bench):
    cookie = bench.fake.open_session("m.keller")
    bench.pages.content_type = b"text/event-stream"

    def read(tab: str, piece: bytes) -> str:
        bench.pages.body = piece
        answer = bench.request("GET", f"/app/gradio_api/queue/data?session_hash={tab}", cookie=cookie)
        assert answer.status_code == 200
        return answer.headers["x-event-stream"]

    def ended(tab: str) -> str | None:
        return bench.join(cookie, tab).headers.get("x-event-stream-ended")

    assert ended("tab-without-a-stream") is None
    goes_on = read("tab-that-goes-on", b'data: {"msg":"process_completed","output":"\\"close_stream\\""}\n\n')
    first = read("tab-that-ends", END)
    assert len({goes_on, first}) == 2
    assert (ended("tab-that-goes-on"), ended("tab-that-ends")) == (None, first)
    second = read("tab-that-ends", b'data: {"msg":"estimation"}\n\n')
    assert second != first and ended("tab-that-ends") is None


def test_the_end_of_a_stream_is_noted_before_anything_is_waited_for() -> None:
    """Whoever sends an event at that moment is told of it, although nobody has been sent the end yet."""
    noted: list[str | None] = []

    async def stream(_, receive, send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        bench.clock.now += 5.0  # so that the session is asked for, which takes a while
        sending = asyncio.ensure_future(send({"type": "http.response.body", "body": END, "more_body": False}))
        await asyncio.sleep(0)
        noted.append(bench.guard._streams.last_ended("abcdefgh"))
        await sending

    bench = make_bench(UiSettings(), stream)
    cookie = bench.fake.open_session("m.keller")
    answer = bench.request("GET", "/app/gradio_api/queue/data?session_hash=abcdefgh", cookie=cookie)
    assert noted == [answer.headers["x-event-stream"]]


def test_the_streams_of_so_many_tabs_are_known_and_no_more() -> None:
    streams = EventStreams(limit=2)
    numbers = {tab: streams.begun(tab) for tab in ("one", "two", "three")}
    for tab, number in numbers.items():
        streams.ended(tab, number)
    assert [streams.last_ended(tab) for tab in numbers] == [None, numbers["two"], numbers["three"]]
    later = streams.begun("two")
    streams.ended("two", numbers["two"])  # of the one before
    assert streams.last_ended("two") is None
    streams.ended("two", later)
    assert streams.last_ended("two") == later


# What Gradio 6.31 serves besides what the two pages use; each was seen to answer somebody who should not get it.
CLOSED = [
    ("POST", "/app/gradio_api/upload"),
    ("GET", "/app/gradio_api/file=/etc/passwd"),
    ("GET", "/app/gradio_api/file=http://secret.example/x"),
    ("GET", "/app/gradio_api/proxy=https://x.hf.space/"),
    ("GET", "/app/gradio_api/deep_link?session_hash=abcdefgh"),
    ("POST", "/app/gradio_api/cancel"),
    ("POST", "/app/gradio_api/reset"),
    ("POST", "/app/gradio_api/stream/x"),
    ("POST", "/app/gradio_api/component_server"),
    ("POST", "/app/gradio_api/run/predict"),
    ("POST", "/app/gradio_api/api/predict"),
    ("POST", "/app/gradio_api/call/x"),
    ("GET", "/app/gradio_api/info"),
    ("GET", "/app/gradio_api/startup-events"),
    ("GET", "/app/gradio_api/app_id"),
    ("GET", "/app/config"),
    ("HEAD", "/app/gradio_api/queue/data?session_hash=abcdefgh"),
    ("GET", "/app/gradio_api/token"),
    ("GET", "/app/gradio_api/user"),
    ("GET", "/app/gradio_api/runs"),
    ("GET", "/app/gradio_api/process_recording"),
    ("GET", "/app/monitoring/x"),
    ("GET", "/app/openapi.json"),
    ("GET", "/app/manifest.json"),
    ("POST", "/app/login"),
    ("GET", "/app/logout"),
    ("GET", "/app/"),
    ("GET", "/app/vibe-code"),
    ("GET", "/logout"),
    ("PUT", "/login"),
    ("GET", "/teaching/tables"),
    ("POST", "/teaching/tables/x"),
    ("GET", "/specialists/files"),
    ("PUT", "/specialists/files"),
    ("POST", "/specialists/files/x"),
    ("POST", "/specialists/phi-deid/1.0.0/file"),
    ("GET", "/specialists/phi-deid/../file"),
    ("GET", "/specialists/phi-deid/1.0.0%2F..%2F/file"),
    ("GET", "/specialists/Phi_Deid/1.0.0/file"),
    ("GET", "/specialists/phi-deid/1.0.0/file.sig"),
    ("OPTIONS", "/login"),
    ("GET", "/app/assets/../../etc/passwd"),
    ("GET", "/ui/static/../client.py"),
    ("GET", "/etc/passwd"),
]


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_what_the_policy_does_not_name_is_not_there_even_for_a_signed_in_user(bench: Bench, method, path) -> None:
    cookie = bench.fake.open_session("m.keller")
    answer = bench.request(method, path, cookie=cookie, headers=SAME)
    assert (answer.status_code, bench.pages.reached) == (404, [])


@settings(deadline=None)
@given(st.text(st.sampled_from("/.abcdefgh_=?:%\\0123app"), max_size=40))
def test_no_path_outside_the_named_ones_has_an_area(rest: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert area_of(method, f"/app/{rest}") is None or rest == "gradio_api/queue/join"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/app/assets/index.js"),
        ("GET", "/app/theme.css"),
        ("POST", JOIN),
        ("GET", "/app/gradio_api/queue/data?session_hash=abcdefgh"),
        ("GET", "/app/gradio_api/heartbeat/abcdefgh"),
    ],
)
def test_without_a_session_gradio_answers_nothing(bench: Bench, method: str, path: str) -> None:
    answer = bench.request(method, path, headers=SAME)
    assert (answer.status_code, bench.pages.reached) == (401, [])


@pytest.mark.parametrize("path", ["/app/deidentify", "/app/audit", "/receipts/abcd", "/checkpoint"])
def test_without_a_session_a_page_leads_to_sign_in(bench: Bench, path: str) -> None:
    answer = bench.request("GET", path)
    assert (answer.status_code, answer.headers["location"], bench.pages.reached) == (303, "/login", [])


def test_a_made_up_cookie_is_nobody(bench: Bench) -> None:
    for cookie in ("x", "a" * 5000, '"quoted"'):
        assert bench.request("GET", "/app/theme.css", cookie=cookie).status_code == 401


def test_nobody_may_name_the_tab_of_another_session(bench: Bench) -> None:
    alice, bob = bench.fake.open_session("m.keller"), bench.fake.open_session("a.stone")
    assert bench.join(alice, "alicetab01").status_code == 200
    refused = [
        bench.join(bob, "alicetab01"),
        bench.request("GET", "/app/gradio_api/queue/data?session_hash=alicetab01", cookie=bob),
        bench.request("GET", "/app/gradio_api/heartbeat/alicetab01", cookie=bob),
    ]
    assert [answer.status_code for answer in refused] == [403, 403, 403]
    own = bench.request("GET", "/app/gradio_api/queue/data?session_hash=alicetab01", cookie=alice)
    assert own.status_code == 200


def test_two_sessions_of_one_person_do_not_share_a_tab(bench: Bench) -> None:
    first, second = bench.fake.open_session("m.keller"), bench.fake.open_session("m.keller")
    assert bench.join(first, "onetab0001").status_code == 200
    assert bench.join(second, "onetab0001").status_code == 403


@pytest.mark.parametrize("tab", [None, "", "ab", 7, ["abcdefgh"], "a/../../b", "x" * 65, "tab\n0001"])
def test_what_is_no_tab_name_is_refused(bench: Bench, tab: object) -> None:
    cookie = bench.fake.open_session("m.keller")
    assert bench.join(cookie, tab).status_code == 403


def test_a_second_tab_name_in_the_query_is_checked_too(bench: Bench) -> None:
    alice, bob = bench.fake.open_session("m.keller"), bench.fake.open_session("a.stone")
    bench.join(alice, "alicetab01")
    path = "/app/gradio_api/queue/data?session_hash=bobstab001&session_hash=alicetab01"
    assert bench.request("GET", path, cookie=bob).status_code == 403
    assert bench.request("GET", "/app/gradio_api/queue/data", cookie=bob).status_code == 403
    path = f"{JOIN}?session_hash=alicetab01"
    answer = bench.request("POST", path, cookie=bob, json={"session_hash": "bobstab001"}, headers=SAME)
    assert answer.status_code == 403


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'"text"', b"\xff", b"[" * 4000])
def test_a_join_that_cannot_be_read_is_refused(bench: Bench, body: bytes) -> None:
    cookie = bench.fake.open_session("m.keller")
    assert bench.request("POST", JOIN, cookie=cookie, content=body, headers=SAME).status_code == 403


def test_a_claim_expires_and_the_table_stays_bounded() -> None:
    clock = Clock()
    tabs = TabOwners(limit=3, idle_s=60, clock=clock)
    assert tabs.claim("tab-one", b"alice")
    clock.now += 59
    assert not tabs.claim("tab-one", b"bob")
    assert tabs.claim("tab-one", b"alice")  # use renews it
    clock.now += 60
    assert tabs.claim("tab-one", b"bob")
    for number in range(9):
        assert tabs.claim(f"tab-{number:04}", b"alice")
    assert len(tabs) == 3


def test_a_request_body_over_the_limit_is_refused_before_it_is_passed_on(bench: Bench) -> None:
    cookie = bench.fake.open_session("m.keller")
    body = json.dumps({"session_hash": "abcdefgh", "data": ["x" * 5000]}).encode()
    answer = bench.request("POST", JOIN, cookie=cookie, content=body, headers=SAME)
    assert (answer.status_code, bench.pages.reached) == (413, [])


def test_a_refused_call_of_gradio_says_why_in_the_form_that_its_script_shows(bench: Bench) -> None:
    cookie, other = bench.fake.open_session("m.keller"), bench.fake.open_session("a.stone")
    bench.join(other, "abcdefgh")
    large = bench.request("POST", JOIN, cookie=cookie, content=b"x" * 5000, headers=SAME)
    foreign = bench.join(cookie, "abcdefgh")
    bench.fake.busy = True
    bench.clock.now += 60
    busy = bench.join(cookie, "ijklmnop")
    assert [(answer.status_code, answer.json()["detail"]) for answer in (large, foreign, busy)] == [
        (413, "the request is too large"),
        (403, "this browser tab belongs to another session; reload the page"),
        (503, "the server is busy; try again in a moment"),
    ]


def test_a_page_of_a_busy_server_is_a_page_with_a_way_back(bench: Bench) -> None:
    cookie = bench.fake.open_session("m.keller")
    bench.fake.busy = True
    answer = bench.request("GET", "/app/audit?record=ab", cookie=cookie)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "The server is busy" in answer.text
    assert 'href="/app/audit?record=ab"' in html.unescape(answer.text)


def test_the_body_that_was_checked_is_the_body_that_arrives(bench: Bench) -> None:
    cookie = bench.fake.open_session("m.keller")
    bench.join(cookie, "abcdefgh")
    assert json.loads(bench.pages.bodies[0]) == {"session_hash": "abcdefgh"}


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.test"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8443"},
        {},
    ],
)
def test_a_change_that_another_site_could_have_sent_is_refused(bench: Bench, headers: dict[str, str]) -> None:
    cookie = bench.fake.open_session("m.keller")
    for path in ("/login", "/setup", "/logout", JOIN):
        answer = bench.request("POST", path, cookie=cookie, content=b"{}", headers=headers)
        assert (answer.status_code, bench.pages.reached) == (403, [])


def test_an_older_browser_is_believed_by_its_origin() -> None:
    assert same_origin({b"origin": "http://127.0.0.1:8443", b"host": "127.0.0.1:8443"})
    assert not same_origin({b"origin": "http://127.0.0.1:9999", b"host": "127.0.0.1:8443"})


@pytest.mark.parametrize(
    "host", ["evil.test", "127.0.0.1.evil.test", "", "[::1", "127.0.0.1@evil.test", "evil.test:80"]
)
def test_a_host_that_is_not_ours_is_refused_for_pages_and_api(bench: Bench, host: str) -> None:
    for path in ("/login", "/v1/setup", "/healthz"):
        assert bench.request("GET", path, headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:1", "LOCALHOST:8443", "[::1]:8443", "localhost."])
def test_our_own_names_are_known_with_any_port(bench: Bench, host: str) -> None:
    assert host_name(host) in UiSettings().allowed_hosts
    assert bench.request("GET", "/login", headers={"host": host}).status_code == 200


def test_the_api_gets_its_request_untouched_and_its_answer_gains_headers(bench: Bench) -> None:
    answer = bench.request("POST", "/v1/setup", json={"token": "x", "username": "u", "password": "p"})
    assert answer.json()["error"]["code"] == "setup_link_invalid"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert bench.pages.reached == []


def test_a_websocket_is_closed(bench: Bench) -> None:
    sent: list[Message] = []

    async def run() -> None:
        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/app/queue/join", "headers": [(b"host", b"127.0.0.1")]}
        await bench.guard(scope, receive, send)

    asyncio.run(run())
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_every_answer_carries_the_headers_and_no_licence_for_other_origins(bench: Bench) -> None:
    cookie = bench.fake.open_session("m.keller")
    for path in ("/login", "/app/theme.css", "/checkpoint", "/nothing", "/app/deidentify"):
        headers = bench.request("GET", path, cookie=cookie).headers
        policy = headers["content-security-policy"]
        assert "unsafe-eval" not in policy
        assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert "access-control-allow-credentials" not in headers
    assert "strict-transport-security" not in headers
    secure = make_bench(UiSettings(secure=True)).request("GET", "/login").headers
    assert "strict-transport-security" in secure


def test_only_gradios_scripts_and_our_static_files_may_be_kept_by_a_browser(bench: Bench) -> None:
    cookie = bench.fake.open_session("m.keller")
    kept = {path: bench.request("GET", path, cookie=cookie).headers["cache-control"] for path in (
        "/app/assets/index.js", "/app/theme.css", "/ui/static/app.css", "/app/deidentify", "/login",
        "/checkpoint",
    )}  # fmt: skip
    assert kept == {
        "/app/assets/index.js": "private, max-age=31536000, immutable",
        "/app/theme.css": "private, no-cache",
        "/ui/static/app.css": "private, no-cache",
        "/app/deidentify": "no-store",
        "/login": "no-store",
        "/checkpoint": "no-store",
    }


def test_a_page_is_dressed_with_a_fresh_nonce_on_each_of_its_scripts(bench: Bench) -> None:
    cookie = bench.fake.open_session("m.keller")
    bench.pages.content_type, bench.pages.body = b"text/html; charset=utf-8", HTML
    nonces = set()
    for _ in range(2):
        answer = bench.request("GET", "/app/deidentify", cookie=cookie)
        nonce = answer.headers["content-security-policy"].split("'nonce-")[1].split("'")[0]
        assert answer.text.count("<script") == answer.text.count(f'<script nonce="{nonce}"') == 2
        assert "m&#46;keller" in answer.text
        assert int(answer.headers["content-length"]) == len(answer.content)
        nonces.add(nonce)
    assert len(nonces) == 2
    assert b"accept-encoding" not in bench.pages.headers[0]


def test_an_error_document_is_not_dressed(bench: Bench) -> None:
    cookie = bench.fake.open_session("m.keller")
    bench.pages.content_type, bench.pages.body, bench.pages.status = b"text/html", b"<p>starting</p>", 503
    assert bench.request("GET", "/app/deidentify", cookie=cookie).text == "<p>starting</p>"


def test_a_document_of_unknown_form_is_not_shown_half_dressed() -> None:
    user = SignedIn("m.keller", ("user",), "", "", "")
    with pytest.raises(DocumentUnexpected):
        Chrome(UiSettings()).dress(b"<html><body></body></html>", nonce="n", path="/app/audit", user=user)


def test_names_in_the_header_stay_text() -> None:
    user = SignedIn("<img src=x onerror=alert(1)>", ("user",), "", "", "")
    settings = UiSettings(site_name="</span><script>1</script>")
    document = Chrome(settings).dress(HTML, nonce="n", path="/app/audit", user=user).decode()
    assert "<img" not in document
    assert document.count("<script") == 2


def test_a_session_is_asked_for_once_per_moment_and_forgotten_when_it_ends(bench: Bench) -> None:
    cookie = bench.fake.open_session("m.keller")
    for _ in range(20):
        assert bench.request("GET", "/app/theme.css", cookie=cookie).status_code == 200
    assert bench.fake.session_questions == 1
    bench.fake.sessions.clear()
    assert bench.request("GET", "/app/theme.css", cookie=cookie).status_code == 200  # within the moment
    bench.clock.now += 2.0
    assert bench.request("GET", "/app/theme.css", cookie=cookie).status_code == 401


def test_many_requests_at_once_ask_one_question(bench: Bench) -> None:
    cookie = bench.fake.open_session("m.keller")

    async def load() -> list[int]:
        transport = httpx.ASGITransport(app=bench.guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", cookies={"sid": cookie}) as http:
            answers = await asyncio.gather(*(http.get(f"/app/assets/{number}.js") for number in range(60)))
        return [answer.status_code for answer in answers]

    assert set(asyncio.run(load())) == {200}
    assert bench.fake.session_questions == 1


def test_a_busy_api_signs_nobody_out_and_lets_nobody_in(bench: Bench) -> None:
    cookie = bench.fake.open_session("m.keller")
    bench.fake.busy = True
    answer = bench.request("GET", "/app/theme.css", cookie=cookie)
    assert (answer.status_code, answer.text, bench.pages.reached) == (
        503, "the server is busy; try again in a moment", []
    )  # fmt: skip
    bench.fake.busy = False
    assert bench.request("GET", "/app/theme.css", cookie=cookie).status_code == 200


def test_a_stream_outlives_a_busy_moment_of_the_api_but_not_a_long_one() -> None:
    async def stream(_, receive, send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        bench.fake.busy = True
        for number in range(10):
            bench.clock.now += 5.0
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})

    bench = make_bench(UiSettings(), stream)
    cookie = bench.fake.open_session("m.keller")
    answer = bench.request("GET", "/app/gradio_api/queue/data?session_hash=abcdefgh", cookie=cookie)
    assert "data: 4" in answer.text
    assert "data: 6" not in answer.text


def test_a_stream_ends_when_its_session_does() -> None:
    told_to_stop: list[str] = []

    async def stream(_, receive, send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number in range(6):
            if number == 3:
                bench.fake.sessions.clear()
            bench.clock.now += 1.5
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        told_to_stop.append((await receive())["type"])

    bench = make_bench(UiSettings(), stream)
    cookie = bench.fake.open_session("m.keller")
    answer = bench.request("GET", "/app/gradio_api/queue/data?session_hash=abcdefgh", cookie=cookie)
    assert "data: 2" in answer.text
    assert "data: 5" not in answer.text
    assert answer.content.endswith(b"\n" + SESSION_ENDED)  # so that the page is left
    assert told_to_stop == ["http.disconnect"]


def _answer_of(length: int, pieces: list[bytes], at_piece: Callable[[int], None]) -> ASGIApp:
    async def answer(_, receive, send) -> None:
        await receive()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, piece in enumerate(pieces):
            at_piece(number)
            await send({"type": "http.response.body", "body": piece, "more_body": number + 1 < len(pieces)})

    return answer


def test_an_answer_of_known_length_is_refused_where_its_session_ended_before_it_began() -> None:
    def end_session(_: int) -> None:
        bench.fake.sessions.clear()
        bench.clock.now += 5.0

    bench = make_bench(UiSettings(), _answer_of(2, [b"{}"], end_session))
    answer = bench.join(bench.fake.open_session("m.keller"), "abcdefgh")
    assert (answer.status_code, answer.text) == (401, "sign in first")
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_an_answer_of_known_length_is_left_unfinished_where_its_session_ends_later() -> None:
    def end_session(number: int) -> None:
        if number == 1:
            bench.fake.sessions.clear()
            bench.clock.now += 5.0

    bench = make_bench(UiSettings(), _answer_of(12, [b"piece ", b"secret"], end_session))
    cookie = bench.fake.open_session("m.keller")
    sent = bench.sent("POST", JOIN, cookie=cookie, body=b'{"session_hash": "abcdefgh"}')
    assert [(each["type"], each.get("body"), each.get("more_body")) for each in sent] == [
        ("http.response.start", None, None),
        ("http.response.body", b"piece ", True),  # no end is said, so that the server closes the connection
    ]
