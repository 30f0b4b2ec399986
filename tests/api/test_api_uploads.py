"""Guaranteed here: a path that takes files has a bound of its own and the others keep theirs, told or measured, and
nothing of what was uploaded touches the disk."""

import asyncio
import tempfile

import pytest
from fastapi import FastAPI, Request
from httpx import ASGITransport, AsyncClient

from appliance.api.error_responses import install_error_responses
from appliance.api.limits import RequestLimits
from appliance.api.uploads import read_form

SMALL, LARGE = 2000, 5_000_000


async def _ignore(_request, _error):
    return None


def app_of():
    app = FastAPI()
    install_error_responses(app, _ignore)
    app.add_middleware(RequestLimits, body_bytes_max=SMALL, in_flight_max=4, uploads={"/files": LARGE})

    async def take(request: Request):
        form = await read_form(request, files=("file",), fields=("reason",))
        return {"bytes": len(form.files["file"].content), "name": form.files["file"].name, **form.fields}

    app.post("/files")(take)
    app.post("/texts")(take)
    return app


def send(path, size, **options):
    async def work():
        async with AsyncClient(transport=ASGITransport(app_of()), base_url="http://test") as client:
            return await client.post(path, files={"file": ("a.bin", b"x" * size)}, **options)

    return asyncio.run(work())


ROWS = (("/files", 100, 200), ("/files", 4_000_000, 200), ("/files", LARGE, 413), ("/texts", 100, 200))


@pytest.mark.parametrize(("path", "size", "status"), [*ROWS, ("/texts", SMALL, 413)])
def test_each_path_has_its_bound(path, size, status):
    answer = send(path, size)
    assert answer.status_code == status
    if status == 413:
        assert answer.json()["error"]["code"] == "input_too_long"
        assert ("teaching.table_bytes_max" in answer.json()["error"]["hint"]) == (path == "/files")
    else:
        assert answer.json() == {"bytes": size, "name": "a.bin"}


def test_a_large_file_never_becomes_a_temporary_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))  # where no file can be made
    assert send("/files", 4_000_000, data={"reason": "r"}).json()["reason"] == "r"


def test_a_field_is_bounded_and_an_unknown_one_refused():
    assert send("/files", 1, data={"reason": "r" * 100_000}).status_code == 400
    assert send("/files", 1, data={"other": "r"}).status_code == 400
