"""Asking an installed generalist by prompt, through the appliance's own API. Owns one HTTP client; decides nothing.

    async with Generalist(GeneralistAt(url, model, api_key)) as generalist:
        reply = await generalist.ask(messages, tokens_max=32)

The labelled data goes to an address of this machine only: an evaluation is no way out of the premises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from appliance.errors import InvalidRequest, ServerUnavailable
from appliance.specialists.evaluation.prompts import Message

_HERE = frozenset(("127.0.0.1", "::1", "localhost"))
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_REPLY_BYTES_MAX = 1024 * 1024
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class GeneralistAt:
    """Where the API is, which model it is to ask, and the key that may."""

    url: str
    model: str
    api_key: str = field(repr=False)


class Generalist:
    """A client of `POST /v1/chat/completions`. `transport`: another way there, for tests."""

    def __init__(self, place: GeneralistAt, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        host = urlsplit(place.url).hostname or ""
        if host not in _HERE:
            raise InvalidRequest(
                "the generalist is asked on this machine only: its address is not a loopback address",
                hint="start a server here with `appliance serve`, and leave --url out",
            )
        self.model = place.model
        headers = {"Authorization": f"Bearer {place.api_key}"}
        self._http = httpx.AsyncClient(
            base_url=place.url, headers=headers, timeout=TIMEOUT_S, trust_env=False, transport=transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def ask(self, messages: Sequence[Message], *, tokens_max: int) -> str:
        """One reply, as deterministic as the model can be. Raises `ServerUnavailable`, `InvalidRequest`."""
        body = {
            "model": self.model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": tokens_max,
            "temperature": 0,
            "seed": 0,
        }
        try:
            answer = await self._http.post("/v1/chat/completions", json=body)
        except httpx.HTTPError as error:
            raise ServerUnavailable(
                f"the generalist did not answer: {type(error).__name__}", hint="is `appliance serve` running here?"
            ) from None
        if answer.status_code != 200 or len(answer.content) > _REPLY_BYTES_MAX:
            raise _refused(answer)
        try:
            content = answer.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            content = None
        if not isinstance(content, str):
            raise ServerUnavailable("the generalist's answer is no chat completion")
        return content


def _refused(answer: httpx.Response) -> InvalidRequest | ServerUnavailable:
    """The code of the API's error, if it is one: anything else may quote what was asked, and this gets into the log."""
    try:
        code = str(answer.json()["error"]["code"])
    except (ValueError, LookupError, TypeError):
        code = ""
    code = code if _CODE.fullmatch(code) else "no code"
    text = f"the generalist refused: HTTP {answer.status_code}, {code}"
    if answer.status_code >= 500:
        return ServerUnavailable(text, hint="see `appliance doctor`")
    return InvalidRequest(text, hint="check the model's name, and that the API key may use it")
