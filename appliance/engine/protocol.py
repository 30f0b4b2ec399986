"""Messages between the server and an engine worker, and how they are framed. No I/O of its own but two socket calls.

A frame is a 4-byte big-endian length and that many bytes of MessagePack. Lengths are bounded on both sides: a
longer frame is refused before it is sent and ends the connection when it arrives. Nothing is ever unpickled.

    frame = encode_frame(Ping(nonce=1), bytes_max=1024)
    decode_command(frame[4:])                                # Ping(nonce=1)

`Command` goes to the worker, `Report` comes back. Arrays travel as little-endian bytes with their shape.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np

from appliance.types import Head

LENGTH = struct.Struct(">I")


class ProtocolError(Exception):
    """The other side broke the framing or sent what is no message. Stays inside the room: the connection ends."""


class Array(msgspec.Struct, frozen=True, array_like=True):
    """float32 values, C order, little endian."""

    shape: tuple[int, ...]
    data: bytes


class Sequence(msgspec.Struct, frozen=True, array_like=True):
    """One sequence: int32 token ids and, for a head with features, float32 rows."""

    token_ids: bytes
    features: Array | None


class HeadArrays(msgspec.Struct, frozen=True):
    """`types.Head` as it travels."""

    kind: Literal["token", "pooled", "none"]
    feature_count: int
    conv_weight: Array | None
    conv_bias: Array | None
    out_weight: Array | None
    out_bias: Array | None


class Start(msgspec.Struct, frozen=True, tag="start"):
    """First command: which model and within which bounds. Answered by `Ready` or `StartRefused`."""

    backend: Literal["llamacpp", "echo"]
    base_path: str
    base_sha256: str
    lanes: int
    microbatch_tokens: int
    queue_sequences_max: int
    adapters_max: int
    memory_bytes_max: int


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Make an adapter ready. Answered by `Loading` and then by `Loaded` or `LoadRefused`, or by the worker's death."""

    key: str
    path: str | None
    sha256: str | None
    head: HeadArrays
    merge: bool = False


class Unload(msgspec.Struct, frozen=True, tag="unload"):
    """Forget an adapter; its requests are refused."""

    key: str


class Encode(msgspec.Struct, frozen=True, tag="encode"):
    """Answered by one `Encoded` or one `EncodeRefused`, unless a `Cancel` overtakes it."""

    request_id: int
    key: str
    sequences: list[Sequence]


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Forget a request; no answer follows, unless it is under way already."""

    request_id: int


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Answered by `Pong` between two batches."""

    nonce: int


class ProbeNetwork(msgspec.Struct, frozen=True, tag="probe_network"):
    """The doctor's question: try to connect from inside. Answered by `Probed`."""

    nonce: int
    host: str
    port: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The base is loaded. `isolation` and `device` are sentences for a person."""

    states: int
    positions: int
    vocabulary: int
    device: str
    isolation: str
    isolated: bool
    memory_bytes: int


class StartRefused(msgspec.Struct, frozen=True, tag="start_refused"):
    """The base was refused; the worker ends."""

    code: str
    message: str
    hint: str | None


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """Sent before the file is parsed: a worker that dies now was killed by this file."""

    key: str


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The adapter is ready. `memory_bytes` is the new estimate for everything loaded."""

    key: str
    memory_bytes: int


class LoadRefused(msgspec.Struct, frozen=True, tag="load_refused"):
    """The adapter is not loaded; the worker goes on."""

    key: str
    code: str
    message: str
    hint: str | None


class Encoded(msgspec.Struct, frozen=True, tag="encoded"):
    """All outputs of one request, in the order of its sequences."""

    request_id: int
    outputs: list[Array]


class EncodeRefused(msgspec.Struct, frozen=True, tag="encode_refused"):
    """The request was refused or failed; nothing of it is left in the worker."""

    request_id: int
    code: str
    message: str
    hint: str | None


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """Alive. `pss_bytes` is the worker's own share of memory, 0 where the system does not say."""

    nonce: int
    pss_bytes: int
    batches: int
    tokens: int


class Probed(msgspec.Struct, frozen=True, tag="probed"):
    """`error` is the errno name of the call that failed; None means that the connection was made."""

    nonce: int
    error: str | None


Command = Start | Load | Unload | Encode | Cancel | Ping | ProbeNetwork
Report = Ready | StartRefused | Loading | Loaded | LoadRefused | Encoded | EncodeRefused | Pong | Probed

_encoder = msgspec.msgpack.Encoder()
_command_decoder = msgspec.msgpack.Decoder(Command)
_report_decoder = msgspec.msgpack.Decoder(Report)


def encode_frame(message: msgspec.Struct, bytes_max: int) -> bytes:
    """The message with its length in front. Raises `ProtocolError` when it is longer than `bytes_max`."""
    body = _encoder.encode(message)
    if len(body) > bytes_max:
        raise ProtocolError(f"a {type(message).__name__} message has {len(body)} bytes, the most is {bytes_max}")
    return LENGTH.pack(len(body)) + body


def wire_bytes(message: msgspec.Struct) -> int:
    """Length of the message without its prefix."""
    return len(_encoder.encode(message))


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


def frame_length(prefix: bytes | bytearray, bytes_max: int) -> int:
    """Length of the body that follows a prefix. Raises `ProtocolError` when it is over the bound."""
    (length,) = LENGTH.unpack(prefix)
    if length > bytes_max:
        raise ProtocolError(f"a frame announces {length} bytes, the most is {bytes_max}")
    return int(length)


def pack_array(values: np.ndarray) -> Array:
    """float32 array to message."""
    return Array(shape=tuple(values.shape), data=np.ascontiguousarray(values, dtype="<f4").tobytes())


def unpack_array(array: Array) -> np.ndarray:
    """Message to a read-only float32 array. Raises `ProtocolError` when shape and bytes disagree."""
    expected = 4
    for extent in array.shape:
        if extent < 0:
            raise ProtocolError("an array has a negative extent")
        expected *= extent
    if expected != len(array.data):
        raise ProtocolError(f"an array of shape {array.shape} needs {expected} bytes and has {len(array.data)}")
    return np.frombuffer(array.data, dtype="<f4").reshape(array.shape)


def pack_head(head: Head) -> HeadArrays:
    """`types.Head` to message."""
    return HeadArrays(
        kind=head.kind,
        feature_count=head.feature_count,
        conv_weight=None if head.conv_weight is None else pack_array(head.conv_weight),
        conv_bias=None if head.conv_bias is None else pack_array(head.conv_bias),
        out_weight=None if head.out_weight is None else pack_array(head.out_weight),
        out_bias=None if head.out_bias is None else pack_array(head.out_bias),
    )


def unpack_head(arrays: HeadArrays) -> Head:
    """Message to `types.Head`."""
    return Head(
        kind=arrays.kind,
        feature_count=arrays.feature_count,
        conv_weight=None if arrays.conv_weight is None else unpack_array(arrays.conv_weight),
        conv_bias=None if arrays.conv_bias is None else unpack_array(arrays.conv_bias),
        out_weight=None if arrays.out_weight is None else unpack_array(arrays.out_weight),
        out_bias=None if arrays.out_bias is None else unpack_array(arrays.out_bias),
    )


class WorkerChannel:
    """The worker's end of the socket: blocking, one thread. The server's end is asyncio, in `worker_process.py`."""

    def __init__(
        self,
        connection: socket.socket,
        bytes_max: int,
        decode: Callable[[bytearray], Any] = decode_command,
    ) -> None:
        self._connection = connection
        self._bytes_max = bytes_max
        self._decode = decode

    def send(self, report: msgspec.Struct) -> None:
        """Blocks until the kernel has it. Raises `OSError` when the server is gone."""
        self._connection.sendall(encode_frame(report, self._bytes_max))

    def fileno(self) -> int:
        """For waiting on it together with other things."""
        return self._connection.fileno()

    def receive(self, *, wait: bool) -> Any:
        """The next command. Without `wait`, None when none has begun to arrive.

        Raises `EOFError` when the server closed its end: for a worker that is the order to stop.
        """
        if not wait and not select.select((self._connection,), (), (), 0)[0]:
            return None
        length = frame_length(self._exactly(LENGTH.size), self._bytes_max)
        return self._decode(self._exactly(length))

    def _exactly(self, count: int) -> bytearray:
        body = bytearray(count)
        view = memoryview(body)
        filled = 0
        while filled < count:
            read = self._connection.recv_into(view[filled:])
            if read == 0:
                raise EOFError("the server closed the connection")
            filled += read
        return body
