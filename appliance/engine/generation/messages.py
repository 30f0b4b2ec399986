"""Messages between the server and a generation worker. Frames, bounds and shared messages are `engine/protocol.py`'s.

    frame = protocol.encode_frame(Generate(...), bytes_max=1 << 24)
    decode_command(frame[4:])                       # Generate(...)

One `Chunks` carries what a step brought for all sequences, so that many streams cost one message.
"""

from __future__ import annotations

from array import array
from typing import Any, Literal

import msgspec

from appliance.engine.generation.grammar import CallForm
from appliance.engine.generation.values import GenerationRequest, Message, Sampling, TokenLogprob
from appliance.engine.protocol import (
    Cancel,
    Loaded,
    Loading,
    LoadRefused,
    Ping,
    Probed,
    ProbeNetwork,
    ProtocolError,
    StartRefused,
    Unload,
)


class StartDecoder(msgspec.Struct, frozen=True, tag="start_decoder"):
    """First command: which model and within which bounds. Answered by `DecoderReady` or `StartRefused`."""

    backend: Literal["llamacpp", "echo"]
    path: str
    sha256: str
    threads: int
    gpu_layers: int | None
    slots: int
    context_tokens: int
    step_tokens: int
    waiting_max: int
    adapters_max: int
    memory_bytes_max: int
    share_prefixes: bool
    speculate: bool
    gpu_refused: str = ""  # why this worker was told of no GPU pack though one is installed


class LoadAdapter(msgspec.Struct, frozen=True, tag="load_adapter"):
    """Make an adapter ready. Answered by `Loading` and then by `Loaded` or `LoadRefused`, or by the worker's death."""

    key: str
    path: str
    sha256: str


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """Answered by `Accepted` and then `Chunks`, or by `GenerateRefused` at any time, unless a `Cancel` overtakes it.

    Exactly one of `chat`, `text` and `token_ids` (int32, little endian). `deadline_s` counts from the arrival.
    """

    request_id: int
    principal: str
    chat: list[dict[str, Any]] | None
    text: str | None
    token_ids: bytes | None
    tools: list[dict[str, Any]]
    sampling: Sampling
    seed: int
    max_tokens: int | None
    stop: list[str]
    logprobs: int | None
    grammar: str | None
    adapter: str | None
    deadline_s: float


class DecoderReady(msgspec.Struct, frozen=True, tag="decoder_ready"):
    """The model is loaded. `isolation` and `device` are sentences for a person; `call_form`: how it writes calls."""

    architecture: str
    vocabulary: int
    context_tokens: int
    chat: bool
    device: str
    isolation: str
    isolated: bool
    memory_bytes: int
    call_form: CallForm = "hermes"


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The prompt is understood and waits or runs; nothing about the request can be refused for its content any more."""

    request_id: int
    prompt_tokens: int


class Ended(msgspec.Struct, frozen=True, array_like=True):
    """Why an answer is complete, and its usage."""

    reason: Literal["stop", "length"]
    stop_text: str | None
    prompt_tokens: int
    reused_tokens: int
    generated_tokens: int


class Part(msgspec.Struct, frozen=True, array_like=True):
    """What one step brought for one request."""

    request_id: int
    text: str
    tokens: int
    logprobs: list[TokenLogprob]
    ended: Ended | None


class Chunks(msgspec.Struct, frozen=True, tag="chunks"):
    """What one step brought."""

    parts: list[Part]


class GenerateRefused(msgspec.Struct, frozen=True, tag="generate_refused"):
    """The request was refused or failed; nothing of it is left in the worker."""

    request_id: int
    code: str
    message: str
    hint: str | None
    retry_after_s: float | None


class DecoderPong(msgspec.Struct, frozen=True, tag="decoder_pong"):
    """Alive, and the counters since the start. `pss_bytes` as in `protocol.Pong`."""

    nonce: int
    pss_bytes: int = 0
    waiting: int = 0
    running: int = 0
    steps: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    reused_tokens: int = 0
    prefix_hits: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


Command = StartDecoder | LoadAdapter | Unload | Generate | Cancel | Ping | ProbeNetwork
Report = (
    DecoderReady
    | StartRefused
    | Loading
    | Loaded
    | LoadRefused
    | Accepted
    | Chunks
    | GenerateRefused
    | DecoderPong
    | Probed
)

_command_decoder = msgspec.msgpack.Decoder(Command)
_report_decoder = msgspec.msgpack.Decoder(Report)


def decode_command(body: bytes | bytearray) -> Command:
    """Raises `ProtocolError` for anything but a well-formed command."""
    try:
        return _command_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a command: {error}") from None


def decode_report(body: bytes | bytearray) -> Report:
    """Raises `ProtocolError` for anything but a well-formed report."""
    try:
        return _report_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a report: {error}") from None


def pack_request(
    number: int, request: GenerationRequest, *, grammar: str | None, seed: int, deadline_s: float
) -> Generate:
    """A checked request as it travels."""
    chat, text, token_ids = None, None, None
    if isinstance(request.prompt, str):
        text = request.prompt
    elif isinstance(request.prompt[0], Message):
        chat = [
            {**entry.fields, "role": entry.role, "content": entry.content}
            for entry in request.prompt
            if isinstance(entry, Message)
        ]
    else:
        token_ids = array("i", request.prompt).tobytes()  # type: ignore[arg-type]  # ids, checked before
    return Generate(
        request_id=number,
        principal=request.principal,
        chat=chat,
        text=text,
        token_ids=token_ids,
        tools=[dict(tool) for tool in request.tools],
        sampling=request.sampling,
        seed=seed,
        max_tokens=request.max_tokens,
        stop=list(request.stop),
        logprobs=request.logprobs,
        grammar=grammar,
        adapter=request.adapter,
        deadline_s=deadline_s,
    )
