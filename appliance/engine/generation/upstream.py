"""Generation by another server inside the site that speaks OpenAI's API (vLLM, llama.cpp's), as `client.py` does it.

    upstreams = Upstreams(config.upstream)
    generator = upstreams.get("big")                      # None: no such model is configured
    async with await generator.generate(request) as chunks:
        async for chunk in chunks: ...                    # the last one has `finish`
    await upstreams.close()

Where a request goes is decided by the site's list of addresses and by nothing else: the name is resolved here, every
address that it has must be in the list, and the connection is made to the address that was checked. No redirect is
followed, no proxy of the environment is used. What comes back is bounded in bytes and in time, and is data: its errors
are told by their status, because their texts may repeat the prompt.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import math
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from appliance.config import UpstreamConfig, UpstreamModelConfig
from appliance.engine.generation.sampling import check_request
from appliance.engine.generation.upstream_calls import PiecedCalls, no_number, tool_options, turn_body
from appliance.engine.generation.values import (
    Chunk,
    Finish,
    FinishReason,
    GenerationRequest,
    Message,
    TokenLogprob,
    Usage,
)
from appliance.errors import (
    ApplianceError,
    ConfigInvalid,
    DeadlineExceeded,
    EngineUnavailable,
    InvalidRequest,
    QueueFull,
    UnknownOption,
)

RESERVED = "auto"
_RETRY_AFTER_S = 10.0
_RETRY_AFTER_MAX_S = 3600.0
_API_KEY_BYTES_MAX = 4096
_GIVEN_UP = ("abort", "error", "content_filter")  # what was written is not the whole answer; vLLM says the first two
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Upstreams:
    """The models of other servers, by the name they have here. Owns their connections."""

    def __init__(self, config: UpstreamConfig) -> None:
        if RESERVED in config.models:
            raise ConfigInvalid(
                f"upstream.models cannot have the name {RESERVED!r}: it asks the router to choose",
                hint="name it otherwise",
            )
        logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes a line for every request
        self._generators = {name: UpstreamGenerator(name, model, config) for name, model in config.models.items()}

    def get(self, name: str) -> UpstreamGenerator | None:
        """The generator of a configured model."""
        return self._generators.get(name)

    async def close(self) -> None:
        """End all connections. A second time is no work."""
        for generator in self._generators.values():
            await generator.close()


class UpstreamGenerator:
    """One model of one other server."""

    def __init__(self, name: str, model: UpstreamModelConfig, config: UpstreamConfig) -> None:
        self.name = name
        self._model, self._config = model, config
        self._in_flight = 0
        certificates = config.ca_certificate
        context = ssl.create_default_context(cafile=str(certificates) if certificates else None)
        self._http = httpx.AsyncClient(
            transport=_OnlyListed(config, context),
            headers=_headers(model),
            timeout=httpx.Timeout(config.silence_s, connect=config.connect_s),
            follow_redirects=False,
            trust_env=False,
        )

    async def generate(self, request: GenerationRequest) -> UpstreamStream:
        """Send a request; returns when the other server has begun to answer.

        Raises `InvalidRequest` and its kinds, `QueueFull` with `retry_after_s`, `EngineUnavailable`,
        `DeadlineExceeded`.
        """
        check_request(request)
        path, body = _body(request, self._model.model)
        if self._in_flight >= self._config.in_flight_max:
            raise QueueFull(
                f"{self._in_flight} answers of {self.name} are being written, the most upstream.in_flight_max allows",
                hint="try again in a moment",
                retry_after_s=_RETRY_AFTER_S,
            )
        limit_s = min(request.deadline_s or self._config.request_s, self._config.request_s)
        stream = UpstreamStream(self, request, time.monotonic() + limit_s)
        self._in_flight += 1
        try:
            await stream.open(self._http.build_request("POST", self._model.url.rstrip("/") + path, json=body))
        except BaseException:
            await stream.aclose()
            raise
        return stream

    async def send(self, request: httpx.Request) -> httpx.Response:
        """For the stream: headers of the answer, its body still to be read."""
        return await self._http.send(request, stream=True)

    def release(self) -> None:
        """A stream was left."""
        self._in_flight -= 1

    @property
    def body_bytes_max(self) -> int:
        return self._config.body_bytes_max

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()


class UpstreamStream:
    """The answer to one request. Iterate it once, inside `async with`; leaving it ends the other server's work."""

    def __init__(self, generator: UpstreamGenerator, request: GenerationRequest, gives_up: float) -> None:
        self._generator, self._request, self._gives_up = generator, request, gives_up
        self._response: httpx.Response | None = None
        self._events: AsyncIterator[dict[str, Any]] | None = None
        self._reason: FinishReason | None = None
        self._usage: Mapping[str, Any] = {}
        self._pieces = 0
        self._calls = PiecedCalls(request)
        self._done = False
        self._left = False

    async def open(self, request: httpx.Request) -> None:
        """Send it and read the status. Raises as `UpstreamGenerator.generate`."""
        self._response = await self._within(self._generator.send(request))
        if self._response.status_code != 200:
            raise _refusal(self._generator.name, self._response)
        self._events = _events(self._response, self._generator.body_bytes_max, self._generator.name)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        """The next piece, at last one with `finish`. Raises what ended the answer instead."""
        if self._done:
            raise StopAsyncIteration
        assert self._events is not None, "a stream is opened before it is read"
        while True:
            try:
                event = await self._within(anext(self._events))
            except StopAsyncIteration:
                break
            chunk = self._chunk(event)
            if chunk is not None:
                return chunk
        if self._reason is None:
            raise _unavailable(self._generator.name, "ended the connection in the middle of an answer")
        self._done = True
        await self.aclose()
        calls, text = self._calls.finished()
        reason: FinishReason = "tool_calls" if calls and self._reason == "stop" else self._reason
        return Chunk(text, 0, (), Finish(reason, self._figures()), calls)

    async def aclose(self) -> None:
        """Leave. A second time is no work."""
        if self._left:
            return
        self._left = True
        self._generator.release()
        if self._response is not None:
            await self._response.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _within(self, work: Any) -> Any:
        """The result, before the deadline; errors of the library as ours."""
        name = self._generator.name
        try:
            async with asyncio.timeout(max(0.0, self._gives_up - time.monotonic())):
                return await work
        except (TimeoutError, httpx.TimeoutException):
            raise DeadlineExceeded(
                f"the server behind {name} did not answer in time", hint="ask for fewer tokens, or try again later"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _unavailable(name, f"cannot be reached: {type(error).__name__}") from None

    def _chunk(self, event: dict[str, Any]) -> Chunk | None:
        """What an event brings; None: nothing to show. Raises `EngineUnavailable` for what is no answer."""
        if event.get("error"):
            raise _unavailable(self._generator.name, "failed in the middle of an answer")
        if isinstance(event.get("usage"), Mapping):
            self._usage = event["usage"]
        try:
            choices = event["choices"]
            if not choices:
                return None
            choice = choices[0]
            text = choice["delta"].get("content") if "delta" in choice else choice["text"]
            reason = choice.get("finish_reason")
            self._calls.take(choice["delta"].get("tool_calls") if "delta" in choice else None)
            logprobs = _logprobs(choice.get("logprobs")) if self._request.logprobs is not None else ()
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise _unavailable(self._generator.name, "sent something that is no answer of this API") from None
        if not isinstance(text, str | None):
            raise _unavailable(self._generator.name, "sent something that is no answer of this API")
        if reason in _GIVEN_UP:
            raise _unavailable(self._generator.name, "gave up in the middle of an answer")
        if reason is not None:
            self._reason = "length" if reason == "length" else "stop"
        self._pieces += 1 if text else 0
        return Chunk(text or "", 1, logprobs) if text or logprobs else None

    def _figures(self) -> Usage:
        """What the other server counted; pieces where it counts nothing."""

        def number(value: object, otherwise: int) -> int:
            return value if isinstance(value, int) and 0 <= value < 2**31 else otherwise

        details = self._usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
        return Usage(
            number(self._usage.get("prompt_tokens"), 0),
            number(cached, 0),
            number(self._usage.get("completion_tokens"), self._pieces),
        )


class _OnlyListed(httpx.AsyncBaseTransport):
    """Connects to addresses of the site's list only: the name is resolved and checked here, and used no more."""

    def __init__(self, config: UpstreamConfig, context: ssl.SSLContext) -> None:
        self._networks = networks_of(config)
        limits = httpx.Limits(max_connections=config.in_flight_max, max_keepalive_connections=0)
        # No connection is kept: one that was made to a checked address is not used for another name.
        self._inner = httpx.AsyncHTTPTransport(verify=context, limits=limits, trust_env=False, retries=0)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host, port = request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)
        address = await self._checked(host, port)
        request.headers["Host"] = request.url.netloc.decode()
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host=address)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _checked(self, host: str, port: int) -> str:
        """One address of the host. Raises `EngineUnavailable` if any of them is not in the list."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpx.ConnectError(f"cannot resolve the name: {error.strerror}") from None
        addresses = list(dict.fromkeys(str(place[4][0]) for place in found))
        for address in addresses:
            if not _listed(address, self._networks):
                raise EngineUnavailable(
                    f"the upstream server {host[:80]} has the address {address}, which is not in upstream.addresses",
                    hint="add it to config.toml if that server is inside the site",
                )
        return addresses[0]


def networks_of(config: UpstreamConfig) -> tuple[Network, ...]:
    """The site's list. Raises `ConfigInvalid` for what is no address."""
    try:
        return tuple(ipaddress.ip_network(address, strict=False) for address in config.addresses)
    except ValueError:
        raise ConfigInvalid(
            "upstream.addresses holds something that is neither an address nor a network",
            hint="write 10.0.3.7 or 10.0.3.0/24",
        ) from None


def _listed(address: str, networks: tuple[Network, ...]) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)


def _headers(model: UpstreamModelConfig) -> dict[str, str]:
    if model.api_key_file is None:
        return {}
    try:
        with model.api_key_file.open("rb") as file:
            key = file.read(_API_KEY_BYTES_MAX).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigInvalid(
            f"cannot read the API key of an upstream server from {model.api_key_file}", hint="check its owner and mode"
        ) from None
    return {"Authorization": f"Bearer {key}"}


def _body(request: GenerationRequest, model: str) -> tuple[str, dict[str, Any]]:
    """Path and JSON of a request. Raises `UnknownOption` for what other servers do each in their own way."""
    for name, given in (("grammar", request.grammar), ("adapter", request.adapter)):
        if given:
            raise UnknownOption(f"{name} is not passed on to another server", hint="use a model of this machine")
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    if sampling.repetition_penalty != 1.0:  # vLLM's name, and llama.cpp's
        body |= dict.fromkeys(("repetition_penalty", "repeat_penalty"), sampling.repetition_penalty)
    body |= {"top_k": sampling.top_k} if sampling.top_k else {}
    body |= {"min_p": sampling.min_p} if sampling.min_p else {}
    body |= {"seed": sampling.seed} if sampling.seed is not None else {}
    body |= {"max_tokens": request.max_tokens} if request.max_tokens is not None else {}
    body |= {"stop": list(request.stop)} if request.stop else {}
    if request.json_schema is not None:
        schema = {"name": "answer", "schema": dict(request.json_schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    body |= tool_options(request)
    if isinstance(request.prompt, str):
        if request.logprobs is not None:
            raise UnknownOption(
                "probabilities of a completion are not passed on to another server", hint="ask for a chat"
            )
        return "/completions", {**body, "prompt": request.prompt}
    if request.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.logprobs}
    messages = [turn_body(turn) for turn in request.prompt if isinstance(turn, Message)]
    if not messages:
        raise UnknownOption("token ids are not passed on to another server", hint="send text")
    return "/chat/completions", {**body, "messages": messages}


def _logprobs(said: Any) -> tuple[TokenLogprob, ...]:
    if not said:
        return ()

    def one(entry: Mapping[str, Any]) -> tuple[str, bytes, float]:
        text, logprob = str(entry["token"]), float(entry["logprob"])
        if not math.isfinite(logprob):
            raise ValueError("a probability is no number")
        data = entry.get("bytes")
        return text, bytes(data) if data is not None else text.encode(), logprob

    return tuple(
        TokenLogprob(*one(entry), tuple(one(other) for other in entry.get("top_logprobs") or ()))
        for entry in said["content"] or ()
    )


async def _events(response: httpx.Response, bytes_max: int, name: str) -> AsyncIterator[dict[str, Any]]:
    """The JSON of every server-sent event until `[DONE]` or the end. Raises `EngineUnavailable` beyond the bound."""
    held, taken = b"", 0
    async for piece in response.aiter_bytes():
        taken += len(piece)
        if taken > bytes_max:
            raise _unavailable(name, f"sent more than {bytes_max} bytes")
        *lines, held = (held + piece).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            try:
                event = json.loads(data.decode(), parse_constant=no_number)
                json.dumps(event, ensure_ascii=False).encode()  # half a surrogate pair could not be recorded
            except (ValueError, RecursionError):
                event = None
            if not isinstance(event, dict):
                raise _unavailable(name, "sent something that is no answer of this API")
            yield event


def _refusal(name: str, response: httpx.Response) -> ApplianceError:
    """What a status means. The text of the other server may repeat the prompt and is not passed on."""
    status = response.status_code
    if status == 429 or (status == 503 and "retry-after" in response.headers):
        try:
            wait_s = float(response.headers.get("retry-after", _RETRY_AFTER_S))
        except ValueError:
            wait_s = _RETRY_AFTER_S
        wait_s = min(max(1.0, wait_s), _RETRY_AFTER_MAX_S)  # in this order, because `nan` is a float, too
        return QueueFull(f"the server behind {name} is busy", hint="try again in a moment", retry_after_s=wait_s)
    if status in (404, 405):
        return _unavailable(
            name, f"has no such model or path: HTTP {status}", "check url and model of it in upstream.models"
        )
    if status in (400, 413, 422):
        return InvalidRequest(
            f"the server behind {name} refused the request: HTTP {status}",
            hint="the prompt may be too long, or it does not know an option; its own log says which",
        )
    if status in (401, 403):
        return _unavailable(
            name, f"does not let this appliance in: HTTP {status}", "check upstream.models.*.api_key_file"
        )
    if 300 <= status < 400:
        return _unavailable(name, "answers with a redirect, which is not followed", "configure its final address")
    return _unavailable(name, f"failed: HTTP {status}")


def _unavailable(name: str, what: str, hint: str = "try again later, or ask who runs it") -> EngineUnavailable:
    return EngineUnavailable(f"the server behind {name} {what}", hint=hint, retry_after_s=_RETRY_AFTER_S)
