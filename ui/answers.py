"""Reading what the API answered: objects, lines of a stream, names of files, and its refusals in its own words."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from typing import Any

import httpx

Json = dict[str, Any]
_LINE_BYTES_MAX = 4 * 1024 * 1024  # of a streamed answer: a record with its attributes is far smaller


class Refused(Exception):
    """The API said no. `message` and `hint` are the API's own and safe to show."""

    def __init__(self, status: int, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint

    @property
    def signed_out(self) -> bool:
        """There is no session any more; only signing in again helps."""
        return self.status == 401


def refusal_in(response: httpx.Response) -> Refused:
    """The API's error shape, or a plain sentence where an answer does not have it."""
    try:
        body = response.json()
    except ValueError:
        body = None
    return refusal_of(response.status_code, body)


def refusal_of(status: int, body: Any) -> Refused:
    try:
        error = body["error"]
        hint = error.get("hint")
        return Refused(status, str(error["code"]), str(error["message"]), str(hint) if hint else None)
    except (KeyError, TypeError, AttributeError):
        return Refused(
            status,
            "internal_error",
            f"the server could not answer this request (status {status})",
            "try again; if it goes on, ask whoever runs this server to look at its log",
        )


def object_in(response: httpx.Response, path: str) -> Json:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(502, "unreadable_answer", f"the server's answer to {path} could not be read")
    return body


async def lines_in(answer: httpx.Response) -> AsyncGenerator[Json]:
    """Each line of a streamed answer as an object. A line that is not one breaks the answer off."""
    waiting = b""
    try:
        async for piece in answer.aiter_raw():
            *whole, waiting = (waiting + piece).split(b"\n")
            for line in whole:
                if line.strip():
                    yield _line(line)
            if len(waiting) > _LINE_BYTES_MAX:
                raise Refused(502, "unreadable_answer", "the server's answer holds a line without an end")
    except httpx.HTTPError as error:
        raise Refused(502, "unreadable_answer", str(error), "search again") from error
    if waiting.strip():
        yield _line(waiting)


def _line(line: bytes) -> Json:
    try:
        body = json.loads(line)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(502, "unreadable_answer", "a line of the server's answer could not be read")
    return body


_FILE_NAME = re.compile(r'filename="([A-Za-z0-9][A-Za-z0-9._-]{0,99})"')


def file_name(answer: httpx.Response, otherwise: str) -> str:
    found = _FILE_NAME.search(answer.headers.get("content-disposition", ""))
    return found[1] if found else otherwise
