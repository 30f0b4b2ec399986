"""A submitter as plain as can be: one blocking socket, one record at a time, and only what the protocol says.

places, note = submit(start, 5, control)      # control: the socket on which the sequencer gets its start message
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

from appliance.audit import protocol
from appliance.audit.protocol import Append, Committed, Hello, Refused, Start
from tests.audit.faults.driver import sealed

_READ_BYTES = 65536


def submit(start: Start, records: int, control: socket.socket, first: int = 0) -> tuple[dict[bytes, int], str | None]:
    """Start the sequencer behind `control` and append records until it is gone; returns what it acknowledged."""
    places: dict[bytes, int] = {}
    note = None
    answers = _answers(control, start.frame_bytes_max)
    try:
        control.sendall(protocol.encode(start))
        if isinstance(next(answers), Hello):
            for number in range(first, first + records):
                control.sendall(protocol.encode(Append(number + 1, sealed(number))))
                answer = next(answers)
                if not isinstance(answer, Committed):
                    break
                places |= {entry.record_id: entry.seq for entry in answer.entries}
                note = answer.checkpoint
    except (OSError, StopIteration):
        return places, note  # it is gone: what it did not say, it did not acknowledge
    return places, note


def _answers(control: socket.socket, frame_bytes_max: int) -> Iterator[protocol.Answer]:
    frames = protocol.FrameBuffer(frame_bytes_max)
    while received := control.recv(_READ_BYTES):
        for body in frames.feed(received):
            answer = protocol.decode_answer(body)
            yield answer
            if isinstance(answer, Refused):
                return
